//! How much of its file system a directory may take: its limit, as long as the configured share of the file system stays free.
//!
//! The slab is reserved segment by segment. Where a whole slab would leave too little free it starts smaller; when others fill the file system,
//! segments are given back, oldest first; when there is room again they are taken again, a little later than they were given, so that the
//! size does not swing.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// Never below this: fewer segments do not work (see `geometry`).
pub(crate) const SEGMENTS_MIN: u32 = 4;

/// A file system at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// Its bytes; 0 if it does not tell.
    pub(crate) total: u64,
    /// Bytes that are free for us.
    pub(crate) free: u64,
}

impl FileSystem {
    /// The one that `path` is in.
    pub(crate) fn of(path: &Path) -> io::Result<FileSystem> {
        let stat = statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(FileSystem { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    }

    /// Bytes that must stay free for `ratio`.
    pub(crate) fn reserve(&self, ratio: f64) -> u64 {
        (self.total as f64 * ratio) as u64
    }

    /// How many segments a directory that has `now` should have, of `max`.
    pub(crate) fn goal(&self, ratio: f64, segment_bytes: u64, now: u32, max: u32) -> u32 {
        let reserve = self.reserve(ratio);
        let segments = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        if self.free < reserve {
            let missing = segments((reserve - self.free).div_ceil(segment_bytes));
            return now.saturating_sub(missing).max(SEGMENTS_MIN.min(now));
        }
        // One more segment must leave some room, or else it would be given back at once.
        let margin = segment_bytes + self.total / 100;
        let room = (self.free - reserve).saturating_sub(margin) / segment_bytes;
        now.saturating_add(segments(room)).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_given_back_for_others_and_taken_again_without_swinging() {
        let fs = |free| FileSystem { total: 1000 << 20, free: free << 20 };
        let goal = |free, now| fs(free).goal(0.1, 1 << 20, now, 500);
        assert_eq!(goal(100, 300), 300, "just enough is free");
        assert_eq!(goal(99, 300), 299);
        assert_eq!(goal(0, 300), 200);
        assert_eq!(goal(0, 50), 4, "never too few to work with");
        assert_eq!(goal(105, 300), 300, "within the margin nothing changes");
        assert_eq!(goal(121, 300), 310);
        assert_eq!(goal(900, 300), 500);
        // What was taken is not given back at the next look.
        for free in 0..200u64 {
            let now = goal(free, 300);
            let left = (free + 300).saturating_sub(now.into());
            assert_eq!(goal(left, now), now, "{free} free, {now} segments");
        }
        assert_eq!(FileSystem { total: 0, free: 0 }.goal(0.1, 1 << 20, 7, 9), 7, "a file system that does not tell");
    }
}
