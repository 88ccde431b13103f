//! What a session does to the contents of files.

use shoal_format::{Ino, Time};

use super::Session;
use crate::error::MetaError;
use crate::ops::{
    Allocate, Compact, CompactPlan, Compacted, CopyRange, Fallocate, FileRange, ForgetSlices, Truncate, Write, Written,
};
use crate::record::{ChunkSlices, SliceRef};

impl Session {
    /// Records slices whose objects are stored, one entry of `chunks` for each chunk; the file was written to last at `mtime`.
    ///
    /// Errors: `NotFound` if the file is gone, `NoSpace`; nothing is recorded then. `Conflict` ([`MetaError::Taken`]) if one of the
    /// slices is recorded already: what an attempt meets whose predecessor's answer was lost.
    pub async fn write(&self, ino: Ino, chunks: &[ChunkSlices], mtime: Time) -> Result<Written, MetaError> {
        self.change(&Write { ino, chunks, mtime }).await
    }

    /// Sets the length of a file; what it grows by reads as zeros.
    ///
    /// Errors: `NotFound`, `Invalid` for what is no regular file or too long, `Denied` for one that must not change, `NoSpace`.
    pub async fn truncate(&self, ino: Ino, length: u64) -> Result<Written, MetaError> {
        self.change(&Truncate { ino, length }).await
    }

    /// Changes `len` bytes of a file from `offset` without writing them. Errors: as [`Session::truncate`].
    pub async fn fallocate(&self, ino: Ino, what: Fallocate, offset: u64, len: u64) -> Result<Written, MetaError> {
        self.change(&Allocate { ino, what, offset, len }).await
    }

    /// Makes `len` bytes of `to` those of `from`, by reference. Gives how many there were, and what `to` was and is.
    ///
    /// Errors: as [`Session::truncate`]; `Invalid` for ranges of one file that overlap.
    pub async fn copy_range(&self, from: FileRange, to: FileRange, len: u64) -> Result<(u64, Written), MetaError> {
        self.change(&CopyRange { from, to, len }).await
    }

    /// Exchanges the records of chunk `index` that `plan` replaces for one that names slice `id`: its blocks are stored and hold what
    /// those records show from [`CompactPlan::pos`] on.
    ///
    /// Errors: `NotFound` if the file is gone.
    pub async fn compact(&self, ino: Ino, index: u32, plan: &CompactPlan, id: u64) -> Result<Compacted, MetaError> {
        self.change(&Compact { ino, index, plan, id }).await
    }

    /// Removes the records of slices that nothing names and whose objects are deleted.
    pub async fn forget_slices(&self, slices: &[SliceRef]) -> Result<(), MetaError> {
        self.change(&ForgetSlices { slices }).await
    }
}
