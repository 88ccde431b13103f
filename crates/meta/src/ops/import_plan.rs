//! What a bulk load writes, worked out before anything is written: pure, so that every rule can be tested alone.
//!
//! Rules of spec sections 7 (lengths and link counts), 8.3 (hard links), 9.1 (slice records), 12 and 16 (accounting).

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use shoal_format::{Attr, CHUNK_BYTES, Dentry, FileType, Ino, MAX_FILE_BYTES, SliceRecord, Time, attr_flag};

use super::create::SYMLINK_BYTES_MAX;
use super::usage::place;
use super::xattr::{XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX};
use crate::error::MetaError;
use crate::name::{NameClass, classify};
use crate::record::{ChunkSlices, DirUsage, NewDentry, ParentCount, SliceRef, Xattr};

/// Many new inodes, and more names for them or for existing files, to be written in one transaction.
#[derive(Debug, Clone, Default)]
pub struct ImportBatch {
    /// New inodes, in any order; a directory may hold others of the same batch.
    pub entries: Vec<ImportEntry>,
    /// Further names (hard links) of files of this batch or of the volume.
    pub links: Vec<ImportLink>,
    /// First inode the whole import took, if the batch is one of several: directories from it on came with an earlier batch and
    /// keep the times they came with. Any other directory changes now when it gets a name.
    pub first_inode: Option<Ino>,
}

/// One new inode under its first name.
#[derive(Debug, Clone)]
pub struct ImportEntry {
    /// Directory that gets the name: an existing one or one of the batch.
    pub parent: Ino,
    /// The name's bytes.
    pub name: Bytes,
    /// The inode's number, taken with `alloc_inodes`.
    pub ino: Ino,
    /// Its attributes. Parent and link count are worked out, and so is the length of anything but a regular file.
    pub attr: Attr,
    /// Target of a symbolic link, `None` for anything else.
    pub symlink: Option<Bytes>,
    /// Extended attributes: names and values.
    pub xattrs: Vec<(Bytes, Bytes)>,
    /// Slice records of a regular file by chunk index, oldest first; slice ids are taken with `alloc_slices` and their
    /// blocks are stored already.
    pub chunks: Vec<(u32, Vec<SliceRecord>)>,
}

/// One more name of a file.
#[derive(Debug, Clone)]
pub struct ImportLink {
    /// Directory that gets the name: an existing one or one of the batch.
    pub parent: Ino,
    /// The name's bytes.
    pub name: Bytes,
    /// The file: one of the batch or of the volume, no directory.
    pub ino: Ino,
}

impl ImportBatch {
    /// Inodes the batch needs but does not bring: directories that get names, files that get more names.
    pub(crate) fn external(&self) -> Vec<Ino> {
        let new: HashSet<Ino> = self.entries.iter().map(|entry| entry.ino).collect();
        let parents = self.entries.iter().map(|entry| entry.parent);
        let linked = self.links.iter().flat_map(|link| [link.parent, link.ino]);
        let mut external: Vec<Ino> = parents.chain(linked).filter(|ino| !new.contains(ino)).collect();
        external.sort_unstable();
        external.dedup();
        external
    }
}

/// Every record of a batch.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) attrs: Vec<(Ino, Attr)>,
    pub(crate) dentries: Vec<NewDentry>,
    pub(crate) symlinks: Vec<(Ino, Bytes)>,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) chunks: Vec<ChunkSlices>,
    pub(crate) slices: Vec<SliceRef>,
    pub(crate) parents: Vec<ParentCount>,
    /// Existing inodes whose attributes change.
    pub(crate) changed: Vec<(Ino, Attr)>,
    /// Use of the children of every directory of the batch.
    pub(crate) new_usage: Vec<(Ino, DirUsage)>,
    /// What existing directories gain.
    pub(crate) added_usage: Vec<(Ino, DirUsage)>,
}

impl Plan {
    /// Works out `batch`. `existing` holds the attributes of [`ImportBatch::external`]; `now` is the time that existing
    /// directories and files change.
    ///
    /// Errors: `Conflict` for a name given twice, `NotFound` for an inode that does not exist, `Invalid` for anything the
    /// format forbids. Names that the volume holds already are found when they are inserted.
    pub(crate) fn new(batch: &ImportBatch, existing: &HashMap<Ino, Attr>, now: Time) -> Result<Plan, MetaError> {
        let (new, first_inode) = (new_inodes(batch)?, batch.first_inode);
        let mut planner = Planner { existing, now, first_inode, new, children: BTreeMap::new() };
        let mut plan = Plan::default();
        planner.names(batch, &mut plan)?;
        refuse_detached(batch, &planner.new)?;
        for entry in &batch.entries {
            plan.bodies(entry)?;
        }
        plan.slices = slice_refs(&batch.entries)?;
        planner.links(batch, &mut plan)?;
        planner.directories(&mut plan)?;
        plan.attrs = batch.entries.iter().map(|entry| (entry.ino, planner.new[&entry.ino].clone())).collect();
        Ok(plan)
    }

