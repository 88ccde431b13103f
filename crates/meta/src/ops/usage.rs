//! Use of directories: statistics of their children, and which directories lie above them (spec section 16).

use std::collections::HashSet;

use parking_lot::Mutex;
use shoal_format::Ino;

use super::readdir::PAGE;
use crate::effects::Effects;
use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::name::show_name;
use crate::record::DirUsage;

/// Deepest path that is walked up to find quotas; a longer one is a cycle in damaged metadata.
const DEPTH_MAX: usize = 4096;

/// Directories remembered as known; beyond it all are looked at again.
const KNOWN_MAX: usize = 100_000;

/// Directories whose use a client knows to be recorded.
///
/// A client that sums use up must not hold use back for a directory whose use is not recorded: whoever records it counts it from the
/// listing, where what is held back shows already, and would have it twice.
#[derive(Debug, Default)]
pub(crate) struct KnownDirs(Mutex<HashSet<Ino>>);

impl KnownDirs {
    /// Records the use of directories that `effects` change and that have no record, and takes them out of what is to be written
    /// later.
    pub(crate) async fn record_others(&self, txn: &dyn Txn, effects: &mut Effects) -> Result<(), MetaError> {
        for (dir, more) in effects.dirs.iter_mut().filter(|(_, more)| **more != DirUsage::default()) {
            if self.0.lock().contains(dir) || txn.dir_usage(*dir).await?.is_some() {
                continue;
            }
            // Another client that wants to count it waits here, and finds it recorded.
            if txn.attrs_locked(&[*dir]).await?.iter().all(Option::is_none) {
                continue;
            }
            if !txn.add_dir_usage(&[(*dir, DirUsage::default())]).await?.is_empty() {
                txn.put_dir_usage(&[(*dir, count_children(txn, *dir).await?)]).await?;
                *more = DirUsage::default();
            }
        }
        Ok(())
    }

    /// Remembers the directories of a change that is committed.
    pub(crate) fn add(&self, effects: &Effects) {
        let mut known = self.0.lock();
        if known.len() + effects.dirs.len() > KNOWN_MAX {
            known.clear();
        }
        known.extend(effects.dirs.keys());
    }
}

/// Adds to the statistics of directories; where they are unknown they are counted from the listing, which must hold the
/// new children already. Directories that are gone have none.
pub(crate) async fn add_dir_usage(txn: &dyn Txn, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
    let unknown = txn.add_dir_usage(usage).await?;
    let found = txn.attrs(&unknown).await?;
    let mut counted = Vec::with_capacity(unknown.len());
    for (dir, _) in unknown.into_iter().zip(found).filter(|(_, attr)| attr.is_some()) {
        counted.push((dir, count_children(txn, dir).await?));
    }
    txn.put_dir_usage(&counted).await
}

async fn count_children(records: &dyn Records, dir: Ino) -> Result<DirUsage, MetaError> {
    let mut total = DirUsage::default();
    let mut after = bytes::Bytes::new();
    loop {
        let page = records.entries(dir, &after, PAGE).await?;
        page.iter().filter_map(|entry| entry.attr.as_ref()).for_each(|attr| total.add(DirUsage::of(attr)));
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.name.clone(),
            _ => return Ok(total),
        }
    }
}

/// `dir` and the directories above it.
pub(crate) async fn with_ancestors(records: &dyn Records, dir: Ino) -> Result<Vec<Ino>, MetaError> {
    let mut chain = vec![dir];
    let mut ino = dir;
    while ino != Ino::ROOT && !ino.is_trash() {
        let attr = records.attr(ino).await?.ok_or_else(|| MetaError::no_inode(ino))?;
        ino = attr.parent;
        chain.push(ino);
        if chain.len() > DEPTH_MAX {
            return Err(MetaError::Corrupt { what: format!("directory {dir} lies in a cycle of directories") });
        }
    }
    Ok(chain)
}

/// A name in a directory as messages say it.
pub(crate) fn place(parent: Ino, name: &[u8]) -> String {
    format!("`{}` in directory {parent}", show_name(name))
}
