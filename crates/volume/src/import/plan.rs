//! Gives inodes out, starts uploads, commits batches in walk order.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shoal_format::{FileType, Ino};
use shoal_meta::{ImportBatch, ImportEntry, ImportLink};
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use super::ImportReport;
use super::progress::Counts;
use super::scan::Found;
use super::upload::{Stored, Uploader};
use crate::error::VolumeError;
use crate::open::Volume;

/// Entries a transaction holds: large enough to spread its cost, small enough to leave other clients their turn.
const BATCH_ENTRIES: usize = 1000;

/// Batches whose uploads may run at once; the oldest is committed first.
const BATCHES_AHEAD: usize = 4;

/// Files open at once.
const FILES_OPEN: usize = 64;

/// An entry whose content is on its way.
struct Pending {
    entry: ImportEntry,
    content: Option<Upload>,
}

/// A directory of the volume that gets entries.
#[derive(Clone, Copy)]
struct Dir {
    ino: Ino,
    /// True if it was there before this import: it may hold names already.
    existed: bool,
}

/// A running upload; dropped, it ends.
struct Upload(JoinHandle<Result<Stored, VolumeError>>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Batch {
    entries: Vec<Pending>,
    links: Vec<ImportLink>,
}

pub(crate) struct Planner<'a> {
    volume: &'a Volume,
    uploader: Arc<Uploader>,
    counts: Arc<Counts>,
    shutdown: Shutdown,
    open_files: Arc<Semaphore>,
    inodes: Range<u64>,
    /// First inode taken.
    first_inode: Option<Ino>,
    /// Each directory by its number in the walk.
    dirs: Vec<Dir>,
    /// That of the directory everything goes to.
    tier: u8,
    skip_existing: bool,
    /// Inode of each file with several names, by its device and inode in the source.
    shared: HashMap<(u64, u64), Ino>,
    batches: VecDeque<Batch>,
    report: ImportReport,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(
        volume: &'a Volume,
        (root, tier): (Ino, u8),
        skip_existing: bool,
        uploader: Arc<Uploader>,
        counts: Arc<Counts>,
        shutdown: Shutdown,
    ) -> Planner<'a> {
        Planner {
            volume,
            uploader,
            counts,
            shutdown,
            open_files: Arc::new(Semaphore::new(FILES_OPEN)),
            inodes: 0..0,
            first_inode: None,
            tier,
            dirs: vec![Dir { ino: root, existed: true }],
            skip_existing,
            shared: HashMap::new(),
            batches: VecDeque::from([Batch::default()]),
            report: ImportReport::default(),
        }
    }

    /// Takes everything found into the volume.
    pub(crate) async fn run(
        mut self,
        mut found: mpsc::Receiver<Result<Found, VolumeError>>,
    ) -> Result<ImportReport, VolumeError> {
        while let Some(found) = found.recv().await {
            self.take(found?).await?;
            if self.batches.back().is_some_and(|batch| batch.entries.len() + batch.links.len() >= BATCH_ENTRIES) {
                self.batches.push_back(Batch::default());
                while self.batches.len() > BATCHES_AHEAD {
                    self.commit_oldest().await?;
                }
            }
            if self.shutdown.is_triggered() {
                break;
            }
        }
        while !self.batches.is_empty() && !self.shutdown.is_triggered() {
            self.commit_oldest().await?;
        }
        if self.shutdown.is_triggered() {
            return Err(self.stopped());
        }
        self.report.objects = self.counts.objects.load(Ordering::Relaxed);
        Ok(self.report)
    }

    async fn take(&mut self, found: Found) -> Result<(), VolumeError> {
        let Dir { ino: parent, existed } = self.dirs[found.dir];
        if self.skip_existing && existed && self.is_there(parent, &found).await? {
            return Ok(());
        }
        if let Some(&ino) = found.shared.and_then(|shared| self.shared.get(&shared)) {
            self.newest().links.push(ImportLink { parent, name: found.name, ino });
            return Ok(());
        }
        let ino = self.next_inode().await?;
        if let Some(shared) = found.shared {
            self.shared.insert(shared, ino);
        }
        if found.attr.kind == FileType::Directory {
            self.dirs.push(Dir { ino, existed: false });
        }
        let content = match found.attr.kind == FileType::Regular && found.attr.length > 0 {
            true => {
                let turn = tokio::select! {
                    turn = self.open_files.clone().acquire_owned() => turn.expect("the semaphore is never closed"),
                    () = self.shutdown.wait() => return Err(self.stopped()),
                };
                Some(self.start_upload(found.path, turn))
            }
            false => None,
        };
        let mut attr = found.attr;
        attr.parent = parent;
        attr.tier = self.tier;
        let entry = ImportEntry {
            parent,
            name: found.name,
            ino,
            attr,
            symlink: found.symlink,
            xattrs: found.xattrs,
            chunks: Vec::new(),
        };
        self.newest().entries.push(Pending { entry, content });
        Ok(())
    }

    /// True if the volume has `found` already, which is then passed over: a directory is filled up, anything else has the same type,
    /// length and mtime. Another thing of that name is left for the commit to refuse.
    async fn is_there(&mut self, parent: Ino, found: &Found) -> Result<bool, VolumeError> {
        let Some((ino, attr)) = self.volume.meta.lookup(parent, &found.name).await? else { return Ok(false) };
        let is_dir = attr.kind == FileType::Directory;
        let same = (attr.length, attr.mtime) == (found.attr.length, found.attr.mtime);
        if attr.kind != found.attr.kind || !(is_dir || same) {
            return Ok(false);
        }
        if is_dir {
            self.dirs.push(Dir { ino, existed: true });
            return Ok(true);
        }
        if let Some(shared) = found.shared {
            self.shared.insert(shared, ino);
        }
        self.report.skipped += 1;
        if attr.kind == FileType::Regular {
            self.counts.files.fetch_add(1, Ordering::Relaxed);
            self.counts.bytes.fetch_add(attr.length, Ordering::Relaxed);
        }
        Ok(true)
    }

    fn stopped(&self) -> VolumeError {
        VolumeError::Stopped { files: self.report.files }
    }

    fn newest(&mut self) -> &mut Batch {
        if self.batches.is_empty() {
            self.batches.push_back(Batch::default());
        }
        let last = self.batches.len() - 1;
        &mut self.batches[last]
    }

    fn start_upload(&self, path: std::path::PathBuf, turn: OwnedSemaphorePermit) -> Upload {
        let uploader = self.uploader.clone();
        Upload(task::spawn("import file", async move {
            let stored = uploader.store(path).await;
            drop(turn);
            stored
        }))
    }

    async fn next_inode(&mut self) -> Result<Ino, VolumeError> {
        if self.inodes.is_empty() {
            self.inodes = self.volume.meta.alloc_inodes(BATCH_ENTRIES as u64).await?;
            self.first_inode.get_or_insert(Ino(self.inodes.start));
        }
        self.inodes.next().map(Ino).ok_or(VolumeError::Lost { what: "inode numbers" })
    }

    /// Waits for the oldest batch's content, then writes its records in one transaction.
    async fn commit_oldest(&mut self) -> Result<(), VolumeError> {
        let Some(batch) = self.batches.pop_front() else { return Ok(()) };
        let mut entries = Vec::with_capacity(batch.entries.len());
        let mut done = ImportReport::default();
        for pending in batch.entries {
            let mut entry = pending.entry;
            if let Some(mut upload) = pending.content {
                let ended = tokio::select! {
                    ended = &mut upload.0 => ended,
                    () = self.shutdown.wait() => return Err(self.stopped()),
                };
                let stored = ended.map_err(|_| VolumeError::Lost { what: "an upload" })??;
                entry.attr.length = stored.length;
                entry.chunks = stored.chunks;
            }
            match entry.attr.kind {
                FileType::Regular => {
                    done.files += 1;
                    done.bytes += entry.attr.length;
                }
                FileType::Directory => done.dirs += 1,
                _ => done.others += 1,
            }
            entries.push(entry);
        }
        done.links = batch.links.len() as u64;
        if entries.is_empty() && batch.links.is_empty() {
            return Ok(());
        }
        // No record may outlive a loss of power that its objects do not.
        self.volume.tiers.sync().await?;
        self.volume.meta.import(ImportBatch { entries, links: batch.links, first_inode: self.first_inode }).await?;
        self.counts.files.fetch_add(done.files, Ordering::Relaxed);
        self.report.files += done.files;
        self.report.dirs += done.dirs;
        self.report.others += done.others;
        self.report.links += done.links;
        self.report.bytes += done.bytes;
        Ok(())
    }
}
