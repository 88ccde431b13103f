//! The page checksums of a block, and a bounded cache of them.
//!
//! A block's table lies in its record's head: 4 bytes for each page of 16 KiB, so 1 KiB for 4 MiB, 256 MiB for each TiB of blocks.
//! Keeping all of them in RAM is too much and reading the head each time costs a second I/O, hence this cache. A whole block is
//! read with its head in one I/O and needs no table at hand.

use std::sync::Arc;

use foyer_memory::{Cache, CacheBuilder, S3FifoConfig};
use shoal_types::BlockId;
use shoal_types::checksum::crc32c;

use super::index::{IdHashBuilder, Location};

/// CRC-32C of each page of one block; the last page may be short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageTable {
    pub(crate) page_bytes: u32,
    pub(crate) crcs: Box<[u32]>,
}

impl PageTable {
    /// Whether `bytes`, which start at page `first` and end at a page's or the block's end, are what was stored.
    pub(crate) fn matches(&self, first: u32, bytes: &[u8]) -> bool {
        let Some(crcs) = self.crcs.get(first as usize..) else { return false };
        let pages = bytes.chunks(self.page_bytes as usize);
        pages.len() <= crcs.len() && pages.zip(crcs).all(|(page, &stored)| crc32c(page) == stored)
    }
}

/// Tables of recently used large blocks.
pub(crate) struct Tables(Cache<BlockId, (Location, Arc<PageTable>), IdHashBuilder>);

impl Tables {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Tables {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let weighter = |_: &BlockId, (_, table): &(Location, Arc<PageTable>)| ENTRY_BYTES + 4 * table.crcs.len();
        let cache = CacheBuilder::new(bytes)
            .with_shards(SHARDS)
            .with_eviction_config(S3FifoConfig::default())
            .with_hash_builder(IdHashBuilder)
            .with_weighter(weighter)
            .with_filter(move |id, value| weighter(id, value) <= bytes / SHARDS)
            .build();
        Tables(cache)
    }

    /// The table of the block that lies at `at`, if it is at hand.
    pub(crate) fn get(&self, id: BlockId, at: Location) -> Option<Arc<PageTable>> {
        let entry = self.0.get(&id)?;
        let (of, table) = entry.value();
        (*of == at).then(|| Arc::clone(table))
    }

    /// Keeps the table of the block at `at` for the next read of it.
    pub(crate) fn put(&self, id: BlockId, at: Location, table: Arc<PageTable>) {
        self.0.insert(id, (at, table));
    }
}

const SHARDS: usize = 8;
/// What an entry costs besides its checksums, an estimate: key, location, two `Arc`s, links.
const ENTRY_BYTES: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_matches_only_the_bytes_it_was_made_of() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i as u8).collect();
        let table = PageTable { page_bytes: 4096, crcs: bytes.chunks(4096).map(crc32c).collect() };
        assert!(table.matches(0, &bytes) && table.matches(1, &bytes[4096..]) && table.matches(1, &bytes[4096..8192]));
        assert!(!table.matches(0, &bytes[4096..]));
        assert!(!table.matches(0, &[bytes.clone(), vec![0; 4096]].concat()), "more pages than the table has");
        assert!(!table.matches(4, &bytes));
        let mut flipped = bytes.clone();
        flipped[9_999] ^= 1;
        assert!(!table.matches(0, &flipped) && table.matches(0, &flipped[..8192]));
    }

    #[test]
    fn a_table_of_a_block_that_moved_is_not_given() {
        let tables = Tables::new(1 << 20);
        let at = Location { dir: 0, segment: 1, generation: 5, start: 64, data_off: 4096, len: 1 << 20 };
        tables.put(BlockId([1; 16]), at, Arc::new(PageTable { page_bytes: 4096, crcs: Box::new([1, 2]) }));
        assert!(tables.get(BlockId([1; 16]), at).is_some());
        assert!(tables.get(BlockId([1; 16]), Location { generation: 6, ..at }).is_none());
    }
}
