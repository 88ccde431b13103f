//! Reads a dump and turns it into batches of records.
//!
//! Memory: a batch, the directories on the way down, a bit for each inode and slice, and what is said of each file with several names.
//! Numbers of names in directories, link counts, use and references are counted anew, whatever the dump says.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use bytes::Bytes;
use shoal_format::{AclRule, Dentry, FileType, Ino, Settings};
use tokio::sync::mpsc::Sender;

use super::batch::{Batch, Found, Totals};
use super::entry::{
    DumpedAcl, DumpedAttr, DumpedChunk, DumpedCounters, DumpedDeletedFile, DumpedLimits, DumpedXattr, unescape,
};
use super::pull::Pull;
use crate::engine::DeletedFile;
use crate::error::MetaError;
use crate::id_set::IdSet;
use crate::quota::{Quota, QuotaKey};
use crate::record::{ChunkSlices, DirUsage, NewDentry, ParentCount, SliceRef, Xattr};

/// Reads all of `input`; what is found goes to `out`.
pub(super) fn read(input: impl BufRead, out: Sender<Found>) -> Result<(), MetaError> {
    let mut reader = Reader {
        pull: Pull::new(input),
        out,
        batch: Batch::default(),
        settings: None,
        inodes: IdSet::default(),
        slices: IdSet::default(),
        linked: HashMap::new(),
        acls: HashMap::new(),
        limits: BTreeMap::new(),
        totals: Totals::default(),
    };
    reader.members()
}

struct Reader<R> {
    pull: Pull<R>,
    out: Sender<Found>,
    batch: Batch,
    settings: Option<Settings>,
    inodes: IdSet,
    slices: IdSet,
    /// Names of each file with several.
    linked: HashMap<Ino, u32>,
    acls: HashMap<AclRule, u32>,
    /// Limits of directories, by the number they have in the dump.
    limits: BTreeMap<u64, DumpedLimits>,
    totals: Totals,
}

/// A name whose inode is being read.
struct Open {
    parent: Ino,
    name: Bytes,
    ino: Ino,
    /// The number in the dump: the root of a part of a volume has another one there.
    dumped: u64,
    attr: Option<shoal_format::Attr>,
    target: Option<Bytes>,
    xattrs: Vec<DumpedXattr>,
    chunks: Vec<ChunkSlices>,
    /// Before the first member of the entry, or of its `entries`.
    first: bool,
    /// Among its `entries`.
    inside: bool,
    subdirs: u32,
    usage: DirUsage,
    /// Use of everything below.
    below: DirUsage,
}

impl Open {
    fn new(parent: Ino, name: Bytes) -> Open {
        Open {
            parent,
            name,
            ino: Ino::NONE,
            dumped: 0,
            attr: None,
            target: None,
            xattrs: Vec::new(),
            chunks: Vec::new(),
            first: true,
            inside: false,
            subdirs: 0,
            usage: DirUsage::default(),
            below: DirUsage::default(),
        }
    }
}

impl<R: BufRead> Reader<R> {
    fn members(&mut self) -> Result<(), MetaError> {
        self.pull.open()?;
        let mut first = true;
        let mut counters = DumpedCounters::default();
        while let Some(name) = self.pull.key(&mut first)? {
            match name.as_str() {
                "Setting" => self.setting()?,
                "Counters" => counters = self.pull.value()?,
                "DelFiles" => self.deleted_files()?,
                "Quotas" => {
                    let limits: Option<BTreeMap<u64, DumpedLimits>> = self.pull.value()?;
                    self.limits = limits.unwrap_or_default();
                }
                "UserQuotas" => self.owners(QuotaKey::User)?,
                "GroupQuotas" => self.owners(QuotaKey::Group)?,
                "FSTree" => self.tree(Ino::ROOT)?,
                "Trash" => self.tree(Ino::TRASH)?,
                _ => drop(self.pull.value::<serde::de::IgnoredAny>()?),
            }
        }
        self.pull.end()?;
        self.finish(counters)
    }

    /// Limits of users or groups; their use is counted at the end.
    fn owners(&mut self, key: fn(u32) -> QuotaKey) -> Result<(), MetaError> {
        let limits: Option<BTreeMap<u32, DumpedLimits>> = self.pull.value()?;
        let quota =
            |(id, DumpedLimits { max_space, max_inodes })| Quota { max_space, max_inodes, ..Quota::unlimited(key(id)) };
        self.totals.quotas.extend(limits.unwrap_or_default().into_iter().map(quota));
        Ok(())
    }

