//! Sets of inodes or slices, of which a volume has millions: a bit each, where numbers lie close together.

use std::collections::HashMap;

/// Words of a page: 4096 numbers, as many slice ids as a client takes at once.
const WORDS: usize = 64;
const PAGE_BITS: u64 = 64 * WORDS as u64;

/// A set of numbers.
#[derive(Debug, Default)]
pub(crate) struct IdSet {
    pages: HashMap<u64, Box<[u64; WORDS]>>,
}

impl IdSet {
    /// Adds `id`; true if it was not in the set.
    pub(crate) fn insert(&mut self, id: u64) -> bool {
        let page = self.pages.entry(id / PAGE_BITS).or_insert_with(|| Box::new([0; WORDS]));
        let (word, bit) = ((id % PAGE_BITS / 64) as usize, 1u64 << (id % 64));
        let new = page[word] & bit == 0;
        page[word] |= bit;
        new
    }

    /// True if `id` is in the set.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.pages
            .get(&(id / PAGE_BITS))
            .is_some_and(|page| page[(id % PAGE_BITS / 64) as usize] & (1 << (id % 64)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_new_once() {
        let mut set = IdSet::default();
        let ids = [0, 1, 63, 64, 4095, 4096, 4097, 1 << 20, u64::MAX, u64::MAX - 64];
        assert!(ids.iter().all(|id| set.insert(*id)));
        assert!(ids.iter().all(|id| !set.insert(*id) && set.contains(*id)));
        assert!(!set.contains(2) && !set.contains(5 << 20));
    }
}
