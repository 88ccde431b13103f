//! How much lies below a directory: its use, in all or entry by entry.

use std::cmp::Reverse;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shoal_format::{Attr, FileType, Ino};

use super::readdir::PAGE;
use crate::engine::Records;
use crate::error::MetaError;
use crate::record::{DirEntry, DirUsage};

/// Directories looked at once: some databases read in parallel, none gains by more.
const DIRS_AT_ONCE: usize = 8;
/// Entries beyond those that are shown that are kept until they are summed up.
const SPARE_ENTRIES: usize = 4096;

/// What lies below a place, itself included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sum of the lengths of regular files, in bytes. A file with several names counts with each.
    pub length: u64,
    /// Accounted bytes.
    pub size: u64,
    /// Everything but directories.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
}

impl Summary {
    /// One inode.
    pub fn of(attr: &Attr) -> Summary {
        let DirUsage { length, space, .. } = DirUsage::of(attr);
        let is_dir = u64::from(attr.is_dir());
        Summary { length: length as u64, size: space as u64, files: 1 - is_dir, dirs: is_dir }
    }

    /// Adds what lies elsewhere.
    pub fn add(&mut self, other: Summary) {
        self.length += other.length;
        self.size += other.size;
        self.files += other.files;
        self.dirs += other.dirs;
    }
}

/// How far a summary reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The directory and its direct children.
    Children,
    /// Everything below.
    Tree,
}

/// Where its numbers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// From directories' statistics where there are any: a directory without sub-directories is not listed. As right as those.
    Statistics,
    /// From every inode.
    Inodes,
}

/// A place in a tree, how much lies below it, and its largest entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeSummary {
    /// Its name; empty at the top.
    pub name: Bytes,
    /// How much lies below.
    pub total: Summary,
    /// The largest entries, largest first; none where the tree is not looked into.
    pub entries: Vec<TreeSummary>,
    /// What the other entries make together; `None` if there is none.
    pub others: Option<Summary>,
}

/// What lies at and below inode `ino` with attributes `attr`.
pub(crate) async fn summarize(
    records: &dyn Records,
    (ino, attr): (Ino, &Attr),
    reach: Reach,
    counting: Counting,
) -> Result<Summary, MetaError> {
    let mut total = Summary::of(attr);
    if !attr.is_dir() {
        return Ok(total);
    }
    let mut pending = vec![(ino, attr.nlink)];
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < DIRS_AT_ONCE
            && let Some((dir, nlink)) = pending.pop()
        {
            running.push(children(records, dir, nlink, reach, counting));
        }
        let Some(done) = running.next().await else { return Ok(total) };
        let (below, subdirs) = done?;
        total.add(below);
        if reach == Reach::Tree {
            pending.extend(subdirs);
        }
    }
}

/// What the direct children of a directory are, and which of them are directories, with their link counts.
async fn children(
    records: &dyn Records,
    dir: Ino,
    nlink: u32,
    reach: Reach,
    counting: Counting,
) -> Result<(Summary, Vec<(Ino, u32)>), MetaError> {
    // Directories of the trash do not count their sub-directories.
    if counting == Counting::Statistics
        && !dir.is_trash()
        && let Some(usage) = records.dir_usage(dir).await?
    {
        let dirs = u64::from(nlink.saturating_sub(2));
        if dirs == 0 || reach == Reach::Children {
            let part = |number: i64| u64::try_from(number).unwrap_or(0);
            let files = part(usage.inodes).saturating_sub(dirs);
            return Ok((Summary { length: part(usage.length), size: part(usage.space), files, dirs }, Vec::new()));
        }
    }
    let (mut total, mut subdirs) = (Summary::default(), Vec::new());
    each_page(records, dir, |page| {
        for attr_of in page.iter().filter_map(|entry| entry.attr.as_ref().map(|attr| (entry.ino, attr))) {
            total.add(Summary::of(attr_of.1));
            if attr_of.1.is_dir() {
                subdirs.push((attr_of.0, attr_of.1.nlink));
            }
        }
    })
    .await?;
    Ok((total, subdirs))
}

