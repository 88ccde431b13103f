//! Deleting blocks of slices that metadata names no more.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use shoal_format::Layout;
use shoal_meta::{MetaError, SliceStore};
use shoal_object::TierStores;

use crate::open::Volume;

/// Objects of one slice that are deleted at once: a slice has up to a thousand.
const DELETES_AT_ONCE: usize = 8;

/// Where a volume's blocks are, to delete them.
#[derive(Debug)]
struct StoredSlices {
    tiers: TierStores,
    layout: Layout,
}

impl Volume {
    /// What deletes the volume's blocks, for [`Session::start_jobs`](shoal_meta::Session::start_jobs).
    pub fn slices(&self) -> Arc<dyn SliceStore> {
        Arc::new(StoredSlices { tiers: self.tiers.clone(), layout: self.layout.clone() })
    }
}

#[async_trait]
impl SliceStore for StoredSlices {
    async fn sync(&self) -> Result<(), MetaError> {
        self.tiers.sync().await.map_err(|error| MetaError::Unsynced { detail: error.to_string(), kind: error.kind() })
    }

    async fn delete_slice(&self, id: u64, size: u32) -> Result<(), MetaError> {
        let keys: Vec<String> = self.layout.blocks(id, size).map(|block| block.object).collect();
        let deletes: Vec<_> = keys.iter().map(|key| self.tiers.of(0).delete(key)).collect();
        let done = futures::stream::iter(deletes).buffer_unordered(DELETES_AT_ONCE).try_collect::<()>().await;
        done.map_err(|error| MetaError::Blocks { slice: id, detail: error.to_string(), kind: error.kind() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use shoal_object::{ObjectStore, memory};

    use super::*;

    #[tokio::test]
    async fn every_block_of_the_slice_goes_and_no_other() {
        let layout = Layout { name: "vol".into(), block_size: 1 << 16, hash_prefix: false, shards: 0 };
        let objects: Arc<dyn ObjectStore> = memory();
        for (id, size) in [(7, 150_000), (8, 70_000)] {
            for block in layout.blocks(id, size) {
                objects.put(&block.object, Bytes::from(vec![1; block.len as usize])).await.unwrap();
            }
        }
        let slices = StoredSlices { tiers: TierStores::new(objects.clone(), BTreeMap::new()), layout };
        slices.delete_slice(7, 150_000).await.unwrap();
        // What is gone counts as deleted.
        slices.delete_slice(7, 150_000).await.unwrap();
        let left = objects.list("", None, 10).await.unwrap();
        let keys: Vec<&str> = left.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["vol/chunks/0/0/8_0_65536", "vol/chunks/0/0/8_1_4464"]);
    }
}