    /// Target, extended attributes and chunk lists of one entry.
    fn bodies(&mut self, entry: &ImportEntry) -> Result<(), MetaError> {
        let ino = entry.ino;
        if let Some(target) = &entry.symlink {
            self.symlinks.push((ino, target.clone()));
        }
        let mut names = HashSet::new();
        for (name, value) in &entry.xattrs {
            let fits = (1..=XATTR_NAME_BYTES_MAX).contains(&name.len()) && value.len() <= XATTR_BYTES_MAX;
            if !fits || name.contains(&0) || !names.insert(name) {
                let what = place(entry.parent, &entry.name);
                return Err(MetaError::invalid(format!("{what} has an extended attribute that cannot be stored")));
            }
            self.xattrs.push(Xattr { ino, name: name.clone(), value: value.clone() });
        }
        for (index, slices) in &entry.chunks {
            self.chunks.push(ChunkSlices { ino, index: *index, slices: slices.clone() });
        }
        Ok(())
    }
}

/// What the children of one directory add to it.
#[derive(Default)]
struct Children {
    usage: DirUsage,
    subdirs: u32,
}

struct Planner<'a> {
    existing: &'a HashMap<Ino, Attr>,
    now: Time,
    first_inode: Option<Ino>,
    /// The batch's inodes with their final attributes.
    new: HashMap<Ino, Attr>,
    children: BTreeMap<Ino, Children>,
}

impl Planner<'_> {
    fn attr(&self, ino: Ino) -> Result<&Attr, MetaError> {
        self.new.get(&ino).or_else(|| self.existing.get(&ino)).ok_or_else(|| MetaError::no_inode(ino))
    }

    /// Dentries of entries and links, and what they add to their directories.
    fn names(&mut self, batch: &ImportBatch, plan: &mut Plan) -> Result<(), MetaError> {
        let entries = batch.entries.iter().map(|entry| (entry.parent, &entry.name, entry.ino));
        let links = batch.links.iter().map(|link| (link.parent, &link.name, link.ino));
        let mut taken = HashSet::with_capacity(batch.entries.len() + batch.links.len());
        for (parent, name, ino) in entries.chain(links) {
            if classify(parent, name) != NameClass::Ordinary {
                return Err(MetaError::invalid(format!("{} is no possible name", place(parent, name))));
            }
            if !taken.insert((parent, name)) {
                return Err(MetaError::exists(parent, name));
            }
            let attr = self.attr(ino)?;
            let (kind, usage) = (attr.kind, DirUsage::of(attr));
            let children = self.children.entry(parent).or_default();
            children.usage.add(usage);
            children.subdirs += u32::from(kind == FileType::Directory);
            plan.dentries.push(NewDentry { parent, name: name.clone(), dentry: Dentry { kind, ino } });
        }
        Ok(())
    }

    /// Link counts of files with more than one name, and where those names are.
    fn links(&mut self, batch: &ImportBatch, plan: &mut Plan) -> Result<(), MetaError> {
        let mut files: BTreeMap<Ino, (u32, BTreeMap<Ino, i64>)> = BTreeMap::new();
        for link in &batch.links {
            let (names, parents) = files.entry(link.ino).or_default();
            *names += 1;
            *parents.entry(link.parent).or_default() += 1;
        }
        for (ino, (names, mut parents)) in files {
            let attr = self.linked(ino, names)?;
            if attr.parent != Ino::NONE {
                // The one parent so far becomes a record like those of the new names.
                *parents.entry(attr.parent).or_default() += 1;
            }
            let attr = Attr { parent: Ino::NONE, ..attr };
            plan.parents.extend(parents.into_iter().map(|(parent, count)| ParentCount { ino, parent, count }));
            match self.new.get_mut(&ino) {
                Some(new) => *new = attr,
                None => plan.changed.push((ino, Attr { ctime: self.now, ..attr })),
            }
        }
        Ok(())
    }

    /// Attributes of `ino` with `names` more names, its parent still the old one.
    fn linked(&self, ino: Ino, names: u32) -> Result<Attr, MetaError> {
        let attr = self.attr(ino)?;
        if attr.is_dir() {
            return Err(MetaError::invalid(format!("directory {ino} cannot have a second name")));
        }
        let fixed = attr.flags & (attr_flag::IMMUTABLE | attr_flag::APPEND) != 0;
        if self.existing.contains_key(&ino) && (fixed || attr.parent.is_trash()) {
            return Err(MetaError::invalid(format!("inode {ino} cannot be linked: it is protected or in the trash")));
        }
        let nlink = attr.nlink.checked_add(names);
        let nlink = nlink.ok_or_else(|| MetaError::invalid(format!("inode {ino} has too many names")))?;
        Ok(Attr { nlink, ..attr.clone() })
    }

    /// Link counts and use of every directory that gets children, and of the batch's directories that get none.
    fn directories(&mut self, plan: &mut Plan) -> Result<(), MetaError> {
        for (&dir, children) in &self.children {
            match self.new.get_mut(&dir) {
                Some(attr) if attr.is_dir() => attr.nlink = 2 + children.subdirs,
                Some(_) => return Err(MetaError::NotDirectory { what: format!("inode {dir}") }),
                None => {
                    let attr = self.existing.get(&dir).ok_or_else(|| MetaError::no_inode(dir))?;
                    check_existing_directory(dir, attr)?;
                    let nlink = attr.nlink.saturating_add(children.subdirs);
                    let ours = self.first_inode.is_some_and(|first| dir >= first);
                    let (mtime, ctime) = if ours { (attr.mtime, attr.ctime) } else { (self.now, self.now) };
                    plan.changed.push((dir, Attr { nlink, mtime, ctime, ..attr.clone() }));
                    plan.added_usage.push((dir, children.usage));
                }
            }
        }
        let directories = self.new.iter().filter(|(_, attr)| attr.is_dir()).map(|(ino, _)| *ino);
        plan.new_usage =
            directories.map(|dir| (dir, self.children.get(&dir).map(|c| c.usage).unwrap_or_default())).collect();
        plan.new_usage.sort_unstable_by_key(|(dir, _)| *dir);
        Ok(())
    }
}

