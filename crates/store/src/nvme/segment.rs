//! Which segments are free, open and full. Owned by the directory's writer; no I/O.

use std::collections::VecDeque;

use shoal_types::BlockId;

use super::layout::{Footer, FooterEntry, Place, SECTOR};

/// A full segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) segment: u32,
    /// Blocks that were written to it; some may lie elsewhere by now.
    pub(crate) ids: Vec<BlockId>,
}

/// The segments of a directory that nobody writes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) free: VecDeque<u32>,
    /// Oldest first: the order of eviction.
    pub(crate) sealed: VecDeque<Sealed>,
}

/// The segment that blocks are appended to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) segment: u32,
    /// Number of this writing of the segment.
    pub(crate) seq: u64,
    /// One past the last byte in use; a multiple of the sector between batches.
    pub(crate) end: u32,
    /// Highest record number so far.
    pub(crate) last_seq: u64,
    /// Whether the segment's head is on the device or on its way.
    pub(crate) has_head: bool,
    pub(crate) entries: Vec<FooterEntry>,
}

impl Open {
    /// An empty segment, to be written under number `seq`.
    pub(crate) fn new(segment: u32, seq: u64) -> Open {
        Open { segment, seq, end: SECTOR, last_seq: seq, has_head: false, entries: Vec::new() }
    }

    /// Takes room for a block of `len` bytes, with room left for the footer; `None` if there is too little.
    pub(crate) fn place(&mut self, id: BlockId, key_len: usize, len: u32, written: u32, rules: Rules) -> Option<Place> {
        let place = Place::after(self.end, key_len, len, rules.page_bytes);
        let footer = Footer::bytes_for(self.entries.len() + 1);
        let end = u64::from(place.end()).next_multiple_of(SECTOR.into());
        if end + u64::from(footer) > rules.segment_bytes {
            return None;
        }
        self.end = place.end();
        self.entries.push(FooterEntry { id, place, written });
        Some(place)
    }

    /// Ends a batch: the next record starts at a sector.
    pub(crate) fn pad(&mut self) {
        self.end = self.end.next_multiple_of(SECTOR);
    }

    /// What becomes of a full segment.
    pub(crate) fn seal(self) -> (Sealed, Footer) {
        let ids = self.entries.iter().map(|entry| entry.id).collect();
        let footer = Footer { segment_seq: self.seq, last_seq: self.last_seq, entries: self.entries };
        (Sealed { segment: self.segment, ids }, footer)
    }
}

/// What limits placement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) segment_bytes: u64,
    pub(crate) page_bytes: u32,
}

impl Rules {
    /// The longest block that fits in an empty segment, give or take a page.
    pub(crate) fn block_bytes_max(&self) -> u64 {
        // Segment head, footer, record head.
        self.segment_bytes.saturating_sub(3 * u64::from(SECTOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { segment_bytes: 64 << 10, page_bytes: 4096 };

    #[test]
    fn a_segment_fills_up_to_its_footer() {
        let mut open = Open::new(0, 1);
        let mut placed = 0;
        while open.place(BlockId([placed; 16]), 20, 3000, 0, RULES).is_some() {
            placed += 1;
        }
        open.pad();
        let (sealed, footer) = open.seal();
        assert_eq!((sealed.ids.len(), footer.entries.len()), (18, 18));
        let end = footer.entries.last().unwrap().place.end().next_multiple_of(SECTOR);
        assert!(u64::from(end + Footer::bytes_for(18)) <= RULES.segment_bytes);
    }

    #[test]
    fn sixteen_large_blocks_fit_the_default_segment() {
        let segment_bytes = super::super::geometry::Geometry::fresh(100 << 30).segment_bytes;
        let rules = Rules { segment_bytes, page_bytes: 4096 };
        let mut open = Open::new(0, 1);
        for n in 0..16 {
            assert!(open.place(BlockId([n; 16]), 200, 4 << 20, 0, rules).is_some(), "block {n}");
        }
    }
}
