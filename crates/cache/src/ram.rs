//! The client's first tier: plain bytes of blocks, whole or in windows, in memory.
//!
//! Least recently used goes first, so that what was fetched ahead outlives what was read long ago. (S3-FIFO and SIEVE, which
//! are faster, drop fresh entries nobody has asked for yet: exactly what read-ahead makes.)

use bytes::Bytes;
use foyer_memory::{Cache, CacheBuilder, LruConfig};
use shoal_types::{BlockId, BlockRange};

use crate::extent::WINDOW;
use crate::flight::join;

/// Bytes an entry costs beside its data: its record, key and place in two lists.
const ENTRY_BYTES: usize = 256;
/// Least bytes in a shard of the cache: sixty-four blocks of 4 MiB. The spread over shards is uneven by about the root of their
/// number, an eighth here; with 64 MiB shards a file two thirds of the memory's size lost blocks to it.
const SHARD_BYTES: u64 = 256 << 20;
/// Shards at most: enough for as many threads to hit at once.
const SHARDS_MAX: u64 = 16;
/// Number of the entry that is the whole block; no window has it.
const WHOLE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    block: BlockId,
    window: u32,
}

/// Plain bytes in memory, bounded.
#[derive(Debug)]
pub(crate) struct Ram {
    cache: Cache<Slot, Bytes>,
    /// Largest entry that is kept, in bytes.
    largest: u64,
}

impl Ram {
    /// Room for `bytes`, the cost of entries included.
    pub(crate) fn new(bytes: u64) -> Ram {
        let shards = (bytes / SHARD_BYTES).clamp(1, SHARDS_MAX);
        let cache = CacheBuilder::new(usize::try_from(bytes).unwrap_or(usize::MAX))
            .with_name("shoal-client")
            .with_shards(shards as usize)
            .with_eviction_config(LruConfig::default())
            .with_weighter(|_, value: &Bytes| value.len() + ENTRY_BYTES)
            .build();
        Ram { cache, largest: (bytes / shards).saturating_sub(ENTRY_BYTES as u64) }
    }

    /// Bytes held, the cost of entries included.
    pub(crate) fn used(&self) -> u64 {
        self.cache.usage() as u64
    }

    /// True if an entry of `len` bytes would be kept.
    pub(crate) fn fits(&self, len: u32) -> bool {
        u64::from(len) <= self.largest
    }

    /// True if the whole block is here. Counts as no use of it.
    pub(crate) fn has_whole(&self, block: BlockId) -> bool {
        self.cache.contains(&Slot { block, window: WHOLE })
    }

    /// True if the window that ends where `at`'s begins is here.
    pub(crate) fn has_window_before(&self, block: BlockId, at: u32) -> bool {
        (at / WINDOW).checked_sub(1).is_some_and(|window| self.cache.contains(&Slot { block, window }))
    }

    /// Bytes `range` (not empty, in the block) if one entry has them all. Takes a shard's lock and allocates nothing.
    pub(crate) fn get(&self, block: BlockId, range: BlockRange) -> Option<Bytes> {
        if let Some(whole) = self.cache.get(&Slot { block, window: WHOLE }) {
            return part(whole.value(), range, 0);
        }
        let window = range.start / WINDOW;
        if (range.end - 1) / WINDOW != window {
            return None;
        }
        part(self.cache.get(&Slot { block, window })?.value(), range, window * WINDOW)
    }

    /// Like [`Ram::get`], also from several windows; those are copied together.
    pub(crate) fn gather(&self, block: BlockId, range: BlockRange) -> Option<Bytes> {
        if let Some(bytes) = self.get(block, range) {
            return Some(bytes);
        }
        let (first, last) = (range.start / WINDOW, (range.end - 1) / WINDOW);
        if first == last {
            return None;
        }
        let in_window = |window: u32| {
            let base = window * WINDOW;
            let touched = BlockRange { start: range.start.max(base), end: range.end.min(base.saturating_add(WINDOW)) };
            part(self.cache.get(&Slot { block, window })?.value(), touched, base)
        };
        let parts: Option<Vec<Bytes>> = (first..=last).map(in_window).collect();
        Some(join(&parts?))
    }

