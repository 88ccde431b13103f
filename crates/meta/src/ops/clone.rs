//! Copies of files and directories that share the originals' slices: no byte is read or stored (spec section 19).
//!
//! A directory is copied in many transactions, below a top that has no name until all of it is there.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, CHUNK_BYTES, Dentry, FileType, Ino};

use super::access::{Caller, MAY_EXECUTE, MAY_READ, check_access, check_entries_may_come};
use super::change::{Change, ChangeContext};
use super::copy_range::references;
use super::create::check_new_name;
use super::rmdir::check_empty;
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::{ChunkSlices, DirTouch, DirUsage, NewDentry, Xattr};

/// Whose a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneMode {
    /// Owner, mode and times are those of the original.
    Preserve,
    /// The caller's and of now; the mode loses what the caller's umask says.
    Own,
}

/// One inode to copy.
#[derive(Debug, Clone)]
pub(crate) struct Original {
    /// The name of the copy.
    pub(crate) name: Bytes,
    /// What is copied.
    pub(crate) ino: Ino,
    /// The copy's number.
    pub(crate) copy: Ino,
}

/// Who copies, and how.
#[derive(Clone, Copy)]
pub(crate) struct CloneBy<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) mode: CloneMode,
}

/// Copies inodes into a directory that is itself a copy; those that are gone are passed over. Directories come empty.
pub(crate) struct CloneInto<'a> {
    pub(crate) by: CloneBy<'a>,
    pub(crate) into: Ino,
    pub(crate) originals: &'a [Original],
}

/// What was copied into a directory.
pub(crate) struct Copies {
    /// How many inodes.
    pub(crate) copied: u64,
    /// Directories among them, which are empty so far, and their copies.
    pub(crate) dirs: Vec<(Ino, Ino)>,
}

#[async_trait]
impl Change for CloneInto<'_> {
    type Output = Copies;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Copies, Effects), MetaError> {
        let above = txn.attrs_held(&[self.into]).await?.pop().flatten();
        let above = above.ok_or_else(|| MetaError::no_inode(self.into))?;
        let mut effects = Effects::default();
        let copies = self.by.copies(txn, context, self.into, self.originals).await?;
        let dentries: Vec<NewDentry> = copies.iter().map(|copy| copy.dentry(self.into)).collect();
        txn.insert_dentries(&dentries).await?;
        write_copies(txn, context, &copies, &mut effects).await?;
        self.by.log(txn, context, self.into, &copies, false).await?;
        for copy in &copies {
            effects.name_added(self.into, &copy.attr);
        }
        let dirs = copies.iter().filter(|copy| copy.attr.is_dir());
        let dirs: Vec<(Ino, Ino)> = dirs.map(|copy| (copy.original.ino, copy.original.copy)).collect();
        if !dirs.is_empty() {
            // Its times are those it was made with.
            let (nlink, mtime, ctime) = (dirs.len() as i32, above.mtime, above.ctime);
            txn.touch_dirs(&[DirTouch { ino: self.into, nlink, mtime, ctime }]).await?;
        }
        Ok((Copies { copied: copies.len() as u64, dirs }, effects))
    }
}

/// Copies one inode that is no directory under a new name.
pub(crate) struct CloneFile<'a> {
    pub(crate) by: CloneBy<'a>,
    pub(crate) parent: Ino,
    pub(crate) original: &'a Original,
}

#[async_trait]
impl Change for CloneFile<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((), Effects), MetaError> {
        let (parent, name) = (self.parent, &self.original.name);
        let above = free_place(txn, self.by.caller, parent, name).await?;
        let mut copies = self.by.copies(txn, context, parent, std::slice::from_ref(self.original)).await?;
        let copy = copies.pop().ok_or_else(|| MetaError::no_inode(self.original.ino))?;
        if copy.attr.is_dir() {
            return Err(MetaError::invalid(format!("inode {} is a directory", self.original.ino)));
        }
        let mut effects = Effects::default();
        txn.insert_dentries(&[copy.dentry(parent)]).await?;
        write_copies(txn, context, std::slice::from_ref(&copy), &mut effects).await?;
        self.by.log(txn, context, parent, std::slice::from_ref(&copy), true).await?;
        effects.name_added(parent, &copy.attr);
        txn.touch_dirs(context.touch(parent, &above, 0).as_slice()).await?;
        Ok(((), effects))
    }
}

