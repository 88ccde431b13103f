//! A number for each of many slices, whose ids lie close together: four bytes each, where a hash table takes ten times as much.

use std::collections::HashMap;

/// Slices of a page: as many as lie below one prefix of object keys.
const PAGE: u64 = 1024;

/// Numbers by slice. Zero is that of a slice that is not there.
#[derive(Debug, Default)]
pub(super) struct SliceMap {
    pages: HashMap<u64, Box<[u32; PAGE as usize]>>,
    count: u64,
}

impl SliceMap {
    fn at(&mut self, slice: u64) -> &mut u32 {
        let page = self.pages.entry(slice / PAGE).or_insert_with(|| Box::new([0; PAGE as usize]));
        &mut page[(slice % PAGE) as usize]
    }

    /// Sets a slice's number, at least 1; true if it had none. Of two numbers the greater one stays.
    pub(super) fn insert(&mut self, slice: u64, number: u32) -> bool {
        let known = self.at(slice);
        let new = *known == 0 && number != 0;
        *known = number.max(*known);
        self.count += u64::from(new);
        new
    }

    /// One more.
    pub(super) fn count_up(&mut self, slice: u64) {
        let known = self.at(slice);
        *known = known.saturating_add(1);
    }

    /// A slice's number, zero if it has none.
    pub(super) fn get(&self, slice: u64) -> u32 {
        self.pages.get(&(slice / PAGE)).map_or(0, |page| page[(slice % PAGE) as usize])
    }

    /// Slices that [`SliceMap::insert`] brought in.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// Every slice with a number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.pages
            .iter()
            .flat_map(|(page, numbers)| {
                let begin = page * PAGE;
                (0..PAGE).zip(numbers.iter()).map(move |(at, number)| (begin + at, *number))
            })
            .filter(|(_, number)| *number != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_kept_apart() {
        let mut map = SliceMap::default();
        assert!(map.insert(5, 100) && map.insert(5 + PAGE, 7) && map.insert(u64::MAX, 9));
        assert!(!map.insert(5, 50));
        map.count_up(6);
        map.count_up(6);
        assert_eq!((map.get(5), map.get(6), map.get(7), map.get(5 + PAGE)), (100, 2, 0, 7));
        let mut all: Vec<_> = map.iter().collect();
        all.sort_unstable();
        assert_eq!(all, [(5, 100), (6, 2), (5 + PAGE, 7), (u64::MAX, 9)]);
        assert_eq!(map.len(), 3);
    }
}
