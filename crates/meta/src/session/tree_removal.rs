//! Removing a directory with everything below it, many names at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_format::{FileType, Ino};

use super::Session;
use super::parallel::run_jobs;
use crate::error::{MetaError, Refusal};
use crate::name::TRASH;
use crate::ops::{Caller, Remains, Removal, UnlinkMany};

/// Names removed in one transaction: as many as cost some milliseconds.
const NAMES_PER_TXN: usize = 100;
/// Entries of one directory that are removed before more of it are listed.
const PAGE: usize = 1000;
/// How often a directory in which others make names is looked at again.
const LOOKS_MAX: usize = 5;

/// What becomes of what is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrashUse {
    /// As the volume says: its trash keeps it, if it has one.
    AsSet,
    /// It is deleted at once. Root only.
    Skip,
}

/// How a tree is removed.
pub struct TreeRemoval<'a> {
    /// On whose behalf: every step is checked.
    pub caller: &'a Caller,
    /// Where it goes.
    pub trash: TrashUse,
    /// Transactions at once.
    pub at_once: usize,
    /// Counts what is removed.
    pub removed: &'a AtomicU64,
}

/// A directory that is emptied.
struct Dir {
    ino: Ino,
    name: Bytes,
    above: Option<Arc<Dir>>,
    /// Jobs of it that are not done, each sub-directory being one.
    open: AtomicUsize,
    /// The last name looked at; `None` once all are.
    after: Mutex<Option<Bytes>>,
    looks: AtomicUsize,
}

impl Dir {
    fn new(ino: Ino, name: Bytes, above: Option<Arc<Dir>>) -> Arc<Dir> {
        let (open, looks) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Dir { ino, name, above, open, after: Mutex::new(Some(Bytes::new())), looks })
    }
}

enum Job {
    /// Lists the next entries of a directory.
    Look(Arc<Dir>),
    /// Removes names that are no directories.
    Unlink(Arc<Dir>, Vec<Bytes>),
    /// Removes an empty directory.
    Rmdir(Arc<Dir>),
}

impl Session {
    /// Removes `name` from directory `parent` with everything below it.
    ///
    /// Errors: as [`Session::unlink`]; what was removed until then is. A directory in which somebody makes names all the time stays.
    pub async fn remove_tree(&self, how: &TreeRemoval<'_>, parent: Ino, name: &[u8]) -> Result<(), MetaError> {
        if how.trash == TrashUse::Skip && how.caller.uid != 0 {
            return Err(MetaError::refused(Refusal::NotPermitted, "only root may remove past the trash"));
        }
        let (ino, attr) = self.meta().lookup(parent, name).await?.ok_or_else(|| MetaError::no_entry(parent, name))?;
        let name = Bytes::copy_from_slice(name);
        if !attr.is_dir() {
            return self.unlink_names(how, parent, &[name]).await;
        }
        let of_trash = ino == Ino::TRASH || parent == Ino::TRASH;
        if of_trash && how.caller.uid != 0 {
            return Err(MetaError::refused(Refusal::NotPermitted, "the trash is kept for root"));
        }
        // What lies in the trash goes from there, whatever the volume keeps.
        let trash = if parent.is_trash() || ino == Ino::TRASH { TrashUse::Skip } else { how.trash };
        let how = &TreeRemoval { trash, ..*how };
        // Nobody looks into the directory above: this one entry of it is all there is to do.
        let above = Dir::new(parent, Bytes::new(), None);
        *above.after.lock() = None;
        above.open.store(1, Ordering::SeqCst);
        let top = Dir::new(ino, name, Some(above));
        run_jobs(vec![Job::Look(top)], how.at_once, |job| self.do_job(how, job)).await
    }

    async fn do_job(&self, how: &TreeRemoval<'_>, job: Job) -> Result<Vec<Job>, MetaError> {
        match job {
            Job::Look(dir) => self.look(dir).await,
            Job::Unlink(dir, names) => {
                self.unlink_names(how, dir.ino, &names).await?;
                Ok(done(dir))
            }
            Job::Rmdir(dir) => self.remove_emptied(how, dir).await,
        }
    }

