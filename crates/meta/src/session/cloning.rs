//! Copies of files and directories by reference.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use shoal_format::Ino;

use super::Session;
use super::parallel::run_jobs;
use crate::error::MetaError;
use crate::ops::{Attach, Caller, CloneBy, CloneFile, CloneInto, CloneMode, CloneTop, DropDetached, Original, Place};

/// Inodes copied in one transaction: as many as cost some ten milliseconds.
const INODES_PER_TXN: usize = 100;

/// How something is copied.
pub struct Cloned<'a> {
    /// On whose behalf: what is read and where it goes is checked.
    pub caller: &'a Caller,
    /// Whose the copy is.
    pub mode: CloneMode,
    /// Transactions at once.
    pub at_once: usize,
    /// Counts what is copied.
    pub copied: &'a AtomicU64,
    /// Ends the work once it is true: what was begun is undone.
    pub stop: &'a AtomicBool,
}

/// Part of the copy of a tree.
enum Job {
    /// The next entries of a directory, behind a name, and its copy.
    Look(Ino, Ino, Bytes),
    /// Some of them.
    Copy(Ino, Vec<Original>),
}

impl Session {
    /// Makes `to` a copy of inode `source` with everything below it, by reference to the same slices: no byte is read or stored. The
    /// copy of a directory appears when it is complete, or not at all; what changes meanwhile may or may not be in it.
    ///
    /// Errors: as [`Session::create`]; `Invalid` for a place below `source` itself.
    pub async fn clone_tree(&self, how: &Cloned<'_>, source: Ino, to: Place<'_>) -> Result<(), MetaError> {
        let attr = self.meta().getattr(source).await?.ok_or_else(|| MetaError::no_inode(source))?;
        let original = Original { name: Bytes::copy_from_slice(to.name), ino: source, copy: self.new_inode().await? };
        let by = CloneBy { caller: how.caller, mode: how.mode };
        if !attr.is_dir() {
            self.change(&CloneFile { by, parent: to.parent, original: &original }).await?;
            how.copied.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.refuse_below(source, to.parent).await?;
        self.change(&CloneTop { by, parent: to.parent, original: &original }).await?;
        how.copied.fetch_add(1, Ordering::Relaxed);
        let done = self.fill_clone(how, by, &original, to.parent).await;
        if done.is_err()
            && let Err(error) = self.drop_detached(original.copy, how.at_once).await
        {
            tracing::warn!(ino = original.copy.0, %error, "an incomplete copy without a name is left; `gc` removes it");
        }
        done
    }

    async fn fill_clone(
        &self,
        how: &Cloned<'_>,
        by: CloneBy<'_>,
        top: &Original,
        parent: Ino,
    ) -> Result<(), MetaError> {
        let first = vec![Job::Look(top.ino, top.copy, Bytes::new())];
        run_jobs(first, how.at_once, |job| self.clone_part(how, by, job)).await?;
        self.change(&Attach { caller: how.caller, parent, name: &top.name, top: top.copy }).await
    }

    async fn clone_part(&self, how: &Cloned<'_>, by: CloneBy<'_>, job: Job) -> Result<Vec<Job>, MetaError> {
        if how.stop.load(Ordering::Relaxed) {
            return Err(MetaError::invalid("the copy was given up before it was complete"));
        }
        match job {
            Job::Look(dir, copy, after) => {
                let page = self.engine().records().entries(dir, &after, INODES_PER_TXN).await?;
                let more = page.last().filter(|_| page.len() == INODES_PER_TXN).map(|last| last.name.clone());
                let mut originals = Vec::with_capacity(page.len());
                for entry in page {
                    originals.push(Original { name: entry.name, ino: entry.ino, copy: self.new_inode().await? });
                }
                let mut jobs: Vec<Job> = more.map(|after| Job::Look(dir, copy, after)).into_iter().collect();
                if !originals.is_empty() {
                    jobs.push(Job::Copy(copy, originals));
                }
                Ok(jobs)
            }
            Job::Copy(into, originals) => {
                let change = CloneInto { by, into, originals: &originals };
                let copies = self.change(&change).await?;
                how.copied.fetch_add(copies.copied, Ordering::Relaxed);
                Ok(copies.dirs.into_iter().map(|(dir, copy)| Job::Look(dir, copy, Bytes::new())).collect())
            }
        }
    }

    async fn refuse_below(&self, source: Ino, into: Ino) -> Result<(), MetaError> {
        let mut dir = into;
        while dir != source {
            match self.meta().getattr(dir).await? {
                Some(attr) if dir != Ino::ROOT && !dir.is_trash() => dir = attr.parent,
                _ => return Ok(()),
            }
        }
        Err(MetaError::invalid(format!("directory {source} cannot be copied to a place below it")))
    }

    /// Removes a tree that never got a name, whose top is `top`. False if it has one by now, or is gone.
    pub async fn drop_detached(&self, top: Ino, at_once: usize) -> Result<bool, MetaError> {
        self.empty(top, at_once).await?;
        self.change(&DropDetached { top }).await
    }
}