    fn setting(&mut self) -> Result<(), MetaError> {
        let json: serde_json::Value = self.pull.value()?;
        let settings = Settings::parse(&json.to_string())?;
        self.settings = Some(settings.clone());
        self.send(Found::Settings(Box::new(settings)))
    }

    fn send(&self, found: Found) -> Result<(), MetaError> {
        self.out.blocking_send(found).map_err(|_| MetaError::Stopped { what: "the load" })
    }

    fn flush_if_full(&mut self) -> Result<(), MetaError> {
        if self.batch.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), MetaError> {
        let batch = std::mem::take(&mut self.batch);
        self.send(Found::Batch(batch))
    }

    fn deleted_files(&mut self) -> Result<(), MetaError> {
        let (batch, out, totals) = (&mut self.batch, &self.out, &mut self.totals);
        self.pull.elements(|file: DumpedDeletedFile| {
            let DumpedDeletedFile { inode, length, expire } = file;
            totals.next_inode = totals.next_inode.max(inode.saturating_add(1));
            batch.deleted_files.push(DeletedFile { ino: Ino(inode), length, removed: expire });
            if batch.is_full() {
                let full = Found::Batch(std::mem::take(batch));
                return out.blocking_send(full).map_err(|_| MetaError::Stopped { what: "the load" });
            }
            Ok(())
        })
    }

    /// Reads a tree whose root becomes inode `root`, without a name.
    fn tree(&mut self, root: Ino) -> Result<(), MetaError> {
        if self.settings.is_none() {
            return Err(self.pull.wrong("it has no `Setting` before its tree"));
        }
        let parent = Ino::ROOT;
        self.pull.open()?;
        let mut stack = vec![Open::new(parent, Bytes::new())];
        while let Some(open) = stack.last_mut() {
            let Some(key) = self.pull.key(&mut open.first)? else {
                if std::mem::take(&mut open.inside) {
                    open.first = false;
                    continue;
                }
                let done = stack.pop().expect("the loop has one");
                self.done(done, stack.last_mut())?;
                continue;
            };
            if open.inside {
                self.pull.open()?;
                let (parent, name) = (open.ino, unescape(&key));
                stack.push(Open::new(parent, name));
            } else {
                let is_root = stack.len() == 1;
                let open = stack.last_mut().expect("the loop has one");
                self.member(open, &key, is_root.then_some(root))?;
            }
        }
        Ok(())
    }

    /// Reads one member of an entry.
    fn member(&mut self, open: &mut Open, key: &str, root: Option<Ino>) -> Result<(), MetaError> {
        match key {
            "attr" => {
                let dumped: DumpedAttr = self.pull.value()?;
                let attr = dumped.attr(open.parent).ok_or_else(|| self.pull.wrong("an inode has no known type"))?;
                open.ino = root.unwrap_or(Ino(dumped.inode));
                open.dumped = dumped.inode;
                open.attr = Some(attr);
            }
            "symlink" => open.target = Some(unescape(&self.pull.value::<String>()?)),
            "xattrs" => {
                let xattrs: Option<Vec<DumpedXattr>> = self.pull.value()?;
                open.xattrs = xattrs.unwrap_or_default();
            }
            "posix_acl_access" | "posix_acl_default" => {
                let rule: Option<DumpedAcl> = self.pull.value()?;
                let id = rule.map_or(0, |rule| self.acl(&rule));
                let attr = open.attr.as_mut().ok_or_else(|| self.pull.wrong("an entry begins without its `attr`"))?;
                if key == "posix_acl_access" { attr.access_acl = id } else { attr.default_acl = id }
            }
            "chunks" => {
                let (ino, chunks) = (open.ino, &mut open.chunks);
                self.pull.elements(|chunk: DumpedChunk| {
                    chunks.push(chunk.slices(ino));
                    Ok(())
                })?;
            }
            "entries" => {
                if !open.attr.as_ref().is_some_and(shoal_format::Attr::is_dir) {
                    return Err(self.pull.wrong("something has entries before, or without, being a directory"));
                }
                self.begin(open)?;
            }
            _ => drop(self.pull.value::<serde::de::IgnoredAny>()?),
        }
        Ok(())
    }

    /// Goes down into a directory, each of which has one name.
    fn begin(&mut self, open: &mut Open) -> Result<(), MetaError> {
        self.pull.open()?;
        (open.inside, open.first) = (true, true);
        Ok(())
    }

    fn acl(&mut self, rule: &DumpedAcl) -> u32 {
        let next = self.acls.len() as u32 + 1;
        *self.acls.entry(rule.rule()).or_insert(next)
    }

