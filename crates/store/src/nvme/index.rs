//! Where each block lies: the one index over all directories, in RAM, rebuilt at start.
//!
//! 45 bytes in a hash table that is half to seven eighths full, so 50-100 bytes for each block, and 16 more in the list of its segment:
//! about 25 MiB for a TiB of 4 MiB blocks (computed). A TiB of 4 KiB blocks would take 25 GiB: give such a node a smaller directory.
//! Keyed by the 128-bit block id, a BLAKE3 hash, whose bytes serve as hash values as they are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use shoal_types::BlockId;

/// Where a block's record is, and which writing of that segment it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    /// Number of the directory.
    pub(crate) dir: u16,
    /// Number of the segment in it.
    pub(crate) segment: u32,
    /// Low bits of the segment's sequence number when the record was written.
    pub(crate) generation: u32,
    /// First byte of the record, from the segment's start.
    pub(crate) start: u32,
    /// First byte of the data, from the record's start.
    pub(crate) data_off: u32,
    /// Bytes in the block.
    pub(crate) len: u32,
}

impl Location {
    /// Bytes of the segment the record takes.
    pub(crate) fn footprint(&self) -> u64 {
        u64::from(self.data_off) + u64::from(self.len)
    }
}

#[derive(Debug)]
struct Slot {
    at: Location,
    /// Lookups for reading since the block came, saturating.
    hits: u8,
}

type Shard = HashMap<BlockId, Slot, IdHashBuilder>;

/// Bytes and blocks of one directory.
#[derive(Debug, Default)]
struct Usage {
    bytes: AtomicU64,
    blocks: AtomicU64,
}

/// Block id to location, with what each directory holds.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Box<[Mutex<Shard>]>,
    usage: Box<[Usage]>,
}

const SHARDS: usize = 64;

impl Index {
    /// An empty index over `dirs` directories.
    pub(crate) fn new(dirs: usize) -> Index {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Index { shards, usage: (0..dirs).map(|_| Usage::default()).collect() }
    }

    fn shard(&self, id: BlockId) -> &Mutex<Shard> {
        &self.shards[id.0[0] as usize % SHARDS]
    }

    /// Whether there is a block.
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        self.shard(id).lock().contains_key(&id)
    }

    /// Where the block is, counting a hit, and how many there were with this one.
    pub(crate) fn hit(&self, id: BlockId) -> Option<(Location, u8)> {
        let mut shard = self.shard(id).lock();
        let slot = shard.get_mut(&id)?;
        slot.hits = slot.hits.saturating_add(1);
        Some((slot.at, slot.hits))
    }

    /// Makes the block known at `at`; an older place of it is forgotten.
    pub(crate) fn put(&self, id: BlockId, at: Location) {
        self.count(at, 1);
        let old = self.shard(id).lock().insert(id, Slot { at, hits: 0 });
        if let Some(old) = old {
            self.count(old.at, -1);
        }
    }

    /// Forgets the block if it lies where `stale` says.
    pub(crate) fn remove_if(&self, id: BlockId, stale: impl FnOnce(&Location) -> bool) -> bool {
        let removed = match self.shard(id).lock().entry(id) {
            Entry::Occupied(entry) if stale(&entry.get().at) => entry.remove().at,
            _ => return false,
        };
        self.count(removed, -1);
        true
    }

    /// Forgets everything in a directory; says how many blocks that was.
    pub(crate) fn remove_dir(&self, dir: u16) -> u64 {
        let mut removed = 0;
        for shard in &self.shards {
            shard.lock().retain(|_, slot| {
                let stays = slot.at.dir != dir;
                if !stays {
                    self.count(slot.at, -1);
                    removed += 1;
                }
                stays
            });
        }
        removed
    }

    /// Bytes of records and number of blocks in a directory.
    pub(crate) fn usage(&self, dir: u16) -> (u64, u64) {
        let usage = &self.usage[usize::from(dir)];
        (usage.bytes.load(Ordering::Relaxed), usage.blocks.load(Ordering::Relaxed))
    }

    /// Adds (`1`) or takes away (`-1`) one block; wrapping addition makes one path of both.
    fn count(&self, at: Location, sign: i64) {
        let usage = &self.usage[usize::from(at.dir)];
        let bytes = (at.footprint() as i64).wrapping_mul(sign);
        usage.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        usage.blocks.fetch_add(sign as u64, Ordering::Relaxed);
    }
}

/// Hashes ids by taking eight of their bytes: they are a cryptographic hash already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct IdHashBuilder;

/// The hasher of [`IdHashBuilder`]; keeps the last eight bytes written.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl BuildHasher for IdHashBuilder {
    type Hasher = IdHasher;
    fn build_hasher(&self) -> IdHasher {
        IdHasher::default()
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk::<8>() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    /// The length prefix of an array tells nothing.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: u16, segment: u32, len: u32) -> Location {
        Location { dir, segment, generation: 1, start: 0, data_off: 100, len }
    }

    #[test]
    fn usage_follows_every_change() {
        let index = Index::new(2);
        let (a, b) = (BlockId([1; 16]), BlockId([2; 16]));
        index.put(a, at(0, 1, 1000));
        index.put(b, at(1, 1, 50));
        assert_eq!((index.usage(0), index.usage(1)), ((1100, 1), (150, 1)));
        index.put(a, at(1, 2, 2000));
        assert_eq!((index.usage(0), index.usage(1)), ((0, 0), (2250, 2)));
        assert!(!index.remove_if(a, |at| at.segment == 1), "it lies elsewhere now");
        assert!(index.remove_if(b, |at| at.segment == 1) && !index.contains(b));
        assert_eq!(index.remove_dir(1), 1);
        assert_eq!((index.usage(1), index.hit(a)), ((0, 0), None));
    }

    #[test]
    fn hits_count_reads_and_start_anew_with_a_new_place() {
        let index = Index::new(1);
        let a = BlockId([1; 16]);
        index.put(a, at(0, 1, 1));
        assert_eq!(index.hit(a).map(|(_, hits)| hits), Some(1));
        assert_eq!(index.hit(a).map(|(_, hits)| hits), Some(2));
        index.put(a, at(0, 2, 1));
        assert_eq!(index.hit(a).map(|(_, hits)| hits), Some(1));
    }

    #[test]
    fn ids_that_differ_spread_over_hash_values() {
        let hash = |id: BlockId| IdHashBuilder.hash_one(id);
        assert_ne!(hash(BlockId(*b"0123456789abcdef")), hash(BlockId(*b"0123456789abcdeF")));
    }
}
