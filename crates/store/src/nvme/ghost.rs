//! Remembers which blocks were turned away lately: who comes a second time is no one-time scan.
//!
//! A table of fingerprints, each with the generation it was seen in. The memory reaches back over as many bytes of turned-away blocks as
//! the cache holds: shorter, and a data set that is read again and again and nearly fits would never be let in; twice as long, and one of four
//! times the cache would flush it (measured: `examples/policy.rs`). Wrong both ways now and then, which costs a write or a miss.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shoal_types::BlockId;

/// Entries are as many as blocks of this size fit in the cache, within bounds: a smaller block is forgotten sooner.
const BYTES_PER_ENTRY: u64 = 64 << 10;
const ENTRIES_MIN: u64 = 64 << 10;
/// 64 MiB of entries, for caches beyond 1 TiB.
const ENTRIES_MAX: u64 = 16 << 20;

/// The window is cut in so many generations.
const GENERATIONS: u32 = 4;
/// Low bits of an entry: its generation; 0 is no entry.
const GENERATION_BITS: u32 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ghost {
    entries: Box<[AtomicU32]>,
    /// Bytes turned away so far.
    bytes: AtomicU64,
    /// Bytes of a generation.
    step: u64,
}

impl Ghost {
    /// For a cache of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Ghost {
        let entries = (limit / BYTES_PER_ENTRY).clamp(ENTRIES_MIN, ENTRIES_MAX).next_power_of_two();
        let entries = (0..entries).map(|_| AtomicU32::new(0)).collect();
        Ghost { entries, bytes: AtomicU64::new(0), step: (limit / u64::from(GENERATIONS)).max(1) }
    }

    /// Whether the block of `len` bytes was turned away lately; if not, it is now.
    pub(crate) fn seen(&self, id: BlockId, len: usize) -> bool {
        let [low, high] = [0, 8].map(|at| u64::from_le_bytes(id.0[at..at + 8].try_into().expect("eight bytes")));
        let entry = &self.entries[(low as usize) & (self.entries.len() - 1)];
        let print = (high as u32) << GENERATION_BITS;
        let now = self.bytes.load(Ordering::Relaxed) / self.step;
        let found = entry.load(Ordering::Relaxed);
        let age = generation(now).wrapping_sub(found & GENERATION_MASK) & GENERATION_MASK;
        if found & GENERATION_MASK != 0 && found & !GENERATION_MASK == print && age <= GENERATIONS {
            entry.store(0, Ordering::Relaxed);
            return true;
        }
        entry.store(print | generation(now), Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        false
    }
}

const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// The low bits that stand for a generation, never 0.
fn generation(number: u64) -> u32 {
    number as u32 & GENERATION_MASK | u32::from(number as u32 & GENERATION_MASK == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> BlockId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        id[8..].copy_from_slice(&n.wrapping_mul(0xd6e8_feb8_6659_fd93).to_le_bytes());
        BlockId(id)
    }

    #[test]
    fn the_second_time_counts_and_the_third_is_a_first_again() {
        let ghost = Ghost::new(1 << 30);
        assert!(!ghost.seen(id(1), 1000) && !ghost.seen(id(2), 1000));
        assert!(ghost.seen(id(1), 1000));
        assert!(!ghost.seen(id(1), 1000) && ghost.seen(id(2), 1000));
    }

    #[test]
    fn the_memory_reaches_as_far_as_the_cache_and_not_twice_as_far() {
        let len = 4 << 20;
        for back in [200, 250, 600, 1000, 2000] {
            let ghost = Ghost::new(256 * len);
            (0..5000).for_each(|n| assert!(!ghost.seen(id(n), len as usize), "{n} is new"));
            let seen = (1..50).filter(|n| ghost.seen(id(4999 - back + n), 0)).count();
            let expected = if back <= 250 { 49 } else { 0 };
            assert!(seen.abs_diff(expected) <= 2, "{seen} of 49 seen {back} blocks ago");
        }
    }
}
