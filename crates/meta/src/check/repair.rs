//! Puts right what a check found, each in a transaction that counts again.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, Time};

use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::record::{Counter, DirUsage};
use crate::retry::Operation;

/// Dentries read at once.
const PAGE: usize = 4096;

/// What the names in a directory add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Children {
    /// Sub-directories, those without attributes included.
    pub(super) subdirs: u32,
    pub(super) usage: DirUsage,
}

/// Counts the names in `dir`.
pub(super) async fn children(records: &dyn Records, dir: Ino) -> Result<Children, MetaError> {
    let mut found = Children::default();
    let mut after = Bytes::new();
    loop {
        let page = records.entries(dir, &after, PAGE).await?;
        found.subdirs += page.iter().filter(|entry| entry.kind == FileType::Directory).count() as u32;
        page.iter().filter_map(|entry| entry.attr.as_ref()).for_each(|attr| found.usage.add(DirUsage::of(attr)));
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.name.clone(),
            _ => return Ok(found),
        }
    }
}

/// The link count that a directory has by what is in it: the trash counts none of its own.
pub(super) fn dir_links(dir: Ino, subdirs: u32) -> u32 {
    if dir.is_trash() { 2 } else { 2 + subdirs }
}

/// How many names a file has. Of one that never had a second the parent in its attributes is the only record.
pub(super) async fn file_links(records: &dyn Records, ino: Ino, attr: &Attr) -> Result<u32, MetaError> {
    let names: i64 = records.parents(ino).await?.iter().map(|parent| parent.count).sum();
    let names = if names == 0 && attr.parent != Ino::NONE { 1 } else { names };
    Ok(u32::try_from(names).unwrap_or(u32::MAX))
}

/// Gives a directory the link count and parent it ought to have, and attributes if it has none.
pub(super) struct RepairDir {
    pub(super) ino: Ino,
    pub(super) parent: Ino,
    /// Permission bits of one that is made anew.
    pub(super) mode: u16,
    pub(super) now: Time,
}

#[async_trait]
impl Operation for RepairDir {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let attr = txn.attrs_locked(&[self.ino]).await?.pop().flatten();
        let nlink = dir_links(self.ino, children(txn, self.ino).await?.subdirs);
        match attr {
            Some(attr) => txn.update_attrs(&[(self.ino, Attr { nlink, parent: self.parent, ..attr })]).await,
            None => {
                let fresh = Attr::new(FileType::Directory, self.mode & 0xFFF, self.parent, self.now);
                txn.insert_attrs(&[(self.ino, Attr { nlink, ..fresh })]).await
            }
        }
    }
}

/// Gives a file the link count, or parent, it ought to have.
pub(super) struct RepairFile {
    pub(super) ino: Ino,
    /// The directory that has its name.
    pub(super) parent: Ino,
}

#[async_trait]
impl Operation for RepairFile {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let Some(attr) = txn.attrs_locked(&[self.ino]).await?.pop().flatten() else { return Ok(()) };
        let nlink = file_links(txn, self.ino, &attr).await?;
        let parent = if attr.parent == Ino::NONE { Ino::NONE } else { self.parent };
        txn.update_attrs(&[(self.ino, Attr { nlink, parent, ..attr })]).await
    }
}

/// Counts the use of a directory anew.
pub(super) struct RepairUsage {
    pub(super) dir: Ino,
}

#[async_trait]
impl Operation for RepairUsage {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let usage = children(txn, self.dir).await?.usage;
        txn.put_dir_usage(&[(self.dir, usage)]).await
    }
}

/// Adds to the volume's use what it lacks.
pub(super) struct RepairTotal {
    pub(super) space: i64,
    pub(super) inodes: i64,
}

#[async_trait]
impl Operation for RepairTotal {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        txn.add_counter(Counter::UsedSpace, self.space).await?;
        txn.add_counter(Counter::TotalInodes, self.inodes).await
    }
}
