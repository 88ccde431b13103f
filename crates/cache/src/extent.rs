//! How much of a block to fetch for one read: all of it, or the pages around what was asked.
//!
//! Pure. The rules, first match wins:
//!
//! 1. a block that must be decoded comes whole: no part of it decodes alone;
//! 2. a block of at most two windows comes whole: a part would save nothing;
//! 3. a read of half the block or more takes it whole;
//! 4. a read that starts the block and wants a window or more takes it whole: that is how streams begin, and headers are small;
//! 5. a read right behind a window held in RAM takes the block whole: the reader goes through it, or comes back to it often
//!    enough that the rest will be wanted;
//! 6. anything else takes the windows it touches, whole again if they are half the block.
//!
//! So a 4 KiB read far from any other moves 64 KiB, and a sequential reader moves each block once, plus one window.

use shoal_types::BlockRange;

/// Bytes in a window, the unit in which parts of blocks are fetched and kept. 64 KiB: over a network a reply of that size costs
/// about twice the time of a 4 KiB one, and it is four pages of the node's store.
pub(crate) const WINDOW: u32 = 64 << 10;

/// What is known of a read when its extent is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// Plain bytes in the block, more than 0.
    pub(crate) len: u32,
    /// Plain bytes asked for: not empty and in the block.
    pub(crate) range: BlockRange,
    /// True if stored bytes are plain bytes.
    pub(crate) identity: bool,
    /// True if RAM holds the window before the first one touched.
    pub(crate) behind_window: bool,
}

/// The bytes of the block to fetch: all of it, or windows that cover the range.
pub(crate) fn extent(read: Read) -> BlockRange {
    let Read { len, range, .. } = read;
    let whole = BlockRange { start: 0, end: len };
    let most = |part: BlockRange| u64::from(part.len()) * 2 >= u64::from(len);
    if !read.identity || len <= 2 * WINDOW || most(range) || read.behind_window {
        return whole;
    }
    if range.start == 0 && range.len() >= WINDOW {
        return whole;
    }
    let start = range.start / WINDOW * WINDOW;
    let end = range.end.div_ceil(WINDOW).saturating_mul(WINDOW).min(len);
    let windows = BlockRange { start, end };
    if most(windows) { whole } else { windows }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u32 = 1 << 10;
    const MIB: u32 = 1 << 20;

    fn of(start: u32, len: u32) -> Read {
        Read { len: 4 * MIB, range: BlockRange::new(start, len), identity: true, behind_window: false }
    }

    #[test]
    fn a_lone_small_read_moves_its_windows() {
        assert_eq!(extent(of(MIB + 5, 4 * KIB)), BlockRange::new(MIB, WINDOW));
        assert_eq!(extent(of(0, 4 * KIB)), BlockRange::new(0, WINDOW));
        assert_eq!(extent(of(2 * WINDOW - 1, 2)), BlockRange::new(WINDOW, 2 * WINDOW));
        assert_eq!(extent(of(MIB, 128 * KIB)), BlockRange::new(MIB, 2 * WINDOW));
        let tail = Read { len: 4 * MIB - 100, ..of(4 * MIB - 200, 100) };
        assert_eq!(extent(tail), BlockRange { start: 4 * MIB - WINDOW, end: 4 * MIB - 100 });
    }

    #[test]
    fn streams_and_large_reads_take_the_block() {
        let whole = BlockRange::new(0, 4 * MIB);
        assert_eq!(extent(of(0, WINDOW)), whole);
        assert_eq!(extent(of(MIB, 2 * MIB)), whole);
        assert_eq!(extent(of(100, 2 * MIB - 100)), whole, "its windows are half the block");
        assert_eq!(extent(Read { behind_window: true, ..of(MIB, KIB) }), whole);
        assert_eq!(extent(Read { identity: false, ..of(MIB, KIB) }), whole);
        assert_eq!(extent(Read { len: 100, ..of(50, 10) }), BlockRange::new(0, 100));
    }

    #[test]
    fn the_extent_always_covers_the_range() {
        for len in [1, WINDOW, 2 * WINDOW + 1, 4 * MIB, 16 * MIB] {
            for start in [0, 1, len / 3, len - 1] {
                for size in [1, len / 7 + 1, len] {
                    let range = BlockRange::new(start, size).clamp(len);
                    let extent = extent(Read { len, range, identity: true, behind_window: false });
                    assert!(extent.start <= range.start && range.end <= extent.end && extent.end <= len);
                }
            }
        }
    }
}