/// Shows every page of a directory's listing.
async fn each_page(records: &dyn Records, dir: Ino, mut show: impl FnMut(&[DirEntry])) -> Result<(), MetaError> {
    let mut after = Bytes::new();
    loop {
        let page = records.entries(dir, &after, PAGE).await?;
        show(&page);
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.name.clone(),
            _ => return Ok(()),
        }
    }
}

/// The tree at inode `ino`, `depth` levels deep, with the `most` largest entries of each directory.
pub(crate) async fn tree_summary(
    records: &dyn Records,
    (ino, attr): (Ino, &Attr),
    depth: u32,
    most: usize,
    counting: Counting,
) -> Result<TreeSummary, MetaError> {
    if depth == 0 || !attr.is_dir() {
        let total = summarize(records, (ino, attr), Reach::Tree, counting).await?;
        return Ok(TreeSummary { total, ..TreeSummary::default() });
    }
    let (mut largest, mut subdirs) = (Largest::new(most), Vec::new());
    each_page(records, ino, |page| {
        for entry in page {
            match &entry.attr {
                Some(attr) if attr.kind == FileType::Directory => {
                    subdirs.push((entry.name.clone(), entry.ino, attr.clone()));
                }
                Some(attr) => largest.add(TreeSummary {
                    name: entry.name.clone(),
                    total: Summary::of(attr),
                    ..TreeSummary::default()
                }),
                None => {}
            }
        }
    })
    .await?;
    for (name, dir, attr) in subdirs {
        let below = Box::pin(tree_summary(records, (dir, &attr), depth - 1, most, counting)).await?;
        largest.add(TreeSummary { name, ..below });
    }
    let (entries, others, mut total) = largest.finish();
    total.add(Summary::of(attr));
    Ok(TreeSummary { name: Bytes::new(), total, entries, others })
}

/// Keeps the largest entries of a directory; sums the others up.
struct Largest {
    most: usize,
    kept: Vec<TreeSummary>,
    others: Option<Summary>,
    total: Summary,
}

impl Largest {
    fn new(most: usize) -> Largest {
        Largest { most, kept: Vec::new(), others: None, total: Summary::default() }
    }

    fn add(&mut self, entry: TreeSummary) {
        self.total.add(entry.total);
        self.kept.push(entry);
        if self.kept.len() > self.most.saturating_add(SPARE_ENTRIES) {
            self.cut();
        }
    }

    /// Leaves the largest ones, in order of size and then of names.
    fn cut(&mut self) {
        self.kept.sort_by(|a, b| (Reverse(a.total.size), &a.name).cmp(&(Reverse(b.total.size), &b.name)));
        if self.kept.len() > self.most {
            let others = self.others.get_or_insert_default();
            self.kept.drain(self.most..).for_each(|entry| others.add(entry.total));
        }
    }

    fn finish(mut self) -> (Vec<TreeSummary>, Option<Summary>, Summary) {
        self.cut();
        (self.kept, self.others, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_entries_are_kept_whatever_comes_between() {
        let entry = |name: &str, size: u64| TreeSummary {
            name: Bytes::copy_from_slice(name.as_bytes()),
            total: Summary { size, files: 1, ..Summary::default() },
            ..TreeSummary::default()
        };
        let mut largest = Largest::new(2);
        largest.add(entry("c", 7));
        for n in 0..2 * SPARE_ENTRIES {
            largest.add(entry(&n.to_string(), 1));
        }
        largest.add(entry("b", 7));
        largest.add(entry("a", 6));
        let (kept, others, total) = largest.finish();
        assert_eq!(kept.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), [b"b", b"c"]);
        let many = 2 * SPARE_ENTRIES as u64;
        assert_eq!(others.map(|others| (others.size, others.files)), Some((many + 6, many + 1)));
        assert_eq!((total.size, total.files), (many + 20, many + 3));
    }
}