fn check_existing_directory(dir: Ino, attr: &Attr) -> Result<(), MetaError> {
    if !attr.is_dir() {
        return Err(MetaError::NotDirectory { what: format!("inode {dir}") });
    }
    if dir.is_trash() {
        return Err(MetaError::invalid("nothing can be created in the trash"));
    }
    if attr.flags & attr_flag::IMMUTABLE != 0 {
        return Err(MetaError::invalid(format!("directory {dir} is immutable")));
    }
    Ok(())
}

/// The batch's inodes with what their own entry says about them.
fn new_inodes(batch: &ImportBatch) -> Result<HashMap<Ino, Attr>, MetaError> {
    let mut new = HashMap::with_capacity(batch.entries.len());
    for entry in &batch.entries {
        let attr = own_attr(entry)?;
        if new.insert(entry.ino, attr).is_some() {
            return Err(MetaError::invalid(format!("inode {} is given twice", entry.ino)));
        }
    }
    Ok(new)
}

fn own_attr(entry: &ImportEntry) -> Result<Attr, MetaError> {
    let invalid = |what: &str| MetaError::invalid(format!("{} {what}", place(entry.parent, &entry.name)));
    let kind = entry.attr.kind;
    if entry.ino <= Ino::ROOT || entry.ino.is_trash() {
        return Err(invalid(&format!("cannot be inode {}", entry.ino)));
    }
    if !entry.chunks.is_empty() && kind != FileType::Regular {
        return Err(invalid("has chunks but is no regular file"));
    }
    let length = match (kind, &entry.symlink) {
        (FileType::Symlink, Some(target)) if (1..=SYMLINK_BYTES_MAX).contains(&target.len()) => target.len() as u64,
        (FileType::Symlink, _) => return Err(invalid("has no possible target")),
        (_, Some(_)) => return Err(invalid("has a target but is no symbolic link")),
        (FileType::Directory, _) => 4096,
        (FileType::Regular, _) if entry.attr.length > MAX_FILE_BYTES => return Err(invalid("is too long")),
        (FileType::Regular, _) => entry.attr.length,
        _ => 0,
    };
    let mut indexes = HashSet::new();
    for (index, slices) in &entry.chunks {
        if !indexes.insert(*index) {
            return Err(invalid(&format!("has chunk {index} twice")));
        }
        if !slices.iter().all(possible) {
            return Err(invalid(&format!("has an impossible slice record in chunk {index}")));
        }
    }
    let nlink = if kind == FileType::Directory { 2 } else { 1 };
    Ok(Attr { nlink, length, parent: entry.parent, ..entry.attr.clone() })
}

