//! Moving a name, over another or in exchange with it (spec section 24.10).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino};

use super::access::{Caller, MAY_WRITE, check_access};
use super::ancestry::{refuse_cycle, serialize_dir_moves};
use super::change::{Change, ChangeContext};
use super::moved_tree::charge_moved_tree;
use super::removable::{changeable_dir, check_name, check_removable, growing_dir, refused};
use super::removal::{Changed, Remains, Removal, Victim, touch};
use super::rmdir::check_empty;
use super::usage::{add_dir_usage, place};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{Foreseen, OldDentry, Txn};
use crate::error::{MetaError, Refusal};
use crate::name::show_name;
use crate::record::{DirUsage, NewDentry, ParentCount};

/// What becomes of what has the new name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// It is removed.
    Replace,
    /// It stays, and the rename fails with `Conflict`.
    NoReplace,
    /// It gets the old name.
    Exchange,
    /// It stays, and the rename fails with `Conflict`; root moves from the trash, also into a directory that lies there itself.
    Restore,
}

/// A name and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The directory.
    pub parent: Ino,
    /// The name's bytes.
    pub name: &'a [u8],
}

/// What a rename did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renamed {
    /// The inode that has the new name now.
    pub ino: Ino,
    /// What it replaced, if anything.
    pub replaced: Option<(Ino, Remains)>,
}

/// Moves the name at `from` to `to`.
pub(crate) struct Rename<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) from: Place<'a>,
    pub(crate) to: Place<'a>,
    pub(crate) mode: RenameMode,
    pub(crate) removal: Removal<'a>,
}

/// Both directories, as they were read.
struct Dirs {
    from: Attr,
    to: Attr,
}

#[async_trait]
impl Change for Rename<'_> {
    type Output = Renamed;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Renamed, Effects), MetaError> {
        self.check_places()?;
        txn.foresee(&self.foreseen()).await?;
        let from = changeable_dir(txn, self.caller, self.from.parent).await?;
        let to = match self.mode {
            RenameMode::Restore => changeable_dir(txn, self.caller, self.to.parent).await?,
            _ => growing_dir(txn, self.caller, self.to.parent).await?,
        };
        let dirs = Dirs { from, to };
        let (source, target) = self.find(txn).await?;
        let ino = source.dentry.ino;
        // Two names of one file, or one name: POSIX wants nothing done.
        if target.as_ref().is_some_and(|target| target.dentry.ino == ino) {
            return Ok((Renamed { ino, replaced: None }, Effects::default()));
        }
        check_removable(self.caller, &dirs.from, &source)?;
        if let Some(target) = &target {
            check_removable(self.caller, &dirs.to, target)?;
        }
        self.check_kinds(txn, &source, target.as_ref()).await?;
        let mut effects = Effects::default();
        let other = target.as_ref().map(|target| target.dentry.ino);
        let replaced = match (self.mode, target) {
            (RenameMode::Exchange, Some(target)) => {
                self.exchange(txn, context, &dirs, [source, target], &mut effects).await?;
                None
            }
            (_, target) => self.replace(txn, context, &dirs, (source, target), &mut effects).await?,
        };
        context.log(txn, || self.entry(ino, other)).await?;
        Ok((Renamed { ino, replaced }, effects))
    }
}

