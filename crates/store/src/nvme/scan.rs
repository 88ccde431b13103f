//! Lists the blocks that cache directories hold, by the keys in their record heads.

use std::io;

use shoal_types::BlockKey;

use super::contents::Source;
use super::dir::Dir;
use super::index::{Index, Location};
use super::key;
use super::layout::{FooterEntry, RecordHead, SECTOR};
use crate::io::buffer::{Buf, Pool};

/// Where a listing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanCursor {
    dir: u16,
    segment: u32,
    /// Records that start before this byte of the segment were listed.
    start: u32,
}

/// A place in the listing of a disk that is none.
#[cfg(feature = "testing")]
impl ScanCursor {
    pub(crate) fn at(place: u32) -> ScanCursor {
        ScanCursor { dir: 0, segment: place, start: 0 }
    }

    pub(crate) fn place(self) -> u32 {
        self.segment
    }
}

/// A block that a cache directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBlock {
    /// Its key.
    pub key: BlockKey,
    /// Bytes in it.
    pub len: u32,
}

/// Heads of packed records lie close together: so many bytes are read at once for them.
const WINDOW_BYTES: u64 = 128 << 10;

/// At most `max` live blocks of `dirs` from `cursor` on, and where to go on. Blocks the thread.
///
/// A damaged head or an unreadable segment hides the blocks behind it; reading them would find out, not this.
pub(crate) fn scan<'a>(
    dirs: impl Iterator<Item = &'a Dir>,
    index: &Index,
    pool: &Pool,
    cursor: Option<ScanCursor>,
    max: usize,
) -> (Vec<StoredBlock>, Option<ScanCursor>) {
    let mut at = cursor.unwrap_or(ScanCursor { dir: 0, segment: 0, start: 0 });
    let mut found = Vec::new();
    for dir in dirs.skip(usize::from(at.dir)) {
        if dir.number != at.dir {
            at = ScanCursor { dir: dir.number, segment: 0, start: 0 };
        }
        while dir.works() && at.segment < dir.segments() {
            let listing = Listing { dir, index, pool };
            match listing.segment(at, max - found.len(), &mut found) {
                Ok(None) => at = ScanCursor { segment: at.segment + 1, start: 0, ..at },
                Ok(Some(start)) => return (found, Some(ScanCursor { start, ..at })),
                Err(error) => {
                    tracing::warn!(dir = %dir.path.display(), segment = at.segment, %error, "a part of the cache cannot be listed");
                    at = ScanCursor { segment: at.segment + 1, start: 0, ..at };
                }
            }
        }
    }
    (found, None)
}

struct Listing<'a> {
    dir: &'a Dir,
    index: &'a Index,
    pool: &'a Pool,
}

impl Listing<'_> {
    /// Adds the live blocks of the segment of `at` to `found`, at most `max`; where to go on if there were more.
    fn segment(&self, at: ScanCursor, max: usize, found: &mut Vec<StoredBlock>) -> io::Result<Option<u32>> {
        let dir = self.dir;
        let read = |offset, len| dir.device.read_now(offset, self.pool.get(len));
        let source = Source { read: &read, dir_id: dir.id.0, segment_bytes: dir.rules.segment_bytes };
        // Never written, or forgotten: costs no I/O.
        if !dir.has_writing(at.segment) {
            return Ok(None);
        }
        let Some(contents) = source.contents(at.segment)? else { return Ok(None) };
        let mut window = Window { source: &source, base: dir.offset(at.segment, 0), start: 0, bytes: None };
        let mut left = max;
        for entry in contents.entries {
            let FooterEntry { id, place, .. } = entry;
            let here = |now: Location| now.dir == dir.number && now.segment == at.segment && now.start == place.start;
            if place.start < at.start || !self.index.get(id).is_some_and(|now| here(now) && dir.is_current(&now)) {
                continue;
            }
            if left == 0 {
                return Ok(Some(place.start));
            }
            let head = window.head(&entry)?;
            if let Some(key) = RecordHead::key(head).and_then(key::decode).filter(|key| key.id() == id) {
                found.push(StoredBlock { key, len: place.len });
                left -= 1;
            }
        }
        Ok(None)
    }
}

/// The bytes of a segment read last.
struct Window<'a> {
    source: &'a Source<'a>,
    /// Offset of the segment in the slab.
    base: u64,
    start: u32,
    bytes: Option<Buf>,
}

impl Window<'_> {
    /// The record of `entry`, from its start to the end of its head at least.
    fn head(&mut self, entry: &FooterEntry) -> io::Result<&[u8]> {
        let place = entry.place;
        let wanted = place.start + place.data_off;
        let covered = |bytes: &Buf| place.start >= self.start && (wanted - self.start) as usize <= bytes.len();
        if !self.bytes.as_ref().is_some_and(covered) {
            self.start = place.start - place.start % SECTOR;
            let least = u64::from(wanted - self.start);
            let room = self.source.segment_bytes - u64::from(self.start);
            let len = if place.is_packed() { WINDOW_BYTES.max(least).min(room) } else { least };
            self.bytes = Some((self.source.read)(self.base + u64::from(self.start), len as usize)?);
        }
        let bytes = self.bytes.as_ref().expect("read above");
        Ok(&bytes[(place.start - self.start) as usize..])
    }
}
