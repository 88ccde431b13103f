//! Copying a range between files by reference: no byte is read or stored (spec section 24.9).

use std::collections::BTreeMap;

use async_trait::async_trait;
use shoal_format::{Attr, CHUNK_BYTES, Ino, PieceSource, SliceRecord, resolve};

use super::change::{Change, ChangeContext};
use super::length::{check_changeable, check_length, regular, resized};
use super::write::{Written, append};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::{ChunkSlices, SliceRef};

/// A range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRange {
    /// The file.
    pub ino: Ino,
    /// Its first byte.
    pub offset: u64,
}

/// Makes bytes of one file those of another.
pub(crate) struct CopyRange {
    pub(crate) from: FileRange,
    pub(crate) to: FileRange,
    pub(crate) len: u64,
}

#[async_trait]
impl Change for CopyRange {
    /// Bytes copied, and what the destination was and is; nothing is copied from behind the end of the source.
    type Output = (u64, Written);

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((u64, Written), Effects), MetaError> {
        let (from, to) = (self.from.ino, self.to.ino);
        let mut attrs = txn.attrs_locked(&[from, to]).await?.into_iter();
        let source = regular(from, attrs.next().flatten())?;
        let before = regular(to, attrs.next().flatten())?;
        check_changeable(to, &before)?;
        let len = self.len.min(source.length.saturating_sub(self.from.offset));
        if from == to && self.from.offset.abs_diff(self.to.offset) < len {
            return Err(MetaError::invalid("a range cannot be copied onto itself"));
        }
        if len == 0 {
            return Ok(((0, Written { after: before.clone(), before, lists: Vec::new() }), Effects::default()));
        }
        let length = before.length.max(self.to.offset.saturating_add(len));
        check_length(to, length)?;
        let copied = self.copied(txn, len).await?;
        let gone = txn.add_slice_refs(&references(&copied)).await?;
        if !gone.is_empty() {
            // Somebody compacted the source between our look at its lists and now.
            return Err(MetaError::Contended { at: format!("volume `{}`", context.settings.name) });
        }
        let lists = append(txn, &copied).await?;
        let after = Attr { length, mtime: context.now, ctime: context.now, ..before.clone() };
        txn.update_attrs(&[(to, after.clone())]).await?;
        let entry = || LogEntry::new("COPYFILERANGE").with(from).with(self.from.offset).with(to).with(self.to.offset);
        context.log(txn, || entry().with(len).result(length)).await?;
        let effects = resized(txn, to, &before, &after).await?;
        Ok(((len, Written { before, after, lists }), effects))
    }
}

impl CopyRange {
    /// Records that make `len` bytes of the destination those of the source.
    async fn copied(&self, txn: &dyn Txn, len: u64) -> Result<Vec<ChunkSlices>, MetaError> {
        let (start, end) = (self.from.offset, self.from.offset + len);
        let indexes = (start / CHUNK_BYTES) as u32..end.div_ceil(CHUNK_BYTES) as u32;
        let lists = txn.chunks(self.from.ino, indexes.clone()).await?;
        let lists: BTreeMap<u32, Vec<SliceRecord>> =
            lists.into_iter().map(|chunk| (chunk.index, chunk.slices)).collect();
        let mut out = Records { to: self.to.ino, chunks: BTreeMap::new() };
        for index in indexes {
            let base = u64::from(index) * CHUNK_BYTES;
            let (from, to) = (start.max(base), end.min(base + CHUNK_BYTES));
            let records = lists.get(&index).map_or(&[][..], Vec::as_slice);
            for (at, len, source) in visible(records, (from - base) as u32, (to - base) as u32) {
                out.put(self.to.offset + (base + u64::from(at) - start), len, source);
            }
        }
        Ok(out.chunks.into_values().collect())
    }
}

/// What `start..end` of a chunk shows, holes included: position, length, source.
fn visible(records: &[SliceRecord], start: u32, end: u32) -> Vec<(u32, u32, PieceSource)> {
    let mut found = Vec::new();
    let mut at = start;
    for piece in resolve(records) {
        let (from, to) = (piece.pos.max(start), (piece.pos + piece.len).min(end));
        if from >= to {
            continue;
        }
        if at < from {
            found.push((at, from - at, PieceSource::Hole));
        }
        let source = match piece.source {
            PieceSource::Hole => PieceSource::Hole,
            PieceSource::Slice { id, size, off } => PieceSource::Slice { id, size, off: off + (from - piece.pos) },
        };
        found.push((from, to - from, source));
        at = to;
    }
    if at < end {
        found.push((at, end - at, PieceSource::Hole));
    }
    found
}

/// Records of the destination by chunk.
struct Records {
    to: Ino,
    chunks: BTreeMap<u32, ChunkSlices>,
}

impl Records {
    /// Shows `len` bytes of `source` at byte `at` of the file, cut at chunk borders.
    fn put(&mut self, mut at: u64, len: u32, source: PieceSource) {
        let (mut left, mut done) = (len, 0);
        while left > 0 {
            let (index, pos) = ((at / CHUNK_BYTES) as u32, (at % CHUNK_BYTES) as u32);
            let len = left.min(CHUNK_BYTES as u32 - pos);
            let record = match source {
                PieceSource::Hole => SliceRecord::hole(pos, len),
                PieceSource::Slice { id, size, off } => SliceRecord { pos, id, size, off: off + done, len },
            };
            let chunk = ChunkSlices { ino: self.to, index, slices: Vec::new() };
            self.chunks.entry(index).or_insert(chunk).slices.push(record);
            (at, left, done) = (at + u64::from(len), left - len, done + len);
        }
    }
}

/// How often records name each slice.
pub(super) fn references(chunks: &[ChunkSlices]) -> Vec<SliceRef> {
    let mut counts: BTreeMap<(u64, u32), u32> = BTreeMap::new();
    for record in chunks.iter().flat_map(|chunk| &chunk.slices).filter(|record| record.id != 0) {
        *counts.entry((record.id, record.size)).or_default() += 1;
    }
    counts.into_iter().map(|((id, size), count)| SliceRef { id, size, count }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_range_shows_has_no_gap() {
        let records = [SliceRecord::whole(100, 1, 50), SliceRecord::hole(120, 10), SliceRecord::whole(200, 2, 10)];
        let slice = |id, size, off| PieceSource::Slice { id, size, off };
        let found = visible(&records, 110, 205);
        let want = [
            (110, 10, slice(1, 50, 10)),
            (120, 10, PieceSource::Hole),
            (130, 20, slice(1, 50, 30)),
            (150, 50, PieceSource::Hole),
            (200, 5, slice(2, 10, 0)),
        ];
        assert_eq!(found, want);
        assert_eq!(visible(&[], 3, 9), [(3, 6, PieceSource::Hole)]);
    }

    #[test]
    fn records_are_cut_at_the_chunks_of_the_destination() {
        let mut records = Records { to: Ino(5), chunks: BTreeMap::new() };
        records.put(CHUNK_BYTES - 10, 30, PieceSource::Slice { id: 7, size: 100, off: 5 });
        let chunks: Vec<ChunkSlices> = records.chunks.into_values().collect();
        let record = |pos, off, len| SliceRecord { pos, id: 7, size: 100, off, len };
        assert_eq!(chunks[0].slices, [record(CHUNK_BYTES as u32 - 10, 5, 10)]);
        assert_eq!((chunks[1].index, &chunks[1].slices[..]), (1, &[record(0, 15, 20)][..]));
        assert_eq!(references(&chunks), [SliceRef { id: 7, size: 100, count: 2 }]);
    }
}