impl Rename<'_> {
    fn moves(&self) -> bool {
        self.from.parent != self.to.parent
    }

    fn entry(&self, ino: Ino, other: Option<Ino>) -> LogEntry {
        let flags = match self.mode {
            RenameMode::Replace => 0,
            RenameMode::NoReplace => 1,
            RenameMode::Exchange => 2,
            // What real clients call it among themselves.
            RenameMode::Restore => 32,
        };
        let entry = LogEntry::new("MOVE").with(self.from.parent).bytes(self.from.name);
        let entry = entry.with(self.to.parent).bytes(self.to.name).with(flags);
        entry.with(other.unwrap_or(Ino::NONE)).with(self.removal.trash.unwrap_or(Ino::NONE)).result(ino)
    }

    /// Both directories, then both names.
    fn foreseen(&self) -> [Foreseen<'_>; 4] {
        let [from, to] = [self.from, self.to].map(|end| Foreseen::Entry(end.parent, end.name));
        [Foreseen::Held(self.from.parent), Foreseen::Held(self.to.parent), from, to]
    }

    fn check_places(&self) -> Result<(), MetaError> {
        for end in [self.from, self.to] {
            if matches!(end.name, b"." | b"..") {
                return Err(MetaError::invalid(format!("`{}` cannot be renamed", show_name(end.name))));
            }
            check_name(self.caller, end.parent, end.name)?;
        }
        let into_trash = self.to.parent.is_trash() || self.mode == RenameMode::Exchange && self.from.parent.is_trash();
        if self.mode == RenameMode::Restore && !self.from.parent.is_trash() {
            return Err(refused(self.from.parent, self.from.name, "only what is in the trash is restored"));
        }
        if into_trash {
            return Err(refused(self.to.parent, self.to.name, "the trash takes only what is removed"));
        }
        Ok(())
    }

    /// Both ends, their attributes locked at once.
    async fn find(&self, txn: &dyn Txn) -> Result<(Victim, Option<Victim>), MetaError> {
        let (from, to) = (self.from, self.to);
        let source = Victim::find(txn, from.parent, from.name).await?;
        let mut source = source.ok_or_else(|| MetaError::no_entry(from.parent, from.name))?;
        let mut target = Victim::find(txn, to.parent, to.name).await?;
        match (&target, self.mode) {
            (Some(_), RenameMode::NoReplace | RenameMode::Restore) => {
                return Err(MetaError::exists(to.parent, to.name));
            }
            (None, RenameMode::Exchange) => return Err(MetaError::no_entry(to.parent, to.name)),
            _ => {}
        }
        if self.moves() && (is_dir(&source) || target.as_ref().is_some_and(is_dir)) {
            serialize_dir_moves(txn).await?;
        }
        let ends = [Some(&source), target.as_ref()].into_iter().flatten();
        let inos: Vec<Ino> = ends.map(|end| end.dentry.ino).collect();
        let mut attrs = txn.attrs_locked(&inos).await?.into_iter();
        source.attr = attrs.next().flatten();
        if source.attr.is_none() {
            return Err(MetaError::no_entry(from.parent, from.name));
        }
        if let Some(target) = &mut target {
            target.attr = attrs.next().flatten();
        }
        Ok((source, target))
    }

    /// Refuses what cannot be in place of the other, and directories that would end up below themselves.
    async fn check_kinds(&self, txn: &dyn Txn, source: &Victim, target: Option<&Victim>) -> Result<(), MetaError> {
        if self.moves() && is_dir(source) {
            self.check_move(txn, source, self.to.parent).await?;
        }
        let Some(target) = target else { return Ok(()) };
        match (self.mode, is_dir(source), is_dir(target)) {
            (RenameMode::Exchange, _, true) if self.moves() => self.check_move(txn, target, self.from.parent).await,
            (RenameMode::Exchange, ..) | (_, false, false) => Ok(()),
            (_, true, false) => Err(MetaError::NotDirectory { what: place(self.to.parent, self.to.name) }),
            (_, false, true) => {
                let what = format!("{} is a directory", place(self.to.parent, self.to.name));
                Err(MetaError::refused(Refusal::IsDirectory, what))
            }
            (_, true, true) => check_empty(txn, target.dentry.ino).await,
        }
    }

    /// Whether a directory may move to another: not below itself, and its `..` changes with it (rename(2), EACCES).
    async fn check_move(&self, txn: &dyn Txn, dir: &Victim, to: Ino) -> Result<(), MetaError> {
        refuse_cycle(txn, dir.dentry.ino, to).await?;
        match &dir.attr {
            Some(attr) => check_access(txn, self.caller, dir.dentry.ino, attr, MAY_WRITE).await,
            None => Ok(()),
        }
    }

    async fn replace(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        dirs: &Dirs,
        (source, target): (Victim, Option<Victim>),
        effects: &mut Effects,
    ) -> Result<Option<(Ino, Remains)>, MetaError> {
        let (moving, mut replaced, mut lost) = (i32::from(is_dir(&source)), None, 0);
        if let Some(target) = target {
            lost = i32::from(is_dir(&target));
            replaced = Some((target.dentry.ino, self.removal.remove(txn, context, &target, effects).await?));
        }
        self.settle(txn, context, &[(source, self.to)], effects).await?;
        self.touch(txn, context, dirs, [-moving, moving - lost]).await?;
        Ok(replaced)
    }

    async fn exchange(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        dirs: &Dirs,
        [source, target]: [Victim; 2],
        effects: &mut Effects,
    ) -> Result<(), MetaError> {
        let gained = i32::from(is_dir(&source)) - i32::from(is_dir(&target));
        self.settle(txn, context, &[(source, self.to), (target, self.from)], effects).await?;
        self.touch(txn, context, dirs, [-gained, gained]).await
    }

    async fn touch(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        dirs: &Dirs,
        [from, to]: [i32; 2],
    ) -> Result<(), MetaError> {
        let from = Changed { ino: self.from.parent, attr: &dirs.from, subdirs: from };
        touch(txn, context, &[from, Changed { ino: self.to.parent, attr: &dirs.to, subdirs: to }]).await.map(drop)
    }

    /// Gives inodes their new names and what they keep of their place; directories gain and lose their use.
    async fn settle(
        &self,
        txn: &dyn Txn,
        context: &ChangeContext,
        moves: &[(Victim, Place<'_>)],
        effects: &mut Effects,
    ) -> Result<(), MetaError> {
        let (mut old, mut new, mut attrs, mut parents) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (end, to) in moves {
            let ino = end.dentry.ino;
            old.push(OldDentry { parent: end.parent, name: end.name.clone(), ino });
            new.push(NewDentry { parent: to.parent, name: Bytes::copy_from_slice(to.name), dentry: end.dentry });
            let Some(attr) = &end.attr else { continue };
            let mut after = Attr { ctime: context.now, ..attr.clone() };
            if end.parent != to.parent {
                effects.name_removed(end.parent, attr);
                effects.name_added(to.parent, attr);
                if attr.parent == Ino::NONE {
                    parents.push(ParentCount { ino, parent: to.parent, count: 1 });
                    parents.push(ParentCount { ino, parent: end.parent, count: -1 });
                } else {
                    after.parent = to.parent;
                }
                if is_dir(end) {
                    charge_moved_tree(txn, ino, end.parent, to.parent, effects).await?;
                    // Real clients drop statistics of what they remove: a restored directory is counted anew.
                    if end.parent.is_trash() && context.settings.dir_stats {
                        add_dir_usage(txn, &[(ino, DirUsage::default())]).await?;
                    }
                }
            }
            attrs.push((ino, after));
        }
        txn.delete_dentries(&old).await?;
        txn.insert_dentries(&new).await?;
        txn.add_parents(&parents).await?;
        txn.update_attrs(&attrs).await
    }
}

fn is_dir(end: &Victim) -> bool {
    end.dentry.kind == FileType::Directory
}