    async fn look(&self, dir: Arc<Dir>) -> Result<Vec<Job>, MetaError> {
        let after = dir.after.lock().clone().unwrap_or_default();
        let page = self.engine().records().entries(dir.ino, &after, PAGE).await?;
        *dir.after.lock() = page.last().filter(|_| page.len() == PAGE).map(|last| last.name.clone());
        let (dirs, others): (Vec<_>, Vec<_>) = page.into_iter().partition(|entry| entry.kind == FileType::Directory);
        let names: Vec<Bytes> = others.into_iter().map(|entry| entry.name).collect();
        let mut jobs: Vec<Job> =
            dirs.into_iter().map(|entry| Job::Look(Dir::new(entry.ino, entry.name, Some(dir.clone())))).collect();
        jobs.extend(names.chunks(NAMES_PER_TXN).map(|names| Job::Unlink(dir.clone(), names.to_vec())));
        if jobs.is_empty() {
            return Ok(vec![next(dir)]);
        }
        dir.open.store(jobs.len(), Ordering::SeqCst);
        Ok(jobs)
    }

    /// Removes names from directory `parent`, in one transaction where it can be; those that are gone are as good.
    async fn unlink_names(&self, how: &TreeRemoval<'_>, parent: Ino, names: &[Bytes]) -> Result<(), MetaError> {
        let mut left = names.to_vec();
        while !left.is_empty() {
            let trash = self.trash_of(how, parent).await?;
            let is_open = |ino| self.is_open(ino);
            let removal = Removal { trash, sid: self.sid(), is_open: &is_open };
            let change = UnlinkMany { caller: how.caller, parent, names: &left, removal };
            let removed = self.change(&change).await?;
            how.removed.fetch_add(removed.len() as u64, Ordering::Relaxed);
            if removed.is_empty() {
                return Ok(());
            }
            for (_, ino, remains) in &removed {
                self.finish(*ino, *remains).await?;
            }
            // What is left are names of files that had another one in this transaction.
            left.retain(|name| !removed.iter().any(|(gone, ..)| gone == name));
        }
        Ok(())
    }

    /// Data is deleted here where this client can, so that whoever asked sees it go.
    async fn finish(&self, ino: Ino, remains: Remains) -> Result<(), MetaError> {
        match remains {
            Remains::Data(file) if self.0.removed.slices.get().is_some() => self.delete_file_data(file).await,
            other => {
                self.follow_up(ino, other).await;
                Ok(())
            }
        }
    }

    async fn remove_emptied(&self, how: &TreeRemoval<'_>, dir: Arc<Dir>) -> Result<Vec<Job>, MetaError> {
        let Some(above) = dir.above.clone() else { return Ok(Vec::new()) };
        let removed = match above.ino {
            Ino::TRASH => self.remove_from_trash(Ino::TRASH, &dir.name).await,
            // The trash root itself stays.
            _ if dir.ino == Ino::TRASH && &dir.name[..] == TRASH => return Ok(done(above)),
            parent => {
                let trash = self.trash_of(how, parent).await?;
                self.rmdir_to(how.caller, parent, &dir.name, trash).await.map(drop)
            }
        };
        match removed {
            Ok(()) => {
                how.removed.fetch_add(1, Ordering::Relaxed);
                Ok(done(above))
            }
            Err(MetaError::NoEntry { .. }) => Ok(done(above)),
            Err(MetaError::Refused { why: Refusal::NotEmpty, .. })
                if dir.looks.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX =>
            {
                *dir.after.lock() = Some(Bytes::new());
                Ok(vec![Job::Look(dir)])
            }
            Err(error) => Err(error),
        }
    }

    async fn trash_of(&self, how: &TreeRemoval<'_>, parent: Ino) -> Result<Option<Ino>, MetaError> {
        match how.trash {
            TrashUse::AsSet => self.trash_for(parent).await,
            TrashUse::Skip => Ok(None),
        }
    }

    /// Empties directory `dir`, past the trash, on behalf of root.
    pub(super) async fn empty(&self, dir: Ino, at_once: usize) -> Result<(), MetaError> {
        let (caller, removed) = (Caller::root(), AtomicU64::new(0));
        let how = TreeRemoval { caller: &caller, trash: TrashUse::Skip, at_once, removed: &removed };
        // Without a directory above it, it stays itself.
        run_jobs(vec![Job::Look(Dir::new(dir, Bytes::new(), None))], at_once, |job| self.do_job(&how, job)).await
    }
}

/// What follows when a job of a directory is done.
fn done(dir: Arc<Dir>) -> Vec<Job> {
    match dir.open.fetch_sub(1, Ordering::SeqCst) {
        1 => vec![next(dir)],
        _ => Vec::new(),
    }
}

/// What follows when all jobs of a directory are done.
fn next(dir: Arc<Dir>) -> Job {
    let more = dir.after.lock().is_some();
    if more { Job::Look(dir) } else { Job::Rmdir(dir) }
}
