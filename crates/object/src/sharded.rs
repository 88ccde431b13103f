//! Several stores as one (volume format 3.3): each key lives in the store a function picks, lists are merged.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore};

/// Picks the index of the store that holds a full key; must always pick the same one for the same key.
type Pick = Arc<dyn Fn(&str) -> usize + Send + Sync>;

/// `stores` as one store; `pick` maps a full key to an index into `stores`.
///
/// An index beyond the last store is an error of the call that met it, never another store's object.
pub fn sharded(stores: Vec<Arc<dyn ObjectStore>>, pick: Pick) -> Arc<dyn ObjectStore> {
    Arc::new(ShardedStore { stores, pick })
}

struct ShardedStore {
    stores: Vec<Arc<dyn ObjectStore>>,
    pick: Pick,
}

impl ShardedStore {
    fn store_of(&self, key: &str) -> Result<&Arc<dyn ObjectStore>, ObjectError> {
        let picked = self.stores.get((self.pick)(key));
        picked.ok_or_else(|| ObjectError::Key { key: key.to_owned(), why: "its shard is beyond the last one" })
    }
}

#[async_trait]
impl ObjectStore for ShardedStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        self.store_of(key)?.get(key, range, if_match).await
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        self.store_of(key)?.put(key, data).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        try_join_all(self.stores.iter().map(|store| store.sync())).await.map(|_| ())
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.store_of(key)?.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.store_of(key)?.delete(key).await
    }

    /// Asks every store for `limit` keys: the first `limit` of all are among them.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        let pages = try_join_all(self.stores.iter().map(|store| store.list(prefix, after, limit))).await?;
        let mut merged: Vec<_> = pages.into_iter().flatten().collect();
        merged.sort_by(|a, b| a.key.cmp(&b.key));
        merged.truncate(limit);
        Ok(merged)
    }

    fn name(&self) -> String {
        match self.stores.first() {
            Some(first) => format!("{} shards from {} on", self.stores.len(), first.name()),
            None => "no shards".to_owned(),
        }
    }
}

impl fmt::Debug for ShardedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedStore").field("stores", &self.stores).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::memory;

    use super::*;

    fn by_length(count: usize) -> (Vec<Arc<dyn ObjectStore>>, Arc<dyn ObjectStore>) {
        let stores: Vec<_> = (0..count).map(|_| memory()).collect();
        (stores.clone(), sharded(stores, Arc::new(move |key| key.len() % 3)))
    }

    #[tokio::test]
    async fn each_key_lives_in_the_picked_store_only() {
        let (stores, all) = by_length(3);
        all.put("four", Bytes::from_static(b"4")).await.unwrap();
        assert_eq!(stores[1].head("four").await.unwrap().len, 1);
        assert!(stores[0].head("four").await.is_err() && stores[2].head("four").await.is_err());
        assert_eq!(all.get("four", None, None).await.unwrap().collect(9).await.unwrap(), "4");
        all.delete("four").await.unwrap();
        assert!(all.head("four").await.is_err());
    }

    #[tokio::test]
    async fn lists_are_merged_in_key_order_page_by_page() {
        let (_, all) = by_length(3);
        let keys = ["a", "aa", "aaa", "b", "bb", "bbb", "c", "cc"];
        for key in keys {
            all.put(key, Bytes::new()).await.unwrap();
        }
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = all.list("", after.as_deref(), 3).await.unwrap();
            seen.extend(page.iter().map(|entry| entry.key.clone()));
            if page.len() < 3 {
                break;
            }
            after = seen.last().cloned();
        }
        assert_eq!(seen, keys);
    }

    #[tokio::test]
    async fn a_pick_beyond_the_last_store_is_an_error() {
        let (_, all) = by_length(1);
        assert!(all.head("four").await.is_err());
    }
}