/// The invariants of spec section 9.1.
fn possible(record: &SliceRecord) -> bool {
    let within = |start: u32, len: u32, end: u64| u64::from(start) + u64::from(len) <= end;
    let stored = record.id == 0 || within(record.off, record.len, u64::from(record.size));
    record.len > 0 && within(record.pos, record.len, CHUNK_BYTES) && u64::from(record.size) <= CHUNK_BYTES && stored
}

/// How often the batch names each slice. `Invalid` if it gives one two sizes.
fn slice_refs(entries: &[ImportEntry]) -> Result<Vec<SliceRef>, MetaError> {
    let mut refs: BTreeMap<u64, SliceRef> = BTreeMap::new();
    let records = entries.iter().flat_map(|entry| &entry.chunks).flat_map(|(_, slices)| slices);
    for record in records.filter(|record| record.id != 0) {
        let slice = refs.entry(record.id).or_insert(SliceRef { id: record.id, size: record.size, count: 0 });
        slice.count += 1;
        if slice.size != record.size {
            return Err(MetaError::invalid(format!("slice {} is given two sizes", record.id)));
        }
    }
    Ok(refs.into_values().collect())
}

/// Refuses directories of the batch that hang on each other in a circle instead of on an existing one.
fn refuse_detached(batch: &ImportBatch, new: &HashMap<Ino, Attr>) -> Result<(), MetaError> {
    let mut attached: HashSet<Ino> = HashSet::new();
    for entry in batch.entries.iter().filter(|entry| entry.attr.is_dir()) {
        let mut chain = Vec::new();
        let mut ino = entry.ino;
        while let Some(attr) = new.get(&ino).filter(|_| !attached.contains(&ino)) {
            chain.push(ino);
            if chain.len() > new.len() {
                return Err(MetaError::invalid(format!("directory {} hangs on itself", entry.ino)));
            }
            ino = attr.parent;
        }
        attached.extend(chain);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shoal_types::ErrorKind;

    use super::*;
    use crate::testing::sample::{BatchBuilder, TIME, attr};

    const NOW: Time = Time { secs: 1_800_000_000, nanos: 0 };

    /// Plans a batch over a root directory, a file 2 in it and a directory 3.
    fn plan(batch: &ImportBatch) -> Result<Plan, MetaError> {
        let root = Attr { nlink: 3, parent: Ino::ROOT, ..attr(FileType::Directory, 0o777) };
        let file = Attr { parent: Ino::ROOT, length: 10, ..attr(FileType::Regular, 0o644) };
        let fixed = Attr { parent: Ino::ROOT, flags: attr_flag::IMMUTABLE, ..attr(FileType::Directory, 0o755) };
        let known = [(Ino::ROOT, root), (Ino(2), file), (Ino(3), fixed)];
        let wanted = batch.external();
        let existing = known.into_iter().filter(|(ino, _)| wanted.contains(ino)).collect();
        Plan::new(batch, &existing, NOW)
    }

    fn refusal(batch: BatchBuilder) -> String {
        let error = plan(&batch.build()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        error.to_string()
    }

    #[test]
    fn only_what_the_batch_lacks_is_asked_for() {
        let batch = BatchBuilder::new().dir(1, b"d", 10).file(10, b"f", 11, 0).link(10, b"l", 2).link(1, b"m", 11);
        assert_eq!(batch.build().external(), [Ino(1), Ino(2)]);
    }

    #[test]
    fn attributes_are_worked_out_whatever_the_caller_says() {
        let wrong = |kind| Attr { nlink: 77, length: 12_345, parent: Ino(99), ..attr(kind, 0o700) };
        let batch = BatchBuilder::new()
            .entry(1, b"dir", 10, wrong(FileType::Directory))
            .entry(10, b"sub", 11, wrong(FileType::Directory))
            .entry(10, b"file", 12, wrong(FileType::Regular))
            .entry(10, b"fifo", 13, wrong(FileType::Fifo))
            .symlink(10, b"link", 14, b"abc");
        let plan = plan(&batch.build()).unwrap();
        let worked_out: Vec<_> = plan.attrs.iter().map(|(_, a)| (a.nlink, a.length, a.parent.0)).collect();
        assert_eq!(worked_out, [(3, 4096, 1), (2, 4096, 10), (1, 12_345, 10), (1, 0, 10), (1, 3, 10)]);
        let (root, changed) = &plan.changed[0];
        assert_eq!((*root, changed.nlink, changed.mtime, changed.ctime), (Ino::ROOT, 4, NOW, NOW));
        assert_eq!(changed.atime, TIME);
    }

    #[test]
    fn every_name_of_a_linked_file_is_counted_at_its_parent() {
        let batch = BatchBuilder::new().dir(1, b"d", 10).link(10, b"x", 2).link(10, b"y", 2);
        let plan = plan(&batch.build()).unwrap();
        let counts: Vec<_> = plan.parents.iter().map(|p| (p.ino.0, p.parent.0, p.count)).collect();
        assert_eq!(counts, [(2, 1, 1), (2, 10, 2)]);
        let file = plan.changed.iter().find(|(ino, _)| *ino == Ino(2)).map(|(_, attr)| attr.clone()).unwrap();
        assert_eq!((file.nlink, file.parent, file.ctime, file.mtime), (3, Ino::NONE, NOW, TIME));
    }

    #[test]
    fn impossible_entries_are_refused() {
        let slice = |pos, size, off, len| [SliceRecord { pos, id: 1, size, off, len }];
        for (why, batch) in [
            ("past the chunk", BatchBuilder::new().sliced(1, b"f", 10, &slice((64 << 20) - 1, 2, 0, 2))),
            ("past the slice", BatchBuilder::new().sliced(1, b"f", 10, &slice(0, 10, 5, 6))),
            ("empty record", BatchBuilder::new().sliced(1, b"f", 10, &slice(0, 10, 0, 0))),
            ("overflow", BatchBuilder::new().sliced(1, b"f", 10, &slice(u32::MAX, u32::MAX, u32::MAX, u32::MAX))),
            ("too long", BatchBuilder::new().file(1, b"f", 10, u64::MAX)),
            ("no target", BatchBuilder::new().entry(1, b"l", 10, attr(FileType::Symlink, 0o777))),
            ("empty target", BatchBuilder::new().symlink(1, b"l", 10, b"")),
            ("long target", BatchBuilder::new().symlink(1, b"l", 10, &[b'a'; 4096])),
            ("trash inode", BatchBuilder::new().file(1, b"f", Ino::TRASH.0 + 1, 0)),
            ("reserved name", BatchBuilder::new().file(1, b".trash", 10, 0)),
            ("virtual name", BatchBuilder::new().file(1, b".stats", 10, 0)),
            ("slash", BatchBuilder::new().file(1, b"a/b", 10, 0)),
            ("long name", BatchBuilder::new().file(1, &[b'a'; 256], 10, 0)),
            ("immutable parent", BatchBuilder::new().file(3, b"f", 10, 0)),
            ("link to a directory", BatchBuilder::new().link(1, b"l", 3)),
            ("xattr twice", BatchBuilder::new().file(1, b"f", 10, 0).xattr(b"a", b"1").xattr(b"a", b"2")),
            ("xattr without name", BatchBuilder::new().file(1, b"f", 10, 0).xattr(b"", b"1")),
            ("long xattr", BatchBuilder::new().file(1, b"f", 10, 0).xattr(b"a", &[0; 65_537])),
            ("own parent", BatchBuilder::new().dir(10, b"d", 10)),
        ] {
            assert!(!refusal(batch).is_empty(), "{why}");
        }
        let two_sizes =
            BatchBuilder::new().sliced(1, b"f", 10, &slice(0, 10, 0, 10)).sliced(1, b"g", 11, &slice(0, 11, 0, 11));
        assert_eq!(refusal(two_sizes), "slice 1 is given two sizes");
        assert_eq!(refusal(BatchBuilder::new().file(1, b"a\n", 1, 0)), "`a\\n` in directory 1 cannot be inode 1");
    }

    #[test]
    fn slices_shared_within_a_batch_are_counted() {
        let slice = [SliceRecord::whole(0, 5, 10), SliceRecord::hole(20, 5), SliceRecord::whole(30, 5, 10)];
        let batch = BatchBuilder::new().sliced(1, b"f", 10, &slice).sliced(1, b"g", 11, &slice[..1]);
        let plan = plan(&batch.build()).unwrap();
        assert_eq!(plan.slices, [SliceRef { id: 5, size: 10, count: 3 }]);
    }
}
