//! Reads a range of a block from its directory: plans the I/O, checks what came, and says how it ended.
//!
//! A packed record is read whole. Of a larger one the pages that the range touches are read; if its page table is not at hand the
//! record's head is read too, in the same I/O when the range is near the block's start, else beside it. The result is a slice of the
//! buffer the device filled: nothing is copied.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use shoal_runtime::budget::Budget;
use shoal_types::{BlockId, BlockRange};

use super::dir::Dir;
use super::index::Location;
use super::layout::{Place, RecordHead, SECTOR};
use super::table::{PageTable, Tables};
use crate::io::buffer::{Buf, Pool};
use crate::io::device;

/// A range that starts within so many bytes of the block's start is read together with the head.
const WITH_HEAD_BYTES: u32 = 64 << 10;

/// How a read ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The bytes of the range, and how much memory they keep alive.
    Hit(Bytes, usize),
    /// The block was evicted while it was read.
    Gone,
    /// A checksum failed, or what lies there is not this block.
    Corrupt,
    /// The device failed.
    Failed(io::Error),
}

/// What reads of all directories share.
pub(crate) struct Reader {
    pub(crate) pool: Pool,
    pub(crate) tables: Arc<Tables>,
    /// Bounds the buffers of reads under way.
    pub(crate) budget: Budget,
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
            self.with_head(&record, BlockRange::WHOLE.clamp(at.len), range).await
        } else {
            let page = dir.rules.page_bytes;
            let end = range.end.next_multiple_of(page).min(at.len);
            let pages = BlockRange { start: range.start - range.start % page, end };
            match self.tables.get(id, at) {
                Some(table) => self.pages(&record, &table, pages, range).await,
                None if pages.start < WITH_HEAD_BYTES => {
                    self.with_head(&record, BlockRange { start: 0, ..pages }, range).await
                }
                None => self.beside_head(&record, pages, range).await,
            }
        };
        match result {
            Ok(Some((bytes, memory))) => Outcome::Hit(bytes, memory),
            Ok(None) => Outcome::Corrupt,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// One I/O from the record's start to the end of `pages`, which start with the block.
    async fn with_head(&self, record: &Record<'_>, pages: BlockRange, range: BlockRange) -> Checked {
        let skip = record.at.start % SECTOR;
        let span = skip + record.at.data_off + pages.end;
        let buf = self.fetch(record, record.at.start - skip, span).await?;
        let Some(table) = record.table(&buf[skip as usize..]) else { return Ok(None) };
        let data = skip + record.at.data_off;
        if !table.matches(0, &buf[data as usize..span as usize]) {
            return Ok(None);
        }
        self.keep(record, table);
        Ok(Some(slice(buf, data + range.start, range.len())))
    }

    /// The head and `pages` in two I/Os at once.
    async fn beside_head(&self, record: &Record<'_>, pages: BlockRange, range: BlockRange) -> Checked {
        let head = self.fetch(record, record.at.start, record.at.data_off);
        let body = self.fetch(record, record.at.start + record.at.data_off + pages.start, pages.len());
        let (head, body) = tokio::join!(head, body);
        let (head, body) = (head?, body?);
        let Some(table) = record.table(&head) else { return Ok(None) };
        let checked = check(&table, body, pages, range);
        self.keep(record, table);
        Ok(checked)
    }

    /// Only `pages`, checked by a table at hand.
    async fn pages(&self, record: &Record<'_>, table: &PageTable, pages: BlockRange, range: BlockRange) -> Checked {
        let body = self.fetch(record, record.at.start + record.at.data_off + pages.start, pages.len()).await?;
        Ok(check(table, body, pages, range))
    }

    /// Bytes of the record's segment from `start`, a multiple of the sector; the buffer is rounded up to whole sectors.
    async fn fetch(&self, record: &Record<'_>, start: u32, len: u32) -> io::Result<Buf> {
        let _bytes = self.budget.acquire(len.into()).await;
        let _turn = record.dir.reads.acquire().await.map_err(io::Error::other)?;
        let offset = record.dir.offset(record.at.segment, start);
        device::read(&*record.dir.device, offset, self.pool.get(len as usize)).await
    }

    fn keep(&self, record: &Record<'_>, table: PageTable) {
        if table.crcs.len() > 1 && record.at.data_off >= SECTOR {
            self.tables.put(record.id, record.at, Arc::new(table));
        }
    }
}

type Checked = io::Result<Option<(Bytes, usize)>>;

/// What is to be read.
struct Record<'a> {
    dir: &'a Dir,
    id: BlockId,
    at: Location,
}

impl Record<'_> {
    /// The page table in the record's head, if the head is intact and this block's.
    fn table(&self, head: &[u8]) -> Option<PageTable> {
        let (head, table) = RecordHead::decode(head)?;
        let Location { generation, data_off, len, .. } = self.at;
        let same =
            head.id == self.id && head.segment_seq as u32 == generation && head.data_off == data_off && head.len == len;
        (same && head.page_bytes == self.dir.rules.page_bytes).then_some(table)
    }
}

/// `range` of `body`, which holds `pages`, if it matches the table.
fn check(table: &PageTable, body: Buf, pages: BlockRange, range: BlockRange) -> Option<(Bytes, usize)> {
    let first = pages.start / table.page_bytes;
    let intact = table.matches(first, &body[..pages.len() as usize]);
    intact.then(|| slice(body, range.start - pages.start, range.len()))
}

fn slice(buf: Buf, start: u32, len: u32) -> (Bytes, usize) {
    let memory = buf.capacity();
    (Bytes::from_owner(buf).slice(start as usize..(start + len) as usize), memory)
}