    /// An entry was read whole; `parent` is the directory it is in, if any.
    fn done(&mut self, open: Open, parent: Option<&mut Open>) -> Result<(), MetaError> {
        let Some(mut attr) = open.attr else { return Err(self.pull.wrong("an entry has no `attr`")) };
        if let (FileType::Symlink, Some(target)) = (attr.kind, &open.target) {
            attr.length = target.len() as u64;
        }
        let (ino, kind, use_of_it) = (open.ino, attr.kind, DirUsage::of(&attr));
        if let Some(parent) = parent {
            let dentry = Dentry { kind, ino };
            self.batch.dentries.push(NewDentry { parent: open.parent, name: open.name, dentry });
            parent.usage.add(use_of_it);
            parent.below.add(use_of_it);
            parent.below.add(open.below);
            parent.subdirs += u32::from(attr.is_dir());
        }
        if !self.inodes.insert(ino.0) {
            return self.further_name(ino, kind, open.parent);
        }
        if attr.is_dir() {
            // The trash counts no directories in it.
            attr.nlink = if ino.is_trash() { 2 } else { 2 + open.subdirs };
            self.dir_records(ino, open.dumped, open.usage, open.below);
        }
        if ino != Ino::ROOT && ino != Ino::TRASH {
            self.totals.space += use_of_it.space;
            self.totals.inodes += 1;
        }
        if ino.is_trash() {
            self.totals.last_trash = self.totals.last_trash.max(ino.0 - Ino::TRASH.0);
        } else {
            self.totals.next_inode = self.totals.next_inode.max(ino.0.saturating_add(1));
        }
        self.batch.attrs.push((ino, attr));
        self.batch.symlinks.extend(open.target.filter(|_| kind == FileType::Symlink).map(|target| (ino, target)));
        let xattr = |xattr: DumpedXattr| Xattr { ino, name: Bytes::from(xattr.name), value: unescape(&xattr.value) };
        self.batch.xattrs.extend(open.xattrs.into_iter().map(xattr));
        self.contents(open.chunks)?;
        self.flush_if_full()
    }

    fn further_name(&mut self, ino: Ino, kind: FileType, parent: Ino) -> Result<(), MetaError> {
        if kind == FileType::Directory {
            return Err(self.pull.wrong(format!("directory {ino} has two names")));
        }
        *self.linked.entry(ino).or_insert(1) += 1;
        self.batch.parents.push(ParentCount { ino, parent, count: 1 });
        self.flush_if_full()
    }

    fn dir_records(&mut self, ino: Ino, dumped: u64, usage: DirUsage, below: DirUsage) {
        if ino != Ino::TRASH && self.settings.as_ref().is_some_and(|settings| settings.dir_stats) {
            self.batch.usage.push((ino, usage));
        }
        if let Some(limits) = self.limits.remove(&dumped) {
            let DumpedLimits { max_space, max_inodes } = limits;
            let quota = Quota { max_space, max_inodes, ..Quota::unlimited(QuotaKey::Dir(ino)) }.with_use(below);
            self.totals.quotas.push(quota);
        }
    }

    fn contents(&mut self, chunks: Vec<ChunkSlices>) -> Result<(), MetaError> {
        for list in chunks.into_iter().filter(|list| !list.slices.is_empty()) {
            self.batch.records += list.slices.len();
            for record in list.slices.iter().filter(|record| record.id != 0) {
                self.totals.next_slice = self.totals.next_slice.max(record.id.saturating_add(1));
                let one = SliceRef { id: record.id, size: record.size, count: 1 };
                if self.slices.insert(record.id) {
                    self.batch.new_slices.push(one);
                } else {
                    self.batch.more_refs.push(one);
                }
            }
            self.batch.chunks.push(list);
            self.flush_if_full()?;
        }
        Ok(())
    }

    fn finish(&mut self, counters: DumpedCounters) -> Result<(), MetaError> {
        if self.settings.is_none() || !self.inodes.contains(Ino::ROOT.0) {
            return Err(self.pull.wrong("it holds no volume"));
        }
        for ino in self.limits.keys() {
            tracing::warn!(ino, "a quota is set on a directory that is not in the dump; it is left out");
        }
        self.flush()?;
        let mut totals = std::mem::take(&mut self.totals);
        totals.next_inode = totals.next_inode.max(counters.next_inodes);
        totals.next_slice = totals.next_slice.max(counters.next_chunk);
        totals.last_trash = totals.last_trash.max(counters.next_trash);
        totals.linked = std::mem::take(&mut self.linked).into_iter().collect();
        totals.acls = std::mem::take(&mut self.acls).into_iter().map(|(rule, id)| (id, rule)).collect();
        totals.acls.sort_unstable_by_key(|(id, _)| *id);
        self.send(Found::End(totals))
    }
}