/// Begins the copy of a directory: its top, which has no name yet.
pub(crate) struct CloneTop<'a> {
    pub(crate) by: CloneBy<'a>,
    /// Where it will get its name.
    pub(crate) parent: Ino,
    pub(crate) original: &'a Original,
}

#[async_trait]
impl Change for CloneTop<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((), Effects), MetaError> {
        free_place(txn, self.by.caller, self.parent, &self.original.name).await?;
        let copies = self.by.copies(txn, context, self.parent, std::slice::from_ref(self.original)).await?;
        let mut effects = Effects::default();
        write_copies(txn, context, &copies, &mut effects).await?;
        self.by.log(txn, context, self.parent, &copies, true).await?;
        txn.insert_detached(self.original.copy, context.now.secs).await?;
        Ok(((), effects))
    }
}

/// Gives the copy of a directory its name.
pub(crate) struct Attach<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) parent: Ino,
    pub(crate) name: &'a Bytes,
    pub(crate) top: Ino,
}

#[async_trait]
impl Change for Attach<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((), Effects), MetaError> {
        let above = free_place(txn, self.caller, self.parent, self.name).await?;
        let attr = txn.attrs_locked(&[self.top]).await?.pop().flatten();
        let attr = attr.ok_or_else(|| MetaError::no_inode(self.top))?;
        if !txn.remove_detached(self.top).await? {
            return Err(MetaError::no_inode(self.top));
        }
        let dentry = Dentry { kind: FileType::Directory, ino: self.top };
        txn.insert_dentries(&[NewDentry { parent: self.parent, name: self.name.clone(), dentry }]).await?;
        txn.touch_dirs(context.touch(self.parent, &above, 1).as_slice()).await?;
        let entry = || LogEntry::new("ATTACH").with(self.top).with(self.parent).bytes(self.name);
        context.log(txn, entry).await?;
        let mut effects = Effects::default();
        effects.name_added(self.parent, &attr);
        Ok(((), effects))
    }
}

/// Removes the top of a tree that never got a name. It must be empty.
pub(crate) struct DropDetached {
    pub(crate) top: Ino,
}

#[async_trait]
impl Change for DropDetached {
    /// False if it has its name, or is gone.
    type Output = bool;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(bool, Effects), MetaError> {
        let attr = txn.attrs_locked(&[self.top]).await?.pop().flatten();
        let mut effects = Effects::default();
        if !txn.remove_detached(self.top).await? {
            return Ok((false, effects));
        }
        let Some(attr) = attr else { return Ok((false, effects)) };
        check_empty(txn, self.top).await?;
        txn.delete_attrs(&[self.top]).await?;
        txn.delete_xattrs_and_parents(&[self.top]).await?;
        txn.delete_dir_records(&[self.top]).await?;
        context.log(txn, || LogEntry::new("CLEANUP").with(self.top)).await?;
        effects.inode_removed(&attr);
        Ok((true, effects))
    }
}

/// A directory in which the caller may make the name, which is free.
async fn free_place(txn: &dyn Txn, caller: &Caller, parent: Ino, name: &Bytes) -> Result<Attr, MetaError> {
    check_new_name(parent, name)?;
    let held = txn.attrs_held(&[parent]).await?.pop().flatten();
    let above = check_entries_may_come(txn, caller, parent, held.as_ref()).await?.clone();
    match txn.entry(parent, name).await? {
        Some(_) => Err(MetaError::exists(parent, name)),
        None => Ok(above),
    }
}

/// A copy that is not written yet.
struct Copy {
    original: Original,
    attr: Attr,
}

impl Copy {
    fn dentry(&self, parent: Ino) -> NewDentry {
        let dentry = Dentry { kind: self.attr.kind, ino: self.original.copy };
        NewDentry { parent, name: self.original.name.clone(), dentry }
    }
}

