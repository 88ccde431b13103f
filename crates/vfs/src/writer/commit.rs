//! Recording stored slices in the volume: one task for each file with pending writes.

use std::sync::Arc;

use futures::StreamExt;
use shoal_format::{Attr, Ino};
use shoal_meta::{ChunkSlices, MetaError, Written};
use shoal_runtime::clock;
use shoal_types::ErrorKind;

use super::{PATIENCE, pause};
use crate::inode::{Inode, Version};
use crate::vfs::Vfs;
use crate::write::{Failure, Front, Ready};
use crate::writers::Writers;

/// Records from which on a list may be what is full when the database says that something is.
const FULL_RECORDS_MIN: u32 = 2000;
/// Objects of one slice that are deleted at once.
const DELETES_AT_ONCE: usize = 8;

/// What became of slices that were to be recorded.
enum Outcome {
    /// They are in the volume.
    Done(Written),
    /// They are in the volume by an attempt whose answer was lost.
    DoneBefore,
    /// The volume refused them: their objects are of no use.
    Refused(MetaError),
    /// Nobody knows; their objects stay.
    Unknown(MetaError),
}

impl Vfs {
    /// Commits what `inode` has pending, in order, until nothing is.
    pub(super) async fn commit_pending(&self, writers: &Arc<Writers>, inode: &Arc<Inode>) {
        loop {
            let now = clock::now();
            let (front, uploads) = inode.writes.change(|state| {
                let uploads = state.pending.freeze_due(now);
                let front = state.pending.front();
                if matches!(front, Front::Empty) {
                    state.committing = false;
                    writers.delist(inode);
                }
                (front, uploads)
            });
            self.start_uploads(writers, inode, uploads);
            match front {
                Front::Commit(batch) => self.commit(writers, inode, batch).await,
                Front::Failed(slice) => self.delete_later(writers, slice),
                Front::Wait(until) => wait(inode, until).await,
                Front::Empty => return,
            }
        }
    }

    /// Records `batch`; where the volume refuses it, slice by slice, so that those it takes are kept.
    async fn commit(&self, writers: &Arc<Writers>, inode: &Arc<Inode>, batch: Vec<Ready>) {
        let mut outcome = self.record_patiently(writers, inode.ino, &batch).await;
        if let Outcome::Refused(MetaError::Database { kind: ErrorKind::NoSpace, .. }) = outcome {
            // A list that others made as long as the database takes.
            for chunk in by_chunk(inode.ino, &batch) {
                self.compact_now(inode.ino, chunk.index, FULL_RECORDS_MIN).await;
            }
            outcome = self.record_patiently(writers, inode.ino, &batch).await;
        }
        let refused = matches!(outcome, Outcome::Refused(_));
        if !refused || batch.len() == 1 {
            return self.settle(writers, inode, &batch, outcome).await;
        }
        for slice in batch {
            let one = [slice];
            let outcome = self.record_patiently(writers, inode.ino, &one).await;
            self.settle(writers, inode, &one, outcome).await;
        }
    }

    /// Takes note of what became of slices; they are not pending any more.
    async fn settle(&self, writers: &Arc<Writers>, inode: &Arc<Inode>, slices: &[Ready], outcome: Outcome) {
        match outcome {
            Outcome::Done(written) => {
                let chunks: Vec<u32> = slices.iter().map(|slice| slice.chunk).collect();
                self.changed_here(inode, Some(Version::of(&written.before)), &written.after, Some(&chunks));
                self.keep_short(inode.ino, &written.lists).await;
            }
            Outcome::DoneBefore => self.look_again(inode).await,
            Outcome::Refused(error) => {
                self.give_up(inode, &error);
                self.delete_blocks(writers, slices).await;
            }
            Outcome::Unknown(error) => self.give_up(inode, &error),
        }
        inode.writes.change(|state| state.pending.forget(slices));
    }

    /// A commit's answer was lost: what the file looks like is asked until somebody says.
    async fn look_again(&self, inode: &Arc<Inode>) {
        let began = clock::now();
        let mut attempt = 0;
        while clock::now().saturating_duration_since(began) < PATIENCE {
            match self.meta().getattr(inode.ino).await {
                Ok(Some(attr)) => return self.changed_here(inode, None, &attr, None),
                Ok(None) => return,
                Err(error) => tracing::warn!(ino = %inode.ino, %error, "a file's attributes cannot be read yet"),
            }
            attempt += 1;
            clock::sleep(pause(attempt)).await;
        }
        inode.forget_chunks();
    }

