//! Writes of chunk lists and of the slices they name (spec sections 9 to 11).

use async_trait::async_trait;
use shoal_format::{Ino, SliceRecord};

use super::removal::DeletedFile;
use crate::error::MetaError;
use crate::record::{ChunkSlices, DelayedSlices, SliceRef};

/// Writes what the contents of files are made of.
///
/// Whoever changes a file's lists has locked its attributes, or knows that it has none any more. Only
/// [`DataTxn::replace_slices`] needs no lock: it changes nothing where the list is not what the caller read.
#[async_trait]
pub trait DataTxn: Send + Sync {
    /// Appends to chunk lists.
    async fn append_slices(&self, chunks: &[ChunkSlices]) -> Result<(), MetaError>;
    /// Puts `new` in the place of the first records of a list, if they are still `old`. False, and nothing changed, if not.
    async fn replace_slices(
        &self,
        ino: Ino,
        index: u32,
        old: &[SliceRecord],
        new: &[SliceRecord],
    ) -> Result<bool, MetaError>;
    /// Removes chunk lists of a deleted file, at most `limit` of them, whichever; gives what they held. Fewer mean that there are
    /// no more. Some may lie behind its length: it was longer once.
    async fn take_chunks(&self, file: &DeletedFile, limit: usize) -> Result<Vec<ChunkSlices>, MetaError>;
    /// Reference counts of slices that no list named before. `Conflict` names the first that exists, where the engine has a record
    /// of a slice with one reference (Redis has none).
    async fn insert_slice_refs(&self, refs: &[SliceRef]) -> Result<(), MetaError>;
    /// `count` more references to each slice that has any; gives those that have none, or are not known where all are: whoever read their
    /// records did so before somebody dropped them.
    async fn add_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError>;
    /// `count` references fewer to each slice; gives the slices that have none left. Their records stay, so that whoever
    /// deletes their objects can be found out not to have done so, until [`DataTxn::forget_slices`].
    async fn drop_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError>;
    /// Slices without a reference whose objects may still be there, at most `limit`.
    async fn dead_slices(&self, limit: usize) -> Result<Vec<SliceRef>, MetaError>;
    /// Removes the records of slices whose objects are deleted. One that has references again stays.
    async fn forget_slices(&self, slices: &[SliceRef]) -> Result<(), MetaError>;
    /// Records slices whose references are dropped later.
    async fn insert_delayed(&self, delayed: &DelayedSlices) -> Result<(), MetaError>;
    /// Records of [`DataTxn::insert_delayed`] older than `before` (unix seconds), at most `limit`, oldest first.
    async fn delayed_before(&self, before: i64, limit: usize) -> Result<Vec<DelayedSlices>, MetaError>;
    /// Removes such a record. False if it is gone.
    async fn remove_delayed(&self, delayed: &DelayedSlices) -> Result<bool, MetaError>;
}
