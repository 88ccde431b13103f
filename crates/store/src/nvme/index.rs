//! Where each block lies: the one index over all directories, in RAM, rebuilt at start.
//!
//! An entry takes 32 bytes in an arena, and its number 5 in a hash table that is seven sixteenths to seven eighths full: 38 to 44 bytes a block,
//! and 16 more in the list of its segment. A TiB of 4 MiB blocks takes 15 MiB, a TiB of 4 KiB blocks 15 GiB: give such a node a smaller
//! directory. Keyed by the 128-bit block id, a BLAKE3 hash, whose bytes serve as hash values as they are.

use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use parking_lot::Mutex;
use shoal_types::BlockId;

use super::layout::GRAIN;
use crate::config::HITS_MAX;

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

/// A block's location and its lookups, in 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Packed(u128);

/// Data starts at a multiple of so many bytes of its record.
const DATA_GRAIN: u32 = 8;

/// Bits of each field, lowest first: directory, segment, generation, start in grains, offset of the data in its grains, length, hits. Enough for
/// 256 directories of a million segments of 2 GiB, heads of 32 KiB and blocks of 16 MiB.
const BITS: [u32; 7] = [8, 20, 32, 25, 13, 25, 5];

const _: () = assert!(HITS_MAX < 1 << BITS[6], "hits fit their bits");

impl Packed {
    fn new(at: Location, hits: u8) -> Packed {
        let Location { dir, segment, generation, start, data_off, len } = at;
        debug_assert!(start.is_multiple_of(GRAIN) && data_off.is_multiple_of(DATA_GRAIN), "{at:?}");
        let fields = [dir.into(), segment, generation, start / GRAIN, data_off / DATA_GRAIN, len, hits.into()];
        let mut packed = 0;
        let mut shift = 0;
        for (field, bits) in fields.into_iter().zip(BITS) {
            debug_assert!(u64::from(field) < 1 << bits, "{at:?}");
            packed |= u128::from(field) << shift;
            shift += bits;
        }
        Packed(packed)
    }

    fn location(self) -> Location {
        let [dir, segment, generation, start, data_off, len, _] = self.fields();
        let (start, data_off) = (start * GRAIN, data_off * DATA_GRAIN);
        Location { dir: dir as u16, segment, generation, start, data_off, len }
    }

    fn hits(self) -> u8 {
        self.fields()[6] as u8
    }

