//! Changes of contents that write no bytes: each waits for the writes before it, and those after it wait.

use std::sync::Arc;

use shoal_format::{Attr, Ino};
use shoal_meta::{Fallocate, FileRange, MetaError, Written};

use crate::error::VfsError;
use crate::inode::{Inode, Version};
use crate::vfs::Vfs;
use crate::writers::Writers;

impl Vfs {
    /// Sets the length of regular file `ino`; what it grows by reads as zeros. Gives its attribute then.
    ///
    /// Errors: `NotFound`; `Invalid` for what is no regular file, or a length no file has; `Denied` for one that must not change;
    /// `NoSpace`.
    pub async fn truncate(&self, ino: Ino, length: u64) -> Result<Attr, VfsError> {
        let writers = self.writers_or_refuse()?;
        let work = async || writers.session.truncate(ino, length).await;
        Ok(self.change_contents(ino, work).await?.after)
    }

    /// Changes `len` bytes of regular file `ino` from `offset` without writing them. Errors: as [`Vfs::truncate`].
    pub async fn fallocate(&self, ino: Ino, what: Fallocate, offset: u64, len: u64) -> Result<(), VfsError> {
        let writers = self.writers_or_refuse()?;
        let work = async || writers.session.fallocate(ino, what, offset, len).await;
        self.change_contents(ino, work).await.map(drop)
    }

    /// Makes `len` bytes of `to` those of `from`, without reading them; gives how many there were.
    ///
    /// Errors: as [`Vfs::truncate`]; `Invalid` for ranges of one file that overlap.
    pub async fn copy_range(&self, from: FileRange, to: FileRange, len: u64) -> Result<u64, VfsError> {
        let writers = self.writers_or_refuse()?;
        if from.ino != to.ino {
            self.flush_inode(from.ino).await;
        }
        let mut copied = 0;
        let work = async || {
            let (bytes, written) = writers.session.copy_range(from, to, len).await?;
            copied = bytes;
            Ok(written)
        };
        self.change_contents(to.ino, work).await?;
        Ok(copied)
    }

    pub(crate) fn writers_or_refuse(&self) -> Result<&Arc<Writers>, VfsError> {
        self.writers().ok_or_else(|| VfsError::Meta(MetaError::ReadOnly { at: self.meta().name().to_owned() }))
    }

    /// Runs `work` while nothing is pending of `ino` and nobody writes to it here, and takes its result in.
    async fn change_contents(
        &self,
        ino: Ino,
        work: impl AsyncFnOnce() -> Result<Written, MetaError>,
    ) -> Result<Written, VfsError> {
        let written = match self.open_inode(ino) {
            Some(inode) => {
                let _gate = inode.writes.gate.write().await;
                self.drain(&inode).await;
                let written = work().await;
                self.take_in(&inode, &written);
                written?
            }
            None => work().await?,
        };
        self.keep_short(ino, &written.lists).await;
        Ok(written)
    }

    fn take_in(&self, inode: &Inode, written: &Result<Written, MetaError>) {
        match written {
            Ok(written) => self.changed_here(inode, Some(Version::of(&written.before)), &written.after, None),
            // It may have happened all the same.
            Err(_) => inode.forget_chunks(),
        }
    }
}
