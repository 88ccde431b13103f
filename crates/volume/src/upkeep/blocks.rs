//! The volume's blocks: as its metadata names them, and as its object store lists them.

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use shoal_format::Layout;
use shoal_meta::{ChunkSlices, Meta};
use shoal_object::{ObjectEntry, ObjectError, ObjectStore};

use super::slice_map::SliceMap;
use crate::error::VolumeError;
use crate::open::Volume;

/// Chunk lists read at once.
const LISTS_PAGE: usize = 1000;
/// Objects listed at once; S3 gives no more.
const OBJECTS_PAGE: usize = 1000;
/// Parts of the key space that are listed at the same time.
const LISTINGS_AT_ONCE: usize = 10;

/// Calls `each` with every chunk list, those of deleted files included.
pub(super) async fn each_list(meta: &Meta, mut each: impl FnMut(&ChunkSlices)) -> Result<(), VolumeError> {
    let mut from = Bytes::new();
    loop {
        let page = meta.scans().scan_chunks(&from, LISTS_PAGE).await?;
        page.records.iter().for_each(&mut each);
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}

/// The slices that chunk lists name, with their sizes, and the sum of those.
pub(super) async fn named_slices(meta: &Meta) -> Result<(SliceMap, u64), VolumeError> {
    let (mut slices, mut bytes) = (SliceMap::default(), 0);
    each_list(meta, |list| {
        for record in list.slices.iter().filter(|record| record.id != 0) {
            if slices.insert(record.id, record.size) {
                bytes += u64::from(record.size);
            }
        }
    })
    .await?;
    Ok((slices, bytes))
}

/// The slices that wait, having been compacted, with their sizes; and the number and bytes of those that are not in `named`.
pub(super) async fn delayed_slices(meta: &Meta, named: &SliceMap) -> Result<(SliceMap, u64, u64), VolumeError> {
    let (mut slices, mut count, mut bytes, mut from) = (SliceMap::default(), 0, 0, Bytes::new());
    loop {
        let page = meta.scans().scan_delayed(&from, LISTS_PAGE).await?;
        for (slice, size) in page.records.iter().flat_map(|record| &record.slices) {
            if slices.insert(*slice, *size) && named.get(*slice) == 0 {
                count += 1;
                bytes += u64::from(*size);
            }
        }
        match page.next {
            Some(next) => from = next,
            None => return Ok((slices, count, bytes)),
        }
    }
}

/// A block's object as the store lists it.
pub(super) struct Listed {
    pub(super) slice: u64,
    pub(super) index: u32,
    /// Plain bytes, by its key.
    pub(super) len: u32,
    pub(super) entry: ObjectEntry,
}

/// Every object below the prefix of blocks whose key is a block's, page by page, in no order. Others are passed over.
pub(super) fn listed(volume: &Volume) -> BoxStream<'_, Result<Vec<Listed>, ObjectError>> {
    let layout = &volume.layout;
    let pages = stream::iter(prefixes(layout)).map(|prefix| pages(&*volume.objects, prefix));
    pages
        .flatten_unordered(LISTINGS_AT_ONCE)
        .map_ok(|page| {
            let block = |entry: ObjectEntry| {
                let (slice, index, len) = layout.parse_key(&entry.key)?;
                Some(Listed { slice, index, len, entry })
            };
            page.into_iter().filter_map(block).collect()
        })
        .boxed()
}

/// Prefixes that part the key space of blocks: by its 256 parts, or by the first digits of slice ids.
fn prefixes(layout: &Layout) -> Vec<String> {
    let blocks = layout.blocks_prefix();
    match layout.hash_prefix {
        true => (0..=255u8).map(|part| format!("{blocks}{part:02X}/")).collect(),
        false => {
            let small = (0..10).map(|digit| format!("{blocks}0/{digit}"));
            small.chain((1..10).map(|digit| format!("{blocks}{digit}"))).collect()
        }
    }
}

fn pages(objects: &dyn ObjectStore, prefix: String) -> BoxStream<'_, Result<Vec<ObjectEntry>, ObjectError>> {
    let next = move |state: Option<(String, Option<String>)>| async move {
        let Some((prefix, after)) = state else { return Ok(None) };
        let page = objects.list(&prefix, after.as_deref(), OBJECTS_PAGE).await?;
        let last = page.last().filter(|_| page.len() == OBJECTS_PAGE).map(|entry| entry.key.clone());
        let rest = last.map(|last| (prefix, Some(last)));
        Ok(Some((page, rest)))
    };
    stream::try_unfold(Some((prefix, None)), next).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_part_the_keys() {
        for hash_prefix in [false, true] {
            let layout = Layout { name: "v".into(), block_size: 100, hash_prefix, shards: 0 };
            let prefixes = prefixes(&layout);
            for slice in [1, 9, 10, 999, 1000, 1999, 10_000, 123_456, 999_999, 1_000_000, 23_456_789, 9_876_543_210] {
                let key = layout.object_key(slice, 0, 5);
                let found = prefixes.iter().filter(|prefix| key.starts_with(*prefix)).count();
                assert_eq!(found, 1, "{key}");
            }
        }
    }
}
