//! Which small reads of a missed block get their bytes ahead of the block. Pure.

use std::hash::{Hash, Hasher};

use shoal_types::{BlockId, BlockRange, Class};

/// What a node fetches first when a small part of a block it lacks is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FillPolicy {
    /// The part, if it lies far enough into the block, then the block: the reader waits for its own bytes only, and the origin
    /// answers two requests for the block.
    #[default]
    RangeFirst,
    /// The block, in one request.
    Whole,
}

/// Longest part that is fetched ahead of its block, in bytes: what a client asks for around a small read is 64 to 128 KiB.
pub(crate) const PART_BYTES_MAX: u32 = 256 << 10;
/// A part that starts before this byte comes soon enough with the block: 512 KiB take 5 ms at 1 Gbit/s, less than a request.
pub(crate) const PART_START_MIN: u32 = 512 << 10;
/// Parts on their way at once; a read beyond them waits for its block. 16 MiB of parts at most.
pub(crate) const PARTS_MAX: usize = 64;

/// True if `range` of a missed block comes ahead of the block for a reader of `class`.
pub(crate) fn comes_first(policy: FillPolicy, class: Class, range: BlockRange) -> bool {
    let small = !range.is_empty() && range.end - range.start <= PART_BYTES_MAX;
    policy == FillPolicy::RangeFirst && class == Class::Foreground && small && range.start >= PART_START_MIN
}

/// A part of a block on its way. Equal to every other part of the same block: of each block one part at most comes ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) block: BlockId,
    pub(crate) range: BlockRange,
}

impl PartialEq for Part {
    fn eq(&self, other: &Part) -> bool {
        self.block == other.block
    }
}

impl Eq for Part {}

impl Hash for Part {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.block.hash(state);
    }
}

impl Part {
    /// True if all of `range` is in this part.
    pub(crate) fn covers(&self, range: BlockRange) -> bool {
        self.range.start <= range.start && range.end <= self.range.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_foreground_reads_far_into_a_block_come_first() {
        let far = BlockRange::new(PART_START_MIN, PART_BYTES_MAX);
        let first = |class, range| comes_first(FillPolicy::RangeFirst, class, range);
        assert!(first(Class::Foreground, far));
        assert!(!comes_first(FillPolicy::Whole, Class::Foreground, far));
        for class in [Class::Fill, Class::WarmUp, Class::Background] {
            assert!(!first(class, far));
        }
        assert!(!first(Class::Foreground, BlockRange::new(PART_START_MIN - 1, 10)));
        assert!(!first(Class::Foreground, BlockRange::new(PART_START_MIN, PART_BYTES_MAX + 1)));
        assert!(!first(Class::Foreground, BlockRange { start: PART_START_MIN, end: u32::MAX }));
        assert!(!first(Class::Foreground, BlockRange { start: PART_START_MIN, end: PART_START_MIN }));
        assert!(!first(Class::Foreground, BlockRange { start: u32::MAX, end: PART_START_MIN }));
    }

    #[test]
    fn parts_of_one_block_are_equal_and_know_what_they_cover() {
        let part = |start, len| Part { block: BlockId([1; 16]), range: BlockRange::new(start, len) };
        assert_eq!(part(0, 1), part(5, 9));
        assert_ne!(part(0, 1), Part { block: BlockId([2; 16]), ..part(0, 1) });
        assert!(part(10, 20).covers(BlockRange::new(10, 20)) && part(10, 20).covers(BlockRange::new(15, 3)));
        assert!(!part(10, 20).covers(BlockRange::new(9, 3)) && !part(10, 20).covers(BlockRange::new(29, 2)));
    }
}
