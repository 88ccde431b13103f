//! Taking back what lies in the trash (spec section 15).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shoal_format::{FileType, Ino, parse_trash_entry, parse_trash_hour};

use super::Session;
use super::parallel::run_jobs;
use crate::error::MetaError;
use crate::ops::{Caller, Place, RenameMode};

/// Entries read at once.
const PAGE: usize = 1000;

/// Where what is restored goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreTo {
    /// Into directories that lie in the trash of the same hour, so that removed trees are whole again there.
    Trees,
    /// Into the directory it was in, wherever that is.
    Origin,
}

/// How the trash of an hour is restored.
pub struct Restoring<'a> {
    /// Where to.
    pub to: RestoreTo,
    /// Names moved at once.
    pub at_once: usize,
    /// Counts what is restored.
    pub restored: &'a AtomicU64,
    /// Counts what stays because its directory is not in the trash.
    pub skipped: &'a AtomicU64,
    /// Counts what could not be restored.
    pub failed: &'a AtomicU64,
}

impl Session {
    /// Puts what lies in the trash of `hour` (such as `2026-11-22-13`) back. What has a name there by now stays in the trash.
    ///
    /// Errors: `NotFound` for an hour without a trash; `Invalid` for what is no hour. What cannot be restored is counted and logged.
    pub async fn restore(&self, hour: &str, how: &Restoring<'_>) -> Result<(), MetaError> {
        if parse_trash_hour(hour.as_bytes()).is_none() {
            return Err(MetaError::invalid(format!("`{hour}` is no hour of the trash; write it as 2026-11-22-13")));
        }
        let found = self.meta().lookup(Ino::TRASH, hour.as_bytes()).await?;
        let (dir, _) = found.ok_or_else(|| MetaError::no_entry(Ino::TRASH, hour.as_bytes()))?;
        let dirs = match how.to {
            RestoreTo::Trees => Some(self.dirs_in(dir).await?),
            RestoreTo::Origin => None,
        };
        let (mut after, dirs) = (Bytes::new(), dirs.as_ref());
        loop {
            let page = self.engine().records().entries(dir, &after, PAGE).await?;
            let last = page.last().filter(|_| page.len() == PAGE).map(|entry| entry.name.clone());
            let names: Vec<Bytes> = page.into_iter().map(|entry| entry.name).collect();
            run_jobs(names, how.at_once, |name| self.restore_one(dir, name, dirs, how)).await?;
            match last {
                Some(name) => after = name,
                None => return Ok(()),
            }
        }
    }

    async fn dirs_in(&self, hour: Ino) -> Result<HashSet<Ino>, MetaError> {
        let (mut dirs, mut after) = (HashSet::new(), Bytes::new());
        loop {
            let page = self.engine().records().entries(hour, &after, PAGE).await?;
            dirs.extend(page.iter().filter(|entry| entry.kind == FileType::Directory).map(|entry| entry.ino));
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.name.clone(),
                _ => return Ok(dirs),
            }
        }
    }

    async fn restore_one(
        &self,
        hour: Ino,
        entry: Bytes,
        dirs: Option<&HashSet<Ino>>,
        how: &Restoring<'_>,
    ) -> Result<Vec<Bytes>, MetaError> {
        let count = match parse_trash_entry(&entry) {
            Some((parent, ..)) if dirs.is_some_and(|dirs| !dirs.contains(&parent)) => how.skipped,
            Some((parent, _, name)) => {
                let (from, to) = (Place { parent: hour, name: &entry }, Place { parent, name });
                match self.rename(&Caller::root(), from, to, RenameMode::Restore).await {
                    Ok(_) => how.restored,
                    Err(error @ MetaError::Lost { .. }) => return Err(error),
                    Err(error) => {
                        tracing::warn!(entry = %entry.escape_ascii(), %error, "stays in the trash");
                        how.failed
                    }
                }
            }
            None => how.skipped,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Vec::new())
    }
}