    fn give_up(&self, inode: &Inode, error: &MetaError) {
        if error.kind() == ErrorKind::NotFound {
            // It was removed while open elsewhere: what every network file system meets, and loses nothing anybody can name.
            tracing::debug!(ino = %inode.ino, "a file that was written is gone");
        } else {
            tracing::error!(ino = %inode.ino, %error, "bytes that were written cannot be recorded; they are lost");
        }
        let detail = error.to_string().into();
        self.lose(inode, Failure { kind: error.kind(), refusal: error.refusal(), detail });
    }

    /// Bytes that were written are given up: every handle is to hear of it, and whoever opens the file from now on is not to see them
    /// among the kernel's pages.
    pub(super) fn lose(&self, inode: &Inode, failure: Failure) {
        inode.writes.failed(failure);
        self.forget_seen(inode.ino);
    }

    async fn record_patiently(&self, writers: &Writers, ino: Ino, batch: &[Ready]) -> Outcome {
        let (chunks, mtime) = (by_chunk(ino, batch), batch.iter().map(|slice| slice.mtime).max().unwrap_or_default());
        let began = clock::now();
        let mut attempt = 0;
        // True once an attempt may have been committed although it failed.
        let mut unknown = false;
        loop {
            let error = match writers.session.write(ino, &chunks, mtime).await {
                Ok(written) => {
                    self.metrics().slices_committed.add(batch.len() as u64);
                    return Outcome::Done(written);
                }
                Err(MetaError::Taken { .. }) if unknown => return Outcome::DoneBefore,
                Err(error) => error,
            };
            let lasting = !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
            unknown |= !lasting && !matches!(error, MetaError::Contended { .. });
            if lasting && !unknown {
                return Outcome::Refused(error);
            }
            if lasting || clock::now().saturating_duration_since(began) >= PATIENCE {
                return Outcome::Unknown(error);
            }
            attempt += 1;
            tracing::warn!(%ino, attempt, %error, "written slices could not be recorded yet");
            clock::sleep(pause(attempt)).await;
        }
    }

    /// Removes the objects of slices that no record will ever name. What cannot be removed is left for `gc`.
    async fn delete_blocks(&self, writers: &Writers, slices: &[Ready]) {
        let records = slices.iter().map(|slice| slice.record).filter(|record| record.id != 0);
        let keys = records.flat_map(|record| self.block_names().keys(record.id, record.size)).collect();
        self.delete_objects(writers, keys).await;
    }

    /// Removes the objects of a slice of which one could not be stored, and does not hold up a flush for it: that store may be away.
    fn delete_later(&self, writers: &Arc<Writers>, slice: Ready) {
        let (vfs, writers) = (self.clone(), Arc::clone(writers));
        self.spawn("delete blocks", async move { vfs.delete_blocks(&writers, &[slice]).await });
    }

    /// Removes objects that no record names. Waited for: a process that ends meanwhile leaves them for ever.
    pub(super) async fn delete_objects(&self, writers: &Writers, keys: Vec<String>) {
        let delete = async |key: String| {
            if let Err(error) = writers.objects().delete(&key).await {
                tracing::debug!(key, %error, "an object nobody needs stays");
            }
        };
        futures::stream::iter(keys).for_each_concurrent(DELETES_AT_ONCE, delete).await;
    }

    /// This process changed the file: it looks like `after` now. If it looked like `before` until then and `chunks` are given, only
    /// those are other bytes.
    pub(crate) fn changed_here(&self, inode: &Inode, before: Option<Version>, after: &Attr, chunks: Option<&[u32]>) {
        let stamp = self.next_change();
        inode.changed_here(before, after, chunks, stamp);
        self.note_own_change(inode.ino, before, after);
    }
}

/// Waits until `inode`'s writes are to be looked at again.
async fn wait(inode: &Inode, until: Option<std::time::Instant>) {
    let woken = inode.writes.wake.notified();
    match until {
        Some(until) => {
            let left = until.saturating_duration_since(clock::now());
            // Either way the caller looks.
            let _ = clock::timeout(left, woken).await;
        }
        None => woken.await,
    }
}

/// The records of `batch` by chunk, each chunk's in order.
fn by_chunk(ino: Ino, batch: &[Ready]) -> Vec<ChunkSlices> {
    let mut chunks: Vec<ChunkSlices> = Vec::new();
    for slice in batch {
        match chunks.iter_mut().find(|chunk| chunk.index == slice.chunk) {
            Some(chunk) => chunk.slices.push(slice.record),
            None => chunks.push(ChunkSlices { ino, index: slice.chunk, slices: vec![slice.record] }),
        }
    }
    chunks
}
