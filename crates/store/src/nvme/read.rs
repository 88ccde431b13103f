//! Reads a range of a block from its directory: plans the I/O, checks what came, and says how it ended.
//!
//! A packed record is read whole. Of an aligned one the pages that the range touches are read; if its page table is not at hand the
//! record's head is read too, in the same I/O when the range is near the block's start, else beside it. A large read of a device that is not
//! busy is made in parts, so that checksums of the first are computed while the rest is on its way. The result is a slice of the buffer the
//! device filled: nothing is copied.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use shoal_types::{BlockId, BlockRange, PageTable};

use super::dir::{Dir, Turn};
use super::index::Location;
use super::layout::{Place, RecordHead, SECTOR};
use super::table::Tables;
use crate::io::buffer::{Buf, Pool};

/// A range that starts within so many bytes of the block's start is read together with the head: moves a little more, in one I/O.
const WITH_HEAD_BYTES: u32 = 16 << 10;

/// Bytes of a part of a large read: large enough for the device's full speed. A multiple of any page.
const PART_BYTES: u32 = 1 << 20;

/// A device with more reads than this is busy: checksums of one are computed while others are on their way, in whole transfers.
const READS_IN_PARTS: usize = 4;

/// How a read ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The range's bytes.
    Hit(Verified),
    /// The block was evicted while it was read.
    Gone,
    /// A checksum failed, or what lies there is not this block.
    Corrupt,
    /// The device failed, or left service meanwhile.
    Failed(io::Error),
    /// The device did not answer in time.
    Late,
}

/// Bytes that match their checksums.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) bytes: Bytes,
    /// The memory they keep alive.
    pub(crate) memory: usize,
    /// The block's checksums.
    pub(crate) table: Arc<PageTable>,
}

/// What reads of all directories share.
pub(crate) struct Reader {
    pub(crate) pool: Pool,
    pub(crate) tables: Arc<Tables>,
}

impl Reader {
    /// Bytes of block `id`, which the index found at `at` in `dir`. `range` lies in the block and is not empty.
    pub(crate) async fn read(&self, dir: &Dir, id: BlockId, at: Location, range: BlockRange) -> Outcome {
        let outcome = self.attempt(dir, id, at, range).await;
        // Overwritten during the read: whatever came is not this block's, and no sign of damage either.
        if dir.is_current(&at) { outcome } else { Outcome::Gone }
    }

