//! The page checksums of a block, and a bounded cache of them.
//!
//! A block's table lies in its record's head: 4 bytes for each page of 16 KiB, so 1 KiB for 4 MiB, 256 MiB for each TiB of blocks.
//! Keeping all of them in RAM is too much and reading the head each time costs a second I/O, hence this cache. A whole block is
//! read with its head in one I/O and needs no table at hand.

use std::sync::Arc;

use foyer_memory::{Cache, CacheBuilder, S3FifoConfig};
use shoal_types::{BlockId, PageTable};

use super::index::{IdHashBuilder, Location};

/// Tables of recently used large blocks.
pub(crate) struct Tables(Cache<BlockId, (Location, Arc<PageTable>), IdHashBuilder>);

impl Tables {
    /// A cache of at most `bytes`.
    pub(crate) fn new(bytes: u64) -> Tables {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let weighter = |_: &BlockId, (_, table): &(Location, Arc<PageTable>)| ENTRY_BYTES + 4 * table.crcs().len();
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
    fn a_table_of_a_block_that_moved_is_not_given() {
        let tables = Tables::new(1 << 20);
        let at = Location { dir: 0, segment: 1, generation: 5, start: 64, data_off: 4096, len: 1 << 20 };
        tables.put(BlockId([1; 16]), at, Arc::new(PageTable::of(&[0; 5000], 4096)));
        assert!(tables.get(BlockId([1; 16]), at).is_some());
        assert!(tables.get(BlockId([1; 16]), Location { generation: 6, ..at }).is_none());
    }
}