    /// Keeps a whole block, unless it is larger than [`Ram::fits`] allows.
    pub(crate) fn put_whole(&self, block: BlockId, plain: Bytes) {
        if self.fits(plain.len() as u32) {
            self.cache.insert(Slot { block, window: WHOLE }, plain);
        }
    }

    /// Keeps the windows that `bytes` is made of; `start` is a multiple of a window. Each has memory of its own, so that one that
    /// stays holds no more than its own bytes; `bytes` must have that too.
    pub(crate) fn put_windows(&self, block: BlockId, start: u32, bytes: &Bytes) {
        let alone = bytes.len() <= WINDOW as usize;
        for (i, chunk) in bytes.chunks(WINDOW as usize).enumerate() {
            if self.fits(chunk.len() as u32) {
                let window = start / WINDOW + i as u32;
                let kept = if alone { bytes.clone() } else { Bytes::copy_from_slice(chunk) };
                self.cache.insert(Slot { block, window }, kept);
            }
        }
    }
}

/// Bytes `range` of the block, of which `entry` starts at `base`; `None` if it ends before that, as it may for a caller that
/// believes the block longer than who brought it here.
fn part(entry: &Bytes, range: BlockRange, base: u32) -> Option<Bytes> {
    let (start, end) = ((range.start - base) as usize, (range.end - base) as usize);
    (end <= entry.len()).then(|| entry.slice(start..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: BlockId = BlockId([7; 16]);

    fn data(len: u32) -> Bytes {
        (0..len).map(|i| (i / 251 + i) as u8).collect()
    }

    fn cut(data: &Bytes, range: BlockRange) -> Bytes {
        data.slice(range.start as usize..range.end as usize)
    }

    #[test]
    fn whole_blocks_give_any_range() {
        let (ram, data) = (Ram::new(64 << 20), data(1 << 20));
        assert!(ram.get(BLOCK, BlockRange::new(0, 1)).is_none());
        ram.put_whole(BLOCK, data.clone());
        assert!(ram.has_whole(BLOCK));
        for range in [BlockRange::new(0, 1), BlockRange::new(70_000, 200_000), BlockRange::new(0, 1 << 20)] {
            assert_eq!(ram.get(BLOCK, range).unwrap(), cut(&data, range));
        }
        assert!(ram.get(BLOCK, BlockRange::new((1 << 20) - 1, 2)).is_none());
    }

    #[test]
    fn windows_give_what_they_hold_and_no_more() {
        let (ram, data) = (Ram::new(64 << 20), data(4 * WINDOW + 100));
        let held = BlockRange { start: 2 * WINDOW, end: 4 * WINDOW + 100 };
        ram.put_windows(BLOCK, held.start, &cut(&data, held));
        assert!(!ram.has_whole(BLOCK));
        assert!(ram.has_window_before(BLOCK, 3 * WINDOW + 1) && !ram.has_window_before(BLOCK, 2 * WINDOW));
        assert!(!ram.has_window_before(BLOCK, 0));
        let inside = BlockRange::new(3 * WINDOW + 7, 90);
        assert_eq!(ram.get(BLOCK, inside).unwrap(), cut(&data, inside));
        let across = BlockRange { start: 2 * WINDOW + 5, end: 4 * WINDOW + 99 };
        assert!(ram.get(BLOCK, across).is_none());
        assert_eq!(ram.gather(BLOCK, across).unwrap(), cut(&data, across));
        assert!(ram.gather(BLOCK, BlockRange::new(2 * WINDOW - 1, 2)).is_none());
    }

    #[test]
    fn memory_stays_within_its_bound() {
        let ram = Ram::new(1 << 20);
        ram.put_whole(BLOCK, data(2 << 20));
        assert!(!ram.has_whole(BLOCK), "a block larger than the cache is not kept");
        for i in 0..64 {
            ram.put_whole(BlockId([i; 16]), data(100_000));
            assert!(ram.used() <= 1 << 20);
        }
        assert!(ram.has_whole(BlockId([63; 16])) && !ram.has_whole(BlockId([0; 16])));
        let none = Ram::new(0);
        none.put_whole(BLOCK, data(10));
        none.put_windows(BLOCK, 0, &data(10));
        assert_eq!(none.used(), 0);
    }
}