impl CloneBy<'_> {
    /// Locks originals, so that length and lists of each belong together; gives what their copies are like.
    async fn copies(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        parent: Ino,
        originals: &[Original],
    ) -> Result<Vec<Copy>, MetaError> {
        let inos: Vec<Ino> = originals.iter().map(|original| original.ino).collect();
        let mut copies = Vec::with_capacity(inos.len());
        for (original, attr) in originals.iter().zip(txn.attrs_locked(&inos).await?) {
            // Without attributes it is damaged, without a name it is gone.
            let Some(attr) = attr.filter(|attr| attr.nlink > 0) else { continue };
            match attr.kind {
                FileType::Directory => {
                    check_access(txn, self.caller, original.ino, &attr, MAY_READ | MAY_EXECUTE).await?;
                }
                FileType::Regular => check_access(txn, self.caller, original.ino, &attr, MAY_READ).await?,
                _ => {}
            }
            copies.push(Copy { original: original.clone(), attr: self.attr(attr, context, parent) });
        }
        Ok(copies)
    }

    /// Logs copies made in `parent`; `top` says that it was asked for by name.
    async fn log(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        parent: Ino,
        copies: &[Copy],
        top: bool,
    ) -> Result<(), MetaError> {
        let mode = match self.mode {
            CloneMode::Preserve => 2,
            CloneMode::Own => 0,
        };
        for Copy { original: Original { name, ino, copy }, .. } in copies {
            let entry = || LogEntry::new("CLONE").with(ino).with(parent).bytes(name).with(copy).with(mode);
            context.log(txn, || entry().with(self.caller.umask).with(top).result(copy)).await?;
        }
        Ok(())
    }

    fn attr(&self, attr: Attr, context: &ChangeContext, parent: Ino) -> Attr {
        let now = context.now;
        let attr = Attr { parent, nlink: if attr.is_dir() { 2 } else { 1 }, ctime: now, ..attr };
        match self.mode {
            CloneMode::Preserve => attr,
            CloneMode::Own => Attr {
                uid: self.caller.uid,
                gid: self.caller.gid,
                mode: attr.mode & !(self.caller.umask & 0o777),
                atime: now,
                mtime: now,
                ..attr
            },
        }
    }
}

/// Writes everything of copies but their names.
async fn write_copies(
    txn: &dyn Txn,
    context: &ChangeContext,
    copies: &[Copy],
    effects: &mut Effects,
) -> Result<(), MetaError> {
    let attrs: Vec<(Ino, Attr)> = copies.iter().map(|copy| (copy.original.copy, copy.attr.clone())).collect();
    txn.insert_attrs(&attrs).await?;
    let (mut links, mut xattrs, mut chunks) = (Vec::new(), Vec::new(), Vec::new());
    for Copy { original: Original { ino, copy, .. }, attr } in copies {
        effects.inode_added(attr);
        for name in txn.xattr_names(*ino).await? {
            if let Some(value) = txn.xattr(*ino, &name).await? {
                xattrs.push(Xattr { ino: *copy, name, value });
            }
        }
        match attr.kind {
            FileType::Symlink => links.extend(txn.symlink(*ino).await?.map(|target| (*copy, target))),
            FileType::Regular if attr.length > 0 => {
                let lists = txn.chunks(*ino, 0..attr.length.div_ceil(CHUNK_BYTES) as u32).await?;
                chunks.extend(lists.into_iter().map(|list| ChunkSlices { ino: *copy, ..list }));
            }
            _ => {}
        }
    }
    txn.insert_symlinks(&links).await?;
    txn.put_xattrs(&xattrs).await?;
    let gone = txn.add_slice_refs(&references(&chunks)).await?;
    if !gone.is_empty() {
        // Somebody compacted an original between our look at its lists and now.
        return Err(MetaError::Contended { at: format!("volume `{}`", context.settings.name) });
    }
    txn.append_slices(&chunks).await?;
    if context.settings.dir_stats {
        let dirs = copies.iter().filter(|copy| copy.attr.is_dir());
        let empty: Vec<(Ino, DirUsage)> = dirs.map(|copy| (copy.original.copy, DirUsage::default())).collect();
        txn.put_dir_usage(&empty).await?;
    }
    Ok(())
}
