//! How a handle is being read, and how far ahead to fetch.
//!
//! Pure. The kernel's own read-ahead sends requests a little out of order, so a read counts as sequential when it starts near
//! where the last one ended. The window starts at two blocks after the second sequential read and doubles with each window
//! consumed, up to `max_readahead`: a random reader costs nothing extra, a streaming one is a full window ahead after a few
//! megabytes.

use std::ops::Range;

/// Reads that start within this distance of the expected place still count as sequential, in bytes: eight kernel requests of
/// 128 KiB to 1 MiB may be in flight at once.
const NEAR_BYTES: u64 = 2 << 20;

/// The state of one handle's reads.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    expected: u64,
    streak_bytes: u64,
    window: u64,
    ahead_until: u64,
}

impl Cursor {
    /// Notes a read of `offset..offset + len`; returns the bytes of the file to fetch ahead now, if any.
    pub(crate) fn note(&mut self, offset: u64, len: u64, block_size: u64, max_readahead: u64) -> Option<Range<u64>> {
        let near = offset.abs_diff(self.expected) <= NEAR_BYTES;
        let end = offset + len;
        if !near {
            *self = Cursor { expected: end, ..Cursor::default() };
            return None;
        }
        let fresh = self.streak_bytes == 0;
        self.expected = self.expected.max(end);
        self.streak_bytes += len;
        if fresh || max_readahead == 0 {
            return None;
        }
        if self.window == 0 {
            self.window = (2 * block_size).min(max_readahead);
        }
        // Refill when half the window is consumed: one decision a few blocks, not one a request.
        if self.ahead_until > self.expected + self.window / 2 {
            return None;
        }
        let start = self.ahead_until.max(end);
        self.window = (2 * self.window).min(max_readahead);
        let until = self.expected + self.window;
        self.ahead_until = until;
        (start < until).then_some(start..until)
    }

    /// True while bytes `start..end`, given to be fetched ahead before, are still ahead of the reader: it has neither passed them nor
    /// gone elsewhere.
    pub(crate) fn awaits(&self, start: u64, end: u64) -> bool {
        end > self.expected && start < self.ahead_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 4 << 20;
    const MAX: u64 = 64 << 20;

    #[test]
    fn a_single_read_fetches_nothing_ahead() {
        assert_eq!(Cursor::default().note(0, 131_072, BLOCK, MAX), None);
    }

    #[test]
    fn random_reads_fetch_nothing_ahead() {
        let mut cursor = Cursor::default();
        for offset in [0u64, 500 << 20, 100 << 20, 900 << 20, 300 << 20] {
            assert_eq!(cursor.note(offset, 4096, BLOCK, MAX), None, "{offset}");
        }
    }

    #[test]
    fn a_stream_is_fetched_ahead_without_gap_or_overlap_up_to_the_limit() {
        let mut cursor = Cursor::default();
        let (mut covered, mut widest) = (0, 0);
        for i in 0..4096u64 {
            let (offset, len) = (i * 131_072, 131_072);
            if let Some(ahead) = cursor.note(offset, len, BLOCK, MAX) {
                assert!(ahead.start >= covered, "fetched twice: {ahead:?}");
                assert!(covered == 0 || ahead.start == covered, "gap before {ahead:?}");
                covered = ahead.end;
                widest = widest.max(ahead.end - (offset + len));
            }
        }
        assert_eq!(widest, MAX);
        assert!(covered >= 4096 * 131_072);
    }

    #[test]
    fn what_the_reader_has_passed_or_left_is_not_awaited() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.note(0, 1 << 20, BLOCK, MAX), None);
        let ahead = cursor.note(1 << 20, 1 << 20, BLOCK, MAX).expect("sequential");
        assert!(cursor.awaits(ahead.start, ahead.start + BLOCK));
        assert!(!cursor.awaits(0, 1 << 20) && !cursor.awaits(ahead.end, ahead.end + BLOCK));
        cursor.note(900 << 20, 4096, BLOCK, MAX);
        assert!(!cursor.awaits(ahead.start, ahead.end));
    }

    #[test]
    fn no_readahead_when_it_is_turned_off() {
        let mut cursor = Cursor::default();
        assert!((0..100).all(|i| cursor.note(i * 4096, 4096, BLOCK, 0).is_none()));
    }
}
