//! What becomes of an inode whose name is taken away: trash, another name, an open handle, or nothing (spec sections 14 and 15).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, Dentry, FileType, Ino, attr_flag, trash_entry};

use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{DeletedFile, Foreseen, OldDentry, Txn};
use crate::error::MetaError;
use crate::record::{DirTouch, NewDentry, ParentCount};

/// What a removal has to know of its session.
pub(crate) struct Removal<'a> {
    /// The hourly trash directory of now; `None` if the volume has no trash.
    pub(crate) trash: Option<Ino>,
    /// The session's number, and whether it has a file open.
    pub(crate) sid: u64,
    pub(crate) is_open: &'a (dyn Fn(Ino) -> bool + Sync),
}

/// A name that is to go, and what it names.
#[derive(Debug, Clone)]
pub(crate) struct Victim {
    pub(crate) parent: Ino,
    pub(crate) name: Bytes,
    pub(crate) dentry: Dentry,
    /// Its attributes, locked; `None` for a damaged dentry, which only goes away.
    pub(crate) attr: Option<Attr>,
}

impl Victim {
    /// What `name` in `parent` names, without attributes yet.
    pub(crate) async fn find(txn: &dyn Txn, parent: Ino, name: &[u8]) -> Result<Option<Victim>, MetaError> {
        let entry = txn.entry(parent, name).await?;
        let name = Bytes::copy_from_slice(name);
        Ok(entry.map(|entry| Victim { parent, name, dentry: entry.dentry, attr: None }))
    }

    /// The same with its attributes, locked.
    pub(crate) async fn lock(self, txn: &dyn Txn) -> Result<Victim, MetaError> {
        let attr = txn.attrs_locked(&[self.dentry.ino]).await?.pop().flatten();
        Ok(Victim { attr, ..self })
    }
}

/// What is read to remove `name` from `parent`: the directory, the name, and then what it names.
pub(crate) fn foreseen(parent: Ino, name: &[u8]) -> [Foreseen<'_>; 3] {
    [Foreseen::Held(parent), Foreseen::Entry(parent, name), Foreseen::LockedEntry(parent, name)]
}

/// What is left of an inode after one of its names was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Everything, in the trash.
    Trash,
    /// Everything, under its other names.
    Names,
    /// Everything but names, until its last handle in this process is closed.
    OpenFile,
    /// The data of a regular file, which the caller deletes now or any client later.
    Data(DeletedFile),
    /// Nothing.
    Nothing,
}

impl Removal<'_> {
    /// Takes `victim`'s name away and does with the inode what follows from it. A directory must be empty. The directory the
    /// name was in is not touched; what its use loses, and the trash gains, is added to `effects`.
    pub(crate) async fn remove(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        victim: &Victim,
        effects: &mut Effects,
    ) -> Result<Remains, MetaError> {
        let (parent, ino) = (victim.parent, victim.dentry.ino);
        let in_trash = self.place_in_trash(txn, victim).await?;
        txn.delete_dentries(&[OldDentry { parent, name: victim.name.clone(), ino }]).await?;
        let Some(attr) = victim.attr.clone() else {
            txn.delete_xattrs_and_parents(&[ino]).await?;
            return Ok(Remains::Nothing);
        };
        effects.name_removed(parent, &attr);
        let attr = Attr { ctime: context.now, ..attr };
        match in_trash {
            Some(place) => {
                effects.name_added(place.parent, &attr);
                to_trash(txn, parent, place, attr).await
            }
            None => self.drop_link(txn, context, (parent, ino, attr), effects).await,
        }
    }

    /// Where in the trash the victim goes, if it does.
    async fn place_in_trash(&self, txn: &dyn Txn, victim: &Victim) -> Result<Option<NewDentry>, MetaError> {
        let (Some(hour), Some(attr)) = (self.trash, &victim.attr) else { return Ok(None) };
        if victim.parent.is_trash() || attr.flags & attr_flag::SKIP_TRASH != 0 {
            return Ok(None);
        }
        let name = trash_entry(victim.parent, victim.dentry.ino, &victim.name);
        // Names cut alike, or one name removed again: the file is in the trash under this name already.
        let linked = !attr.is_dir() && attr.nlink > 1;
        if linked && txn.entry(hour, &name).await?.is_some() {
            return Ok(None);
        }
        Ok(Some(NewDentry { parent: hour, name, dentry: victim.dentry }))
    }

    /// One link less, which may have been the last.
    async fn drop_link(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        (parent, ino, attr): (Ino, Ino, Attr),
        effects: &mut Effects,
    ) -> Result<Remains, MetaError> {
        let nlink = if attr.is_dir() { 0 } else { attr.nlink.saturating_sub(1) };
        let attr = Attr { nlink, ..attr };
        if nlink > 0 {
            if attr.parent == Ino::NONE {
                txn.add_parents(&[ParentCount { ino, parent, count: -1 }]).await?;
            }
            txn.update_attrs(&[(ino, attr)]).await?;
            return Ok(Remains::Names);
        }
        txn.delete_xattrs_and_parents(&[ino]).await?;
        if attr.kind == FileType::Regular && (self.is_open)(ino) {
            txn.update_attrs(&[(ino, attr)]).await?;
            txn.insert_sustained(self.sid, &[ino]).await?;
            return Ok(Remains::OpenFile);
        }
        delete_inode(txn, context, ino, &attr, effects).await
    }
}

