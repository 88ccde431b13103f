//! Writing files: into memory, from there into objects, from there into the volume's metadata.
//!
//! Objects first, then the record, and no object is ever written twice (spec section 28.1). What cannot be stored or recorded is
//! dropped after [`PATIENCE`] and reported to every handle that has the file open, once, as the kernel reports failed writeback.

mod commit;
mod compact;
mod resize;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use shoal_format::{Attr, Ino, MAX_FILE_BYTES, Time};
use shoal_runtime::budget::Permit;
use shoal_runtime::clock;

use crate::error::VfsError;
use crate::inode::Inode;
use crate::open_file::OpenFile;
use crate::reader::chunk_spans;
use crate::vfs::Vfs;
use crate::writers::Writers;

/// How long storing a block or recording a slice is tried, counted from the first failure. Real clients give up a flush after as
/// long; an object store's own retries come on top.
const PATIENCE: Duration = Duration::from_secs(300);
/// Pause before a failed step is tried again, times the attempt.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Pause before attempt `attempt`, from 1.
fn pause(attempt: u32) -> Duration {
    (PAUSE * attempt).min(PAUSE_MAX)
}

impl Vfs {
    /// Takes `data` in at `offset` if that needs no waiting: the path a FUSE thread takes without leaving its thread. `None`: use
    /// [`Vfs::write`].
    ///
    /// Errors: as [`Vfs::write`].
    pub fn try_write(&self, file: &OpenFile, offset: u64, data: &[u8]) -> Option<Result<u32, VfsError>> {
        let writers = match self.check_write(file, offset, data.len()) {
            Ok(writers) => writers,
            Err(error) => return Some(Err(error)),
        };
        let _gate = file.inode.writes.gate.try_read().ok()?;
        if file.inode.writes.is_full() {
            return None;
        }
        let memory = writers.try_room(data.len() as u64)?;
        self.put(writers, &file.inode, offset, data, memory);
        Some(Ok(data.len() as u32))
    }

    /// Writes `data` at `offset`; all of it is taken in. Other handles of this process see it at once, other clients after a
    /// flush or some seconds.
    ///
    /// Waits while memory for writes is short. Errors: what became of earlier writes, once for each handle; `Denied` on a volume
    /// opened for reading; `Invalid` past the largest file. Cancel-safe until it has returned.
    pub async fn write(&self, file: &OpenFile, offset: u64, data: &[u8]) -> Result<u32, VfsError> {
        let writers = self.check_write(file, offset, data.len())?;
        let _gate = file.inode.writes.gate.read().await;
        file.inode.writes.wait_room().await;
        let memory = writers.room(data.len() as u64, |files| self.press(writers, files)).await;
        self.put(writers, &file.inode, offset, data, memory);
        Ok(data.len() as u32)
    }

    /// Returns once everything written to the file before is in the volume: what `close` promises.
    ///
    /// Errors: what became of writes that could not be stored or recorded, once for each handle.
    pub async fn flush(&self, file: &OpenFile) -> Result<(), VfsError> {
        self.drain(&file.inode).await;
        file.failure().map_or(Ok(()), Err)
    }

    /// Waits until what the volume holds outlives a loss of power: objects, then what names them. Errors: a disk refuses.
    pub async fn sync(&self) -> Result<(), VfsError> {
        let Some(writers) = self.writers() else { return Ok(()) };
        writers.tiers.sync().await?;
        Ok(self.meta().sync().await?)
    }

    /// [`Vfs::flush`] of whatever handles `ino` has open here; what failed is told to them, not to the caller.
    pub async fn flush_inode(&self, ino: Ino) {
        if let Some(inode) = self.open_inode(ino) {
            self.drain(&inode).await;
        }
    }

    /// [`Vfs::flush_inode`] of every file: before the process ends.
    pub async fn flush_all(&self) {
        let Some(writers) = self.writers() else { return };
        for inode in writers.files() {
            self.drain(&inode).await;
        }
        writers.compactions_ended().await;
    }

    /// The attribute as programs are to see it: bytes written here count before they are in the volume.
    pub(crate) fn with_pending(&self, ino: Ino, mut attr: Attr) -> Attr {
        let pending = self.open_inode(ino).and_then(|inode| inode.writes.end_and_time());
        if let Some((end, time)) = pending {
            attr.length = attr.length.max(end);
            attr.mtime = attr.mtime.max(time);
            attr.ctime = attr.ctime.max(time);
        }
        attr
    }

    fn check_write(&self, file: &OpenFile, offset: u64, len: usize) -> Result<&Arc<Writers>, VfsError> {
        if let Some(error) = file.failure() {
            return Err(error);
        }
        if offset.saturating_add(len as u64) > MAX_FILE_BYTES {
            return Err(VfsError::TooLarge { ino: file.inode.ino });
        }
        self.writers_or_refuse()
    }

    fn put(&self, writers: &Arc<Writers>, inode: &Arc<Inode>, offset: u64, data: &[u8], mut memory: Permit) {
        if data.is_empty() {
            return;
        }
        let times = (clock::now(), Time::since_epoch(clock::unix_now()));
        let (uploads, begins, grown) = inode.writes.change(|state| {
            let before = state.pending.next();
            let mut uploads = Vec::new();
            for (chunk, from, to, at) in chunk_spans(offset, offset + data.len() as u64) {
                let part = &data[at..at + (to - from) as usize];
                uploads.extend(state.pending.write(chunk, from, part, &mut memory, times));
            }
            let begins = !std::mem::replace(&mut state.committing, true);
            if begins {
                writers.enlist(inode);
            }
            (uploads, begins, state.pending.next() != before)
        });
        self.metrics().write_bytes.add(data.len() as u64);
        self.start_uploads(writers, inode, uploads);
        if begins {
            let (vfs, writers, inode) = (self.clone(), Arc::clone(writers), Arc::clone(inode));
            self.spawn("commit", async move { vfs.commit_pending(&writers, &inode).await });
        } else if grown {
            inode.writes.wake.notify_one();
        }
    }

    /// Lets files store what they hold open, because memory is short and nothing on its way would free any.
    pub(crate) fn press(&self, writers: &Arc<Writers>, files: Vec<Arc<Inode>>) {
        for inode in files {
            let uploads = inode.writes.change(|state| state.pending.freeze_all());
            self.start_uploads(writers, &inode, uploads);
            inode.writes.wake.notify_one();
        }
    }

    /// Waits until nothing that was written to `inode` before is pending.
    pub(crate) async fn drain(&self, inode: &Arc<Inode>) {
        let Some(writers) = self.writers() else { return };
        if !inode.writes.any() {
            return;
        }
        let (uploads, target) = inode.writes.change(|state| (state.pending.freeze_all(), state.pending.next()));
        self.start_uploads(writers, inode, uploads);
        inode.writes.wake.notify_one();
        inode.writes.wait_done(target).await;
    }
}
