//! Reserving, punching and zeroing ranges of a file (spec section 24.8). Space is never reserved: objects are written when bytes are.

use async_trait::async_trait;
use shoal_format::{Attr, CHUNK_BYTES, Ino, SliceRecord};

use super::change::{Change, ChangeContext};
use super::length::{check_changeable, check_length, locked_file, resized};
use super::write::{Written, append};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::ChunkSlices;

/// What a range of a file becomes, as fallocate(2) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallocate {
    /// Bytes of the file: it grows to the end of the range.
    Extend,
    /// Nothing changes (space kept beyond the end, of which there is no such thing here).
    Keep,
    /// Zeros, up to the end of the file.
    Punch,
    /// Zeros; the file grows to the end of the range.
    Zero,
    /// Zeros, up to the end of the file.
    ZeroKeep,
}

impl Fallocate {
    /// The mode bits of fallocate(2).
    fn mode(self) -> u8 {
        match self {
            Fallocate::Extend => 0,
            Fallocate::Keep => 1,
            Fallocate::Punch => 3,
            Fallocate::Zero => 16,
            Fallocate::ZeroKeep => 17,
        }
    }
}

/// Changes a range of a file without writing bytes.
pub(crate) struct Allocate {
    pub(crate) ino: Ino,
    pub(crate) what: Fallocate,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

#[async_trait]
impl Change for Allocate {
    type Output = Written;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Written, Effects), MetaError> {
        let before = locked_file(txn, self.ino).await?;
        check_changeable(self.ino, &before)?;
        if self.len == 0 {
            return Err(MetaError::invalid("an empty range cannot be allocated"));
        }
        let end = self.offset.saturating_add(self.len);
        check_length(self.ino, end)?;
        let grows = matches!(self.what, Fallocate::Extend | Fallocate::Zero);
        let length = if grows { before.length.max(end) } else { before.length };
        let mut lists = Vec::new();
        if matches!(self.what, Fallocate::Punch | Fallocate::Zero | Fallocate::ZeroKeep) {
            lists = append(txn, &holes(self.ino, self.offset, end.min(before.length))).await?;
        }
        let after = Attr { length, mtime: context.now, ctime: context.now, ..before.clone() };
        txn.update_attrs(&[(self.ino, after.clone())]).await?;
        let entry =
            || LogEntry::new("FALLOCATE").with(self.ino).with(self.offset).with(self.len).with(self.what.mode());
        context.log(txn, entry).await?;
        let effects = resized(txn, self.ino, &before, &after).await?;
        Ok((Written { before, after, lists }, effects))
    }
}

/// Holes over `start..end` of a file, cut at chunk borders.
pub(super) fn holes(ino: Ino, start: u64, end: u64) -> Vec<ChunkSlices> {
    let mut holes = Vec::new();
    let mut at = start;
    while at < end {
        let (index, pos) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
        let len = (CHUNK_BYTES - pos).min(end - at);
        let record = SliceRecord::hole(pos as u32, len as u32);
        holes.push(ChunkSlices { ino, index: index as u32, slices: vec![record] });
        at += len;
    }
    holes
}