    fn fields(self) -> [u32; 7] {
        let mut rest = self.0;
        BITS.map(|bits| {
            let field = rest as u64 & ((1 << bits) - 1);
            rest >>= bits;
            field as u32
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: BlockId,
    /// Of a free entry, the number of the next free one.
    packed: Packed,
}

/// Entries of a part of the arena: growth copies nothing and wastes little.
const CHUNK: usize = 256;

/// No entry.
const NONE: u32 = u32::MAX;

/// The blocks whose ids start alike.
#[derive(Debug)]
struct Shard {
    /// Numbers of entries.
    by_id: HashTable<u32>,
    arena: Vec<Box<[Entry]>>,
    /// Entries that were ever used.
    used: u32,
    /// The first free one below.
    free: u32,
}

fn hash(id: BlockId) -> u64 {
    IdHashBuilder.hash_one(id)
}

impl Shard {
    fn new() -> Shard {
        Shard { by_id: HashTable::new(), arena: Vec::new(), used: 0, free: NONE }
    }

    fn entry(&self, number: u32) -> &Entry {
        &self.arena[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn entry_mut(&mut self, number: u32) -> &mut Entry {
        &mut self.arena[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn find(&self, id: BlockId) -> Option<u32> {
        self.by_id.find(hash(id), |&number| self.entry(number).id == id).copied()
    }

    /// Sets what is known of `id`; gives what was.
    fn put(&mut self, id: BlockId, packed: Packed) -> Option<Packed> {
        if let Some(number) = self.find(id) {
            return Some(std::mem::replace(&mut self.entry_mut(number).packed, packed));
        }
        let number = self.take();
        *self.entry_mut(number) = Entry { id, packed };
        let Shard { by_id, arena, .. } = self;
        by_id.insert_unique(hash(id), number, |&number| {
            hash(arena[number as usize / CHUNK][number as usize % CHUNK].id)
        });
        None
    }

    /// The number of an entry that nobody uses.
    fn take(&mut self) -> u32 {
        if self.free != NONE {
            let number = self.free;
            self.free = self.entry(number).packed.0 as u32;
            return number;
        }
        if self.used as usize == self.arena.len() * CHUNK {
            let empty = Entry { id: BlockId([0; 16]), packed: Packed(0) };
            self.arena.push(vec![empty; CHUNK].into_boxed_slice());
        }
        self.used += 1;
        self.used - 1
    }

    /// Forgets an entry; its number was taken from `by_id` already.
    fn give_back(&mut self, number: u32) {
        let next = std::mem::replace(&mut self.free, number);
        self.entry_mut(number).packed = Packed(next.into());
    }

    /// Bytes of memory.
    fn memory(&self) -> usize {
        let arena = self.arena.len() * CHUNK * size_of::<Entry>() + self.arena.capacity() * size_of::<Box<[Entry]>>();
        self.by_id.allocation_size() + arena
    }
}

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
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new())).collect();
        Index { shards, usage: (0..dirs).map(|_| Usage::default()).collect() }
    }

    fn shard(&self, id: BlockId) -> &Mutex<Shard> {
        &self.shards[id.0[0] as usize % SHARDS]
    }

    /// Where the block is; does not count as a use.
    pub(crate) fn get(&self, id: BlockId) -> Option<Location> {
        let shard = self.shard(id).lock();
        shard.find(id).map(|number| shard.entry(number).packed.location())
    }

    /// Where the block is and how often it was read since it came there; does not count as a use.
    pub(crate) fn peek(&self, id: BlockId) -> Option<(Location, u8)> {
        let shard = self.shard(id).lock();
        shard.find(id).map(|number| {
            let packed = shard.entry(number).packed;
            (packed.location(), packed.hits())
        })
    }

    /// Where the block is, counting a hit, and how many there were with this one, [`HITS_MAX`] at most.
    pub(crate) fn hit(&self, id: BlockId) -> Option<(Location, u8)> {
        let mut shard = self.shard(id).lock();
        let number = shard.find(id)?;
        let packed = &mut shard.entry_mut(number).packed;
        let (at, hits) = (packed.location(), (packed.hits() + 1).min(HITS_MAX));
        *packed = Packed::new(at, hits);
        Some((at, hits))
    }

    /// Makes the block known at `at`; an older place of it is forgotten.
    pub(crate) fn put(&self, id: BlockId, at: Location) {
        self.count(at, 1);
        let old = self.shard(id).lock().put(id, Packed::new(at, 0));
        if let Some(old) = old {
            self.count(old.location(), -1);
        }
    }

    /// Forgets the block if it lies where `stale` says.
    pub(crate) fn remove_if(&self, id: BlockId, stale: impl FnOnce(&Location) -> bool) -> bool {
        let mut guard = self.shard(id).lock();
        let shard = &mut *guard;
        let Shard { by_id, arena, .. } = shard;
        let entry = |number: u32| &arena[number as usize / CHUNK][number as usize % CHUNK];
        let Ok(found) = by_id.find_entry(hash(id), |&number| entry(number).id == id) else { return false };
        let at = entry(*found.get()).packed.location();
        if !stale(&at) {
            return false;
        }
        let (number, _) = found.remove();
        shard.give_back(number);
        drop(guard);
        self.count(at, -1);
        true
    }

    /// Forgets everything in a directory; says how many blocks that was.
    pub(crate) fn remove_dir(&self, dir: u16) -> u64 {
        let mut removed = Vec::new();
        let mut count = 0;
        for shard in &self.shards {
            let mut shard = shard.lock();
            let Shard { by_id, arena, .. } = &mut *shard;
            by_id.retain(|&mut number| {
                let at = arena[number as usize / CHUNK][number as usize % CHUNK].packed.location();
                let stays = at.dir != dir;
                if !stays {
                    self.count(at, -1);
                    removed.push(number);
                }
                stays
            });
            count += removed.len() as u64;
            removed.drain(..).for_each(|number| shard.give_back(number));
        }
        count
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory(&self) -> u64 {
        self.shards.iter().map(|shard| shard.lock().memory() as u64).sum()
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
        Location { dir, segment, generation: 1, start: 0, data_off: 104, len }
    }

    #[test]
    fn usage_follows_every_change() {
        let index = Index::new(2);
        let (a, b) = (BlockId([1; 16]), BlockId([2; 16]));
        index.put(a, at(0, 1, 1000));
        index.put(b, at(1, 1, 50));
        assert_eq!((index.usage(0), index.usage(1)), ((1104, 1), (154, 1)));
        index.put(a, at(1, 2, 2000));
        assert_eq!((index.usage(0), index.usage(1)), ((0, 0), (2258, 2)));
        assert!(!index.remove_if(a, |at| at.segment == 1), "it lies elsewhere now");
        assert!(index.remove_if(b, |at| at.segment == 1) && index.get(b).is_none());
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
    fn the_largest_location_fits() {
        let at = Location {
            dir: 255,
            segment: (1 << 20) - 1,
            generation: u32::MAX,
            start: (2 << 30) - GRAIN,
            data_off: 32 << 10,
            len: 16 << 20,
        };
        assert_eq!((Packed::new(at, 31).location(), Packed::new(at, 31).hits()), (at, 31));
        assert_eq!(BITS.iter().sum::<u32>(), 128);
        let index = Index::new(256);
        index.put(BlockId([1; 16]), at);
        for n in 1..40 {
            assert_eq!(index.hit(BlockId([1; 16])), Some((at, n.min(HITS_MAX))));
        }
    }

    #[test]
    fn a_block_takes_at_most_48_bytes_at_any_fill_and_freed_entries_are_used_again() {
        let index = Index::new(1);
        let id = |n: u64| {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            BlockId(
                [mixed.to_be_bytes(), (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()]
                    .concat()
                    .try_into()
                    .unwrap(),
            )
        };
        const BLOCKS: u64 = 200_000;
        for n in 0..BLOCKS {
            index.put(id(n), at(0, 1, 5));
            if n >= 100_000 && n % 1000 == 0 {
                assert!(index.memory() <= 48 * n, "{} bytes for {n} blocks", index.memory());
            }
        }
        let full = index.memory();
        assert!((0..BLOCKS).step_by(2).all(|n| index.remove_if(id(n), |_| true)));
        assert!((0..BLOCKS).all(|n| index.get(id(n)).is_some() == (n % 2 == 1)));
        (BLOCKS..BLOCKS + BLOCKS / 2).for_each(|n| index.put(id(n), at(0, 2, 5)));
        assert_eq!((index.usage(0).1, index.memory()), (BLOCKS, full));
        assert_eq!(index.remove_dir(0), BLOCKS);
        assert!((0..2 * BLOCKS).all(|n| index.get(id(n)).is_none()));
    }

    #[test]
    fn ids_that_differ_spread_over_hash_values() {
        let hash = |id: BlockId| IdHashBuilder.hash_one(id);
        assert_ne!(hash(BlockId(*b"0123456789abcdef")), hash(BlockId(*b"0123456789abcdeF")));
    }
}