async fn to_trash(txn: &dyn Txn, from: Ino, place: NewDentry, attr: Attr) -> Result<Remains, MetaError> {
    let (ino, hour) = (place.dentry.ino, place.parent);
    txn.insert_dentries(&[place]).await?;
    let parent = if attr.parent == Ino::NONE {
        let (gained, lost) =
            (ParentCount { ino, parent: hour, count: 1 }, ParentCount { ino, parent: from, count: -1 });
        txn.add_parents(&[gained, lost]).await?;
        Ino::NONE
    } else {
        hour
    };
    // Its statistics stay, so that it is whole when it is restored.
    if attr.is_dir() {
        txn.delete_dir_quotas(&[ino]).await?;
    }
    txn.update_attrs(&[(ino, Attr { parent, ..attr })]).await?;
    Ok(Remains::Trash)
}

/// Removes an inode without names and handles, whose extended attributes are gone already.
async fn delete_inode(
    txn: &dyn Txn,
    context: &ChangeContext,
    ino: Ino,
    attr: &Attr,
    effects: &mut Effects,
) -> Result<Remains, MetaError> {
    txn.delete_attrs(&[ino]).await?;
    effects.inode_removed(attr);
    match attr.kind {
        FileType::Regular => {
            let file = DeletedFile { ino, length: attr.length, removed: context.now.secs };
            txn.insert_deleted_files(&[file]).await?;
            return Ok(Remains::Data(file));
        }
        FileType::Directory => txn.delete_dir_records(&[ino]).await?,
        FileType::Symlink => txn.delete_symlinks(&[ino]).await?,
        FileType::Fifo | FileType::BlockDevice | FileType::CharDevice | FileType::Socket => {}
    }
    Ok(Remains::Nothing)
}

/// A directory whose entries changed: its attributes as they were read, and the sub-directories it gained.
#[derive(Clone, Copy)]
pub(crate) struct Changed<'a> {
    pub(crate) ino: Ino,
    pub(crate) attr: &'a Attr,
    pub(crate) subdirs: i32,
}

/// Changes times and link counts of directories whose entries changed; true if any did. Those of the trash stay as they are (spec
/// section 15).
pub(crate) async fn touch(txn: &dyn Txn, context: &ChangeContext, dirs: &[Changed<'_>]) -> Result<bool, MetaError> {
    let mut changed: Vec<Changed<'_>> = Vec::with_capacity(dirs.len());
    for dir in dirs.iter().filter(|dir| !dir.ino.is_trash()) {
        match changed.iter_mut().find(|known| known.ino == dir.ino) {
            Some(known) => known.subdirs += dir.subdirs,
            None => changed.push(*dir),
        }
    }
    changed.sort_unstable_by_key(|dir| dir.ino);
    let touches: Vec<DirTouch> =
        changed.iter().filter_map(|dir| context.touch(dir.ino, dir.attr, dir.subdirs)).collect();
    txn.touch_dirs(&touches).await?;
    Ok(!touches.is_empty())
}

/// The log entry of a name that was taken away, into the directory `trash` or for good.
pub(crate) fn removed(victim: &Victim, trash: Option<Ino>, remains: Remains, updated: bool) -> LogEntry {
    let trash = trash.filter(|_| remains == Remains::Trash).unwrap_or(Ino::NONE);
    let ino = victim.dentry.ino;
    if victim.dentry.kind == FileType::Directory {
        return LogEntry::new("RMDIR").with(victim.parent).bytes(&victim.name).with(trash).result(ino);
    }
    let entry = LogEntry::new("UNLINK").with(victim.parent).bytes(&victim.name).with(trash);
    entry.with(remains == Remains::OpenFile).with(updated).result(ino)
}

/// Lets go of a removed file whose last handle in session `sid` is closed.
pub(crate) struct DropSustained {
    pub(crate) sid: u64,
    pub(crate) ino: Ino,
}

#[async_trait]
impl Change for DropSustained {
    type Output = Option<DeletedFile>;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Option<DeletedFile>, Effects), MetaError> {
        let mut effects = Effects::default();
        let attr = txn.attrs_locked(&[self.ino]).await?.pop().flatten();
        txn.delete_sustained(self.sid, &[self.ino]).await?;
        context.log(txn, || LogEntry::new("DELSUSTAINED").with(self.sid).with(self.ino)).await?;
        // With a name again, or gone by another client's hand: there is nothing to let go of.
        let Some(attr) = attr.filter(|attr| attr.nlink == 0) else { return Ok((None, effects)) };
        match delete_inode(txn, context, self.ino, &attr, &mut effects).await? {
            Remains::Data(file) => Ok((Some(file), effects)),
            _ => Ok((None, effects)),
        }
    }
}
