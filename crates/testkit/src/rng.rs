//! A small generator whose output is fixed for ever, so that a seed printed by a failed test reproduces it after any upgrade.
//!
//! SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

use std::hash::{BuildHasher, RandomState};

/// Deterministic numbers from a seed. Not for ids, jitter or anything outside tests and benches.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The sequence of `seed`; neighbouring seeds give unrelated sequences.
    pub fn new(seed: u64) -> Rng {
        Rng { state: seed }
    }

    /// The next number, uniform over `u64`.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; `bound` must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "nothing lies below zero");
        // Multiply-shift: the bias is bound / 2^64, far below what a test can see.
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// An index in `0..len`; `len` must not be zero.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True in `percent` of 100 calls.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// Fills `bytes` with the next numbers, little-endian.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next_u64().to_le_bytes()[..piece.len()]);
        }
    }
}

/// The seed of the random test `name`, which it prints: the same in every run, so that a change is judged by what it changes.
///
/// `SHOAL_TEST_SEED` is another one, or `random` for one that never was.
pub fn test_seed(name: &str) -> u64 {
    let seed = match std::env::var("SHOAL_TEST_SEED").as_deref() {
        Ok("random") => RandomState::new().hash_one(name),
        Ok(given) => given.parse().expect("SHOAL_TEST_SEED is a number or `random`"),
        Err(_) => name.bytes().fold(0, |seed, byte| Rng::new(seed ^ u64::from(byte)).next_u64()),
    };
    println!("{name}: SHOAL_TEST_SEED={seed}");
    seed
}

/// `len` bytes that depend on `seed` alone and do not compress. A prefix of a longer call with the same seed.
pub fn seeded_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(seed).fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // First outputs for seed 1234567 of the reference implementation (prng.di.unimi.it/splitmix64.c).
        let mut rng = Rng::new(1_234_567);
        assert_eq!([rng.next_u64(), rng.next_u64()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn bytes_depend_on_the_seed_and_prefixes_agree() {
        assert_eq!(seeded_bytes(7, 13), seeded_bytes(7, 100)[..13]);
        assert_ne!(seeded_bytes(7, 32), seeded_bytes(8, 32));
        assert!(seeded_bytes(7, 0).is_empty());
    }

    #[test]
    fn numbers_below_a_bound_cover_it() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 10];
        (0..1000).for_each(|_| seen[rng.index(10)] = true);
        assert_eq!(seen, [true; 10]);
        assert!((0..100).all(|_| !rng.chance(0)) && (0..100).all(|_| rng.chance(100)));
    }
}
