//! What lies in one segment, read back from the device: by its footer, or else from record to record.

use std::io;

use super::layout::{Footer, FooterEntry, GRAIN, HEAD_BYTES_MAX, Place, RecordHead, SECTOR, SegmentHead};
use crate::io::buffer::Buf;

/// One segment with a valid head.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) segment: u32,
    /// Number of this writing of the segment.
    pub(crate) seq: u64,
    /// Highest record number seen.
    pub(crate) last_seq: u64,
    /// Records in the order they were written.
    pub(crate) entries: Vec<FooterEntry>,
    /// Without a footer, the byte after the last record.
    pub(crate) end: Option<u32>,
}

/// Reads bytes of a slab: offset, a multiple of the sector, and length.
pub(crate) type ReadAt<'a> = &'a dyn Fn(u64, usize) -> io::Result<Buf>;

/// Where a directory's segments are read from.
pub(crate) struct Source<'a> {
    pub(crate) read: ReadAt<'a>,
    pub(crate) dir_id: [u8; 16],
    pub(crate) segment_bytes: u64,
}

impl Source<'_> {
    /// What `segment` holds; `None` if it was never written or its head is damaged. Blocks.
    pub(crate) fn contents(&self, segment: u32) -> io::Result<Option<Contents>> {
        let base = u64::from(segment) * self.segment_bytes;
        let page = (self.read)(base, SECTOR as usize)?;
        let head = match SegmentHead::decode(&page) {
            Some(head) if head.dir_id == self.dir_id && head.index == segment && head.seq != 0 => head,
            _ => return Ok(None),
        };
        if let Some(footer) = self.footer(base, head.seq)? {
            let Footer { last_seq, entries, .. } = footer;
            return Ok(Some(Contents { segment, seq: head.seq, last_seq, entries, end: None }));
        }
        self.walk(segment, head.seq).map(Some)
    }

    fn footer(&self, base: u64, seq: u64) -> io::Result<Option<Footer>> {
        let segment_bytes = self.segment_bytes;
        let last = (self.read)(base + segment_bytes - u64::from(SECTOR), SECTOR as usize)?;
        let Some(bytes) = Footer::wanted(&last, seq).filter(|&bytes| u64::from(bytes) < segment_bytes) else {
            return Ok(None);
        };
        let whole = match bytes {
            SECTOR => last,
            _ => (self.read)(base + segment_bytes - u64::from(bytes), bytes as usize)?,
        };
        let sane = |entry: &FooterEntry| fits(&entry.place, segment_bytes);
        Ok(Footer::decode(&whole, seq).filter(|footer| footer.entries.iter().all(sane)))
    }

    /// Goes from record to record until there is none: the end of what was written, or where a crash tore it.
    fn walk(&self, segment: u32, seq: u64) -> io::Result<Contents> {
        let mut window = Window { source: self, segment, start: 0, bytes: None };
        let mut found = Contents { segment, seq, last_seq: seq, entries: Vec::new(), end: Some(SECTOR) };
        let mut at = SECTOR;
        loop {
            // The next record starts within a sector: of this one's end if it came in the same batch, else of the next sector's start.
            let mut next = None;
            let first = at.next_multiple_of(GRAIN);
            for candidate in (first..at.next_multiple_of(SECTOR) + SECTOR).step_by(GRAIN as usize) {
                let newer = |head: &RecordHead| head.segment_seq == seq && head.seq > found.last_seq;
                next = window.record(candidate)?.filter(newer).map(|head| (candidate, head));
                if next.is_some() {
                    break;
                }
            }
            let Some((start, head)) = next else { return Ok(found) };
            let place = Place { start, data_off: head.data_off, len: head.len };
            if !fits(&place, self.segment_bytes) {
                return Ok(found);
            }
            at = place.end();
            found.last_seq = head.seq;
            found.end = Some(at);
            found.entries.push(FooterEntry { id: head.id, place, written: head.written });
        }
    }
}

/// Whether a record may lie where `place` says.
fn fits(place: &Place, segment_bytes: u64) -> bool {
    let end = u64::from(place.start) + u64::from(place.data_off) + u64::from(place.len);
    place.start >= SECTOR && place.data_off <= HEAD_BYTES_MAX && end <= segment_bytes
}

/// Bytes of a segment around the place that is looked at.
struct Window<'a> {
    source: &'a Source<'a>,
    segment: u32,
    start: u32,
    bytes: Option<Buf>,
}

/// Enough for many small records, and little to read in vain for a large one.
const WINDOW_BYTES: u32 = 128 << 10;

impl Window<'_> {
    /// The head of the record at byte `at` of the segment, if there is one.
    fn record(&mut self, at: u32) -> io::Result<Option<RecordHead>> {
        let Some(seen) = self.from(at, 1)? else { return Ok(None) };
        let Some(wanted) = RecordHead::wanted(seen) else { return Ok(None) };
        let Some(seen) = self.from(at, wanted)? else { return Ok(None) };
        Ok(RecordHead::decode(seen).map(|(head, _)| head))
    }

    /// The window's bytes from `at`, at least `len` if the segment has them; reads on if need be.
    fn from(&mut self, at: u32, len: usize) -> io::Result<Option<&[u8]>> {
        let segment_bytes = self.source.segment_bytes;
        if u64::from(at) >= segment_bytes {
            return Ok(None);
        }
        // A head's fixed part does not cross a sector's end: it is 64 bytes at a multiple of 64.
        let covered = self
            .bytes
            .as_ref()
            .is_some_and(|bytes| at >= self.start && (at - self.start) as usize + len <= bytes.len());
        if !covered {
            self.start = at - at % SECTOR;
            let want = (segment_bytes - u64::from(self.start)).min(WINDOW_BYTES.into()) as usize;
            let offset = u64::from(self.segment) * segment_bytes + u64::from(self.start);
            self.bytes = Some((self.source.read)(offset, want)?);
        }
        let bytes = self.bytes.as_ref().expect("read above");
        Ok(bytes.get((at - self.start) as usize..))
    }
}
