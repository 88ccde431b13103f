//! How a directory's bytes are cut into segments. Pure.

/// A segment of 16 blocks of 4 MiB with their heads, a segment head and a footer: 64 MiB would hold only 15 and waste a block.
const SEGMENT_BYTES: u64 = (64 << 20) + 34 * ALIGN;
/// A segment that holds any block.
const SEGMENT_BYTES_ANY: u64 = 20 << 20;
/// Eviction takes a whole segment: with this many it takes at most a sixteenth of the cache at once.
const SEGMENTS_WANTED: u64 = 16;
/// Fewest segments: one being written, the rest readable.
const SEGMENTS_MIN: u64 = 4;
/// Beyond this many, segments are made larger: a restart reads two pages of each. Half a TiB of the smallest.
const SEGMENTS_ENOUGH: u64 = 8192;
/// Segments are made larger by this at most: one without a footer is walked through after a crash.
const SEGMENT_GROWTH_MAX: u64 = 8;
/// Most segments: bounds what a restart reads and what the writer keeps.
const SEGMENTS_MAX: u64 = 1 << 20;
/// Least bytes of a segment.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Left of the directory's bytes for the descriptor, the rules, the lock file and the sector of probes.
pub(crate) const RESERVED_BYTES: u64 = 64 << 10;

const ALIGN: u64 = 4096;

/// Segments of one slab file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) segment_bytes: u64,
    pub(crate) segments: u32,
}

impl Geometry {
    /// The best cut of a directory of `bytes` (at least [`crate::MIN_DIR_BYTES`]).
    pub(crate) fn fresh(bytes: u64) -> Geometry {
        let usable = bytes.saturating_sub(RESERVED_BYTES);
        let growth = (usable / SEGMENT_BYTES).div_ceil(SEGMENTS_ENOUGH).clamp(1, SEGMENT_GROWTH_MAX);
        let mut segments = (usable / (SEGMENT_BYTES * growth)).min(SEGMENTS_MAX);
        if segments < SEGMENTS_WANTED {
            segments = (usable / SEGMENT_BYTES_ANY).clamp(SEGMENTS_MIN, SEGMENTS_WANTED);
        }
        // A segment is addressed by 32 bits; only a cache beyond 2 PiB meets this bound.
        let segment_bytes = (usable / segments).min(2 << 30) / ALIGN * ALIGN;
        Geometry { segment_bytes, segments: segments as u32 }
    }

    /// A directory of `bytes` cut in segments of `segment_bytes`, if that is sensible.
    pub(crate) fn with_segments_of(segment_bytes: u64, bytes: u64) -> Option<Geometry> {
        let usable = bytes.saturating_sub(RESERVED_BYTES);
        let sane = segment_bytes.is_multiple_of(ALIGN) && (SEGMENT_BYTES_MIN..=2 << 30).contains(&segment_bytes);
        let segments = usable.checked_div(segment_bytes)?;
        (sane && (SEGMENTS_MIN..=SEGMENTS_MAX).contains(&segments))
            .then_some(Geometry { segment_bytes, segments: segments as u32 })
    }

    /// Bytes of all segments.
    pub(crate) fn slab_bytes(&self) -> u64 {
        self.segment_bytes * u64::from(self.segments)
    }

    /// Bytes of the slab file: the segments, and a sector behind them for probes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.slab_bytes() + ALIGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_fit_the_limit_and_little_is_lost() {
        for bytes in [1 << 20, 5 << 20, 64 << 20, 100 << 20, 1 << 30, (10 << 30) + 12_345, 1 << 40, 30 << 40] {
            let cut = Geometry::fresh(bytes);
            assert!(cut.slab_bytes() + RESERVED_BYTES <= bytes, "{bytes}: {cut:?}");
            assert!(
                cut.slab_bytes() + RESERVED_BYTES + (u64::from(cut.segments) + 1) * ALIGN > bytes,
                "{bytes}: {cut:?}"
            );
            assert!(
                u64::from(cut.segments) >= SEGMENTS_MIN && cut.segment_bytes >= SEGMENT_BYTES_MIN,
                "{bytes}: {cut:?}"
            );
            assert_eq!(Geometry::with_segments_of(cut.segment_bytes, bytes), Some(cut));
        }
    }

    #[test]
    fn a_size_that_leaves_too_few_segments_is_no_cut() {
        assert_eq!(Geometry::with_segments_of(64 << 20, 200 << 20), None);
        assert_eq!(Geometry::with_segments_of(1000, 1 << 30), None);
        assert_eq!(Geometry::with_segments_of(0, 1 << 30), None);
    }
}
