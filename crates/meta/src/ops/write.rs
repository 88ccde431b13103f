//! Recording slices that were written (spec section 24.3).

use async_trait::async_trait;
use shoal_format::{Attr, CHUNK_BYTES, Ino, SliceRecord, Time};

use super::change::{Change, ChangeContext};
use super::length::{check_length, locked_file, resized};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{Foreseen, Txn};
use crate::error::MetaError;
use crate::record::{ChunkSlices, SliceRef};

/// What a file was and is after its contents changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its attributes before.
    pub before: Attr,
    /// Its attributes now.
    pub after: Attr,
    /// How long the lists are that grew: the first [`LISTS_COUNTED`] of them.
    pub lists: Vec<ListLength>,
}

/// How many records a chunk's list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListLength {
    /// The chunk.
    pub index: u32,
    /// Its records now.
    pub records: u32,
    /// How many of them came with this change.
    pub added: u32,
}

/// Lists whose length a change asks for, at most: a cut may add a hole to each chunk of a huge file.
const LISTS_COUNTED: usize = 8;

/// Appends to chunk lists; gives how long the first of them are then.
pub(super) async fn append(txn: &dyn Txn, chunks: &[ChunkSlices]) -> Result<Vec<ListLength>, MetaError> {
    let lists = lengths(txn, chunks).await?;
    txn.append_slices(chunks).await?;
    Ok(lists)
}

/// How long the first of the lists will be to which `chunks`, one for each, are appended.
async fn lengths(txn: &dyn Txn, chunks: &[ChunkSlices]) -> Result<Vec<ListLength>, MetaError> {
    let mut lists = Vec::new();
    for ChunkSlices { ino, index, slices } in chunks.iter().take(LISTS_COUNTED) {
        let (before, added) = (txn.slice_count(*ino, *index).await?, slices.len() as u32);
        lists.push(ListLength { index: *index, records: before + added, added });
    }
    Ok(lists)
}

/// Appends the records of fresh slices to a file's lists.
pub(crate) struct Write<'a> {
    pub(crate) ino: Ino,
    /// One entry for each chunk.
    pub(crate) chunks: &'a [ChunkSlices],
    pub(crate) mtime: Time,
}

#[async_trait]
impl Change for Write<'_> {
    type Output = Written;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Written, Effects), MetaError> {
        let counts = self.chunks.iter().take(LISTS_COUNTED).map(|chunk| Foreseen::SliceCount(chunk.ino, chunk.index));
        let foreseen: Vec<_> = std::iter::once(Foreseen::Locked(self.ino)).chain(counts).collect();
        txn.foresee(&foreseen).await?;
        let before = locked_file(txn, self.ino).await?;
        let lists = lengths(txn, self.chunks).await?;
        let end = self.chunks.iter().flat_map(|chunk| chunk.slices.iter().map(|record| end(chunk.index, record)));
        let length = end.max().unwrap_or(0).max(before.length);
        check_length(self.ino, length)?;
        txn.insert_slice_refs(&self.refs()).await?;
        txn.append_slices(self.chunks).await?;
        log_slices(txn, context, self.chunks, self.mtime).await?;
        let after = Attr { length, mtime: self.mtime, ctime: context.now, ..before.clone() };
        txn.update_attrs(&[(self.ino, after.clone())]).await?;
        let effects = resized(txn, self.ino, &before, &after).await?;
        Ok((Written { before, after, lists }, effects))
    }
}

impl Write<'_> {
    /// One reference for each slice.
    fn refs(&self) -> Vec<SliceRef> {
        let records = self.chunks.iter().flat_map(|chunk| &chunk.slices);
        records.map(|record| SliceRef { id: record.id, size: record.size, count: 1 }).collect()
    }
}

/// Logs each record that was appended, with the length of its list then.
async fn log_slices(
    txn: &dyn Txn,
    context: &ChangeContext,
    chunks: &[ChunkSlices],
    mtime: Time,
) -> Result<(), MetaError> {
    if !context.settings.change_log {
        return Ok(());
    }
    for ChunkSlices { ino, index, slices } in chunks {
        let length = txn.slices(*ino, *index).await?.len();
        for (behind, record) in slices.iter().enumerate() {
            context
                .log(txn, || written(*ino, *index, record, mtime).result(length + 1 + behind - slices.len()))
                .await?;
        }
    }
    Ok(())
}

/// The log entry of one record, without its result.
pub(super) fn written(ino: Ino, index: u32, record: &SliceRecord, mtime: Time) -> LogEntry {
    let entry = LogEntry::new("WRITE").with(ino).with(index).with(record.pos).with(record.id).with(record.len);
    entry.with(mtime.secs).with(mtime.nanos)
}

/// One past the last byte of a record in its file.
fn end(index: u32, record: &SliceRecord) -> u64 {
    u64::from(index) * CHUNK_BYTES + u64::from(record.pos) + u64::from(record.len)
}