    async fn attempt(&self, dir: &Dir, id: BlockId, at: Location, range: BlockRange) -> Outcome {
        let record = Record { dir, id, at };
        let place = Place { start: at.start, data_off: at.data_off, len: at.len };
        let result = if place.is_packed() {
            let pages = BlockRange::WHOLE.clamp(at.len);
            self.pages(&record, None, pages, range).await
        } else {
            let page = dir.rules.page_bytes;
            let end = range.end.next_multiple_of(page).min(at.len);
            let pages = BlockRange { start: range.start - range.start % page, end };
            match self.tables.get(id, at) {
                Some(table) => self.pages(&record, Some(table), pages, range).await,
                None if pages.start < WITH_HEAD_BYTES => {
                    self.pages(&record, None, BlockRange { start: 0, ..pages }, range).await
                }
                None => self.beside_head(&record, pages, range).await,
            }
        };
        match result {
            Ok(Some(verified)) => Outcome::Hit(verified),
            Ok(None) => Outcome::Corrupt,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Outcome::Late,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// `pages`, checked by a table at hand; without one they start with the block, and the head before them is read along.
    async fn pages(
        &self,
        record: &Record<'_>,
        table: Option<Arc<PageTable>>,
        pages: BlockRange,
        range: BlockRange,
    ) -> Checked {
        let data = record.at.start + record.at.data_off + pages.start;
        let start = if table.is_some() { data } else { record.at.start - record.at.start % SECTOR };
        let lead = data - start;
        let turn = record.dir.turn(lead + pages.len()).await?;
        let mut check = Check { lead, pages, page: pages.start / record.dir.rules.page_bytes, table };
        let mut whole: Option<Buf> = None;
        for part in self.start(record, &turn, start, lead, pages.len()) {
            let part = part.await?;
            if !check.part(record, &part, |table| self.keep(record, table)) {
                return Ok(None);
            }
            whole = Some(match whole {
                None => part,
                Some(before) => before.join(part),
            });
        }
        let (Some(buf), Some(table)) = (whole, check.table) else { return Ok(None) };
        Ok(Some(slice(table, buf, lead + range.start - pages.start, range.len())))
    }

    /// The head and `pages` in two I/Os at once.
    async fn beside_head(&self, record: &Record<'_>, pages: BlockRange, range: BlockRange) -> Checked {
        let Location { start, data_off, .. } = record.at;
        let skip = start % SECTOR;
        let turn = record.dir.turn(skip + data_off + pages.len()).await?;
        let head = self.fetch(record, &turn, start - skip, skip + data_off);
        let body = self.fetch(record, &turn, start + data_off + pages.start, pages.len());
        let (head, body) = (head.await?, body.await?);
        let Some(table) = record.table(&head[skip as usize..]) else { return Ok(None) };
        self.keep(record, &table);
        let intact = table.matches(pages.start / table.page_bytes(), &body[..pages.len() as usize]);
        Ok(intact.then(|| slice(table, body, range.start - pages.start, range.len())))
    }

    /// Starts to read `lead` and then `len` bytes of the record's segment from `start`, in parts that end at a page.
    fn start(
        &self,
        record: &Record<'_>,
        turn: &Turn,
        start: u32,
        lead: u32,
        len: u32,
    ) -> Vec<impl Future<Output = io::Result<Buf>> + use<>> {
        let busy = record.dir.reads_under_way() > READS_IN_PARTS;
        let parts = if busy { 1 } else { (len / PART_BYTES).max(1) };
        let mut offset = record.dir.offset(record.at.segment, start);
        let mut rest = Some(self.pool.get((lead + len) as usize));
        let mut started = Vec::with_capacity(parts as usize);
        while let Some(buf) = rest.take() {
            let bytes = match started.len() as u32 + 1 {
                last if last == parts => u32::MAX,
                1 => lead + PART_BYTES,
                _ => PART_BYTES,
            };
            let (part, behind) = buf.split(bytes as usize);
            let next = offset + part.len() as u64;
            started.push(record.dir.device.read(offset, part, Arc::clone(turn)));
            (offset, rest) = (next, behind);
        }
        started
    }

    /// Bytes of the record's segment from `start`, a multiple of the sector; the buffer is rounded up to whole sectors.
    fn fetch(
        &self,
        record: &Record<'_>,
        turn: &Turn,
        start: u32,
        len: u32,
    ) -> impl Future<Output = io::Result<Buf>> + use<> {
        let offset = record.dir.offset(record.at.segment, start);
        record.dir.device.read(offset, self.pool.get(len as usize), Arc::clone(turn))
    }

    fn keep(&self, record: &Record<'_>, table: &Arc<PageTable>) {
        let Location { start, data_off, len, .. } = record.at;
        if !(Place { start, data_off, len }).is_packed() {
            self.tables.put(record.id, record.at, Arc::clone(table));
        }
    }
}

type Checked = io::Result<Option<Verified>>;

/// What is to be read.
struct Record<'a> {
    dir: &'a Dir,
    id: BlockId,
    at: Location,
}

impl Record<'_> {
    /// The page table in the record's head, if the head is intact and this block's.
    fn table(&self, head: &[u8]) -> Option<Arc<PageTable>> {
        let (head, table) = RecordHead::decode(head)?;
        let Location { generation, data_off, len, .. } = self.at;
        let same =
            head.id == self.id && head.segment_seq as u32 == generation && head.data_off == data_off && head.len == len;
        (same && head.page_bytes == self.dir.rules.page_bytes).then(|| Arc::new(table))
    }
}

/// Checks a read as its parts come, first to last.
struct Check {
    /// Bytes before the pages that have not come yet: the record's head and what is before it.
    lead: u32,
    /// Pages that have not come yet.
    pages: BlockRange,
    /// Number of the next page.
    page: u32,
    /// Known from the start or from the head in the first part.
    table: Option<Arc<PageTable>>,
}

impl Check {
    /// Whether the next part is what was stored; tells `found` a table that it had.
    fn part(&mut self, record: &Record<'_>, part: &[u8], found: impl FnOnce(&Arc<PageTable>)) -> bool {
        let lead = std::mem::take(&mut self.lead) as usize;
        if self.table.is_none() {
            let skip = (record.at.start % SECTOR) as usize;
            self.table = record.table(&part[skip..]);
            self.table.as_ref().map(found);
        }
        let Some(table) = &self.table else { return false };
        let bytes = &part[lead..part.len().min(lead + self.pages.len() as usize)];
        let page = self.page;
        self.pages.start += bytes.len() as u32;
        self.page += bytes.len() as u32 / table.page_bytes();
        table.matches(page, bytes)
    }
}

fn slice(table: Arc<PageTable>, buf: Buf, start: u32, len: u32) -> Verified {
    let memory = buf.capacity();
    let bytes = Bytes::from_owner(buf).slice(start as usize..(start + len) as usize);
    Verified { bytes, memory, table }
}
