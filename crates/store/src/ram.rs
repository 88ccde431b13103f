//! The RAM tier: recently stored and recently read whole blocks, within a byte limit.
//!
//! S3-FIFO: a block that is stored and never read again leaves early, so a scan does not wash out what is in use.

use bytes::Bytes;
use foyer_memory::{Cache, CacheBuilder, S3FifoConfig};
use shoal_types::{BlockId, BlockRange, MAX_BLOCK_BYTES};

use crate::io::buffer::OWN_MAPPING_MIN;
use crate::nvme::index::IdHashBuilder;

/// Blocks in RAM.
pub(crate) struct RamTier {
    limit: u64,
    cache: Option<Cache<BlockId, Held, IdHashBuilder>>,
}

/// A block and the bytes of memory it keeps alive.
struct Held {
    bytes: Bytes,
    weight: usize,
}

/// What an entry costs besides its bytes: key, handles, links; an estimate.
const ENTRY_BYTES: usize = 200;

/// Blocks below this size are copied: their `Bytes` may be a slice that keeps a much larger buffer alive, such as 2 MiB of the pool.
const COPIED_BELOW: usize = OWN_MAPPING_MIN;

/// A shard holds at least this many of the largest blocks, or else eviction becomes coarse.
const BLOCKS_PER_SHARD: u64 = 8;
const SHARDS_MAX: u64 = 16;

impl RamTier {
    /// A tier of at most `limit` bytes; 0 keeps nothing.
    pub(crate) fn new(limit: u64) -> RamTier {
        let shards = (limit / (BLOCKS_PER_SHARD * u64::from(MAX_BLOCK_BYTES))).clamp(1, SHARDS_MAX) as usize;
        let bytes = usize::try_from(limit).unwrap_or(usize::MAX);
        let cache = (limit > 0).then(|| {
            CacheBuilder::new(bytes)
                .with_shards(shards)
                .with_eviction_config(S3FifoConfig::default())
                .with_hash_builder(IdHashBuilder)
                .with_weighter(|_, held: &Held| held.weight)
                // An entry larger than its shard would be kept above the limit.
                .with_filter(move |_, held| held.weight <= bytes / shards)
                .build()
        });
        RamTier { limit, cache }
    }

    /// The block's bytes, whole.
    pub(crate) fn get(&self, id: BlockId) -> Option<Bytes> {
        Some(self.cache.as_ref()?.get(&id)?.value().bytes.clone())
    }

    /// Whether the block is there; does not count as a use.
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.contains(&id))
    }

    /// Keeps a block whose bytes keep `memory` bytes alive.
    pub(crate) fn put(&self, id: BlockId, bytes: Bytes, memory: usize) {
        let Some(cache) = &self.cache else { return };
        let held = if bytes.len() < COPIED_BELOW {
            Held { weight: bytes.len() + ENTRY_BYTES, bytes: Bytes::copy_from_slice(&bytes) }
        } else {
            Held { weight: memory.max(bytes.len()) + ENTRY_BYTES, bytes }
        };
        cache.insert(id, held);
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.usage() as u64)
    }

    /// The most bytes it holds.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }
}

/// `range` of a whole block.
pub(crate) fn cut(block: &Bytes, range: BlockRange) -> Bytes {
    let range = range.clamp(block.len() as u32);
    block.slice(range.start as usize..range.end as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> BlockId {
        let mut id = [0; 16];
        id[8..12].copy_from_slice(&n.to_le_bytes());
        BlockId(id)
    }

    #[test]
    fn the_limit_holds_whatever_comes() {
        let ram = RamTier::new(1 << 20);
        for n in 0..2000 {
            let len = [100, 5000, 70_000, 300_000, 2 << 20][n as usize % 5];
            ram.put(id(n), Bytes::from(vec![n as u8; len]), len);
            assert!(ram.used() <= 1 << 20, "after {n}: {}", ram.used());
        }
        assert!(ram.used() > 256 << 10);
    }

    #[test]
    fn a_block_stays_until_others_need_its_place() {
        let ram = RamTier::new(1 << 20);
        ram.put(id(1), Bytes::from_static(b"hello"), 5);
        assert_eq!(cut(&ram.get(id(1)).unwrap(), BlockRange::new(1, 3)), "ell");
        assert!(ram.contains(id(1)) && !ram.contains(id(2)));
        ram.put(id(2), Bytes::from(vec![0; 3 << 20]), 3 << 20);
        assert!(ram.contains(id(1)) && !ram.contains(id(2)), "a block above the limit is not taken");
    }

    #[test]
    fn no_limit_keeps_nothing() {
        let ram = RamTier::new(0);
        ram.put(id(1), Bytes::from_static(b"hello"), 5);
        assert!(ram.get(id(1)).is_none() && ram.used() == 0);
    }
}
