//! The RAM tier: recently stored and recently read whole blocks, within a byte limit.
//!
//! S3-FIFO: a block that is stored and never read again leaves early, so a scan does not wash out what is in use.

use bytes::Bytes;
use foyer_memory::{Cache, CacheBuilder, S3FifoConfig};
use shoal_types::{BlockId, BlockRange, MAX_BLOCK_BYTES, PageSums};

use crate::io::buffer::OWN_MAPPING_MIN;
use crate::nvme::index::IdHashBuilder;
use crate::sums::Sums;

/// Blocks in RAM.
pub(crate) struct RamTier {
    limit: u64,
    cache: Option<Cache<BlockId, Held, IdHashBuilder>>,
}

/// A block and the bytes of memory it keeps alive.
struct Held {
    block: Resident,
    weight: usize,
}

/// A whole block in RAM, and its checksums once they are known.
#[derive(Debug, Clone)]
pub(crate) struct Resident {
    pub(crate) bytes: Bytes,
    pub(crate) sums: Sums,
    /// When the block was stored first: Unix time in seconds.
    pub(crate) written: u32,
}

impl Resident {
    /// `range` of the block, with the checksums that go with it.
    pub(crate) fn cut(&self, range: BlockRange) -> (Bytes, Option<PageSums>) {
        let range = range.clamp(self.bytes.len() as u32);
        (self.bytes.slice(range.start as usize..range.end as usize), self.sums.from(range.start))
    }
}

/// What an entry costs besides its bytes: key, handles, links; an estimate.
const ENTRY_BYTES: usize = 200;

/// Blocks below this size are copied: their `Bytes` may be a slice that keeps a much larger buffer alive, such as 2 MiB of the pool.
const COPIED_BELOW: usize = OWN_MAPPING_MIN;

/// A page has a checksum of 4 bytes; the smallest pages count.
const BYTES_PER_SUM: usize = 1024;

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

    /// The block, whole.
    pub(crate) fn get(&self, id: BlockId) -> Option<Resident> {
        Some(self.cache.as_ref()?.get(&id)?.value().block.clone())
    }

    /// Whether the block is there; does not count as a use.
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.contains(&id))
    }

    /// Forgets a block.
    pub(crate) fn remove(&self, id: BlockId) {
        if let Some(cache) = &self.cache {
            cache.remove(&id);
        }
    }

    /// Keeps a block whose bytes keep `memory` bytes alive.
    pub(crate) fn put(&self, id: BlockId, Resident { bytes, sums, written }: Resident, memory: usize) {
        let Some(cache) = &self.cache else { return };
        let held = if bytes.len() < COPIED_BELOW {
            let bytes = Bytes::copy_from_slice(&bytes);
            Held { weight: bytes.len() + ENTRY_BYTES, block: Resident { bytes, sums, written } }
        } else {
            let weight = memory.max(bytes.len()) + bytes.len() / BYTES_PER_SUM + ENTRY_BYTES;
            Held { weight, block: Resident { bytes, sums, written } }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn block(bytes: impl Into<Bytes>) -> Resident {
        Resident { bytes: bytes.into(), sums: Sums::default(), written: 0 }
    }

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
            ram.put(id(n), block(vec![n as u8; len]), len);
            assert!(ram.used() <= 1 << 20, "after {n}: {}", ram.used());
        }
        assert!(ram.used() > 256 << 10);
    }

    #[test]
    fn a_block_stays_until_others_need_its_place() {
        let ram = RamTier::new(1 << 20);
        ram.put(id(1), block(&b"hello"[..]), 5);
        assert_eq!(ram.get(id(1)).unwrap().cut(BlockRange::new(1, 3)).0, "ell");
        assert!(ram.contains(id(1)) && !ram.contains(id(2)));
        ram.put(id(2), block(vec![0; 3 << 20]), 3 << 20);
        assert!(ram.contains(id(1)) && !ram.contains(id(2)), "a block above the limit is not taken");
    }

    #[test]
    fn no_limit_keeps_nothing() {
        let ram = RamTier::new(0);
        ram.put(id(1), block(&b"hello"[..]), 5);
        assert!(ram.get(id(1)).is_none() && ram.used() == 0);
    }
}
