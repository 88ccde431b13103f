//! A new inode under a new name: file, directory, symbolic link, device, pipe or socket (spec section 24.2).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, Dentry, FileType, Ino, Time, attr_flag};

use super::access::{Caller, SETGID, check_entries_may_come};
use super::acl::{inherit_acl, inherits_acl};
use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{Foreseen, Txn};
use crate::error::{MetaError, Refusal};
use crate::name::{NAME_BYTES_MAX, NameClass, classify, show_name};
use crate::record::{DirUsage, NewDentry};

/// Longest symbolic link target in bytes, one less than the format's bound.
pub(crate) const SYMLINK_BYTES_MAX: usize = 4095;

/// What is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewInode {
    /// An empty regular file.
    File,
    /// An empty directory.
    Directory,
    /// A symbolic link to these bytes.
    Symlink(Bytes),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block device with this number.
    BlockDevice(u32),
    /// A character device with this number.
    CharDevice(u32),
}

impl NewInode {
    fn kind(&self) -> FileType {
        match self {
            NewInode::File => FileType::Regular,
            NewInode::Directory => FileType::Directory,
            NewInode::Symlink(_) => FileType::Symlink,
            NewInode::Fifo => FileType::Fifo,
            NewInode::Socket => FileType::Socket,
            NewInode::BlockDevice(_) => FileType::BlockDevice,
            NewInode::CharDevice(_) => FileType::CharDevice,
        }
    }
}

/// Creates one inode.
pub(crate) struct Create<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) parent: Ino,
    pub(crate) name: &'a [u8],
    pub(crate) new: &'a NewInode,
    /// Permission bits before the umask.
    pub(crate) mode: u16,
    /// The new inode's number.
    pub(crate) ino: Ino,
}

#[async_trait]
impl Change for Create<'_> {
    type Output = Attr;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Attr, Effects), MetaError> {
        check_new_name(self.parent, self.name)?;
        if let NewInode::Symlink(target) = self.new {
            check_target(target)?;
        }
        txn.foresee(&[Foreseen::Held(self.parent), Foreseen::Entry(self.parent, self.name)]).await?;
        let held = txn.attrs_held(&[self.parent]).await?;
        let above =
            check_entries_may_come(txn, self.caller, self.parent, held.first().and_then(Option::as_ref)).await?;
        if txn.entry(self.parent, self.name).await?.is_some() {
            return Err(MetaError::exists(self.parent, self.name));
        }
        let mut attr = self.attr(above, context.now);
        inherit_acl(txn, &context.acls, self.ino, &mut attr, above).await?;
        let dentry = Dentry { kind: attr.kind, ino: self.ino };
        txn.insert_dentries(&[NewDentry { parent: self.parent, name: Bytes::copy_from_slice(self.name), dentry }])
            .await?;
        txn.insert_attrs(&[(self.ino, attr.clone())]).await?;
        if let NewInode::Symlink(target) = self.new {
            txn.insert_symlinks(&[(self.ino, target.clone())]).await?;
        }
        if attr.is_dir() && context.settings.dir_stats {
            txn.put_dir_usage(&[(self.ino, DirUsage::default())]).await?;
        }
        let touch = context.touch(self.parent, above, i32::from(attr.is_dir()));
        txn.touch_dirs(touch.as_slice()).await?;
        context.log(txn, || self.entry(context, touch.is_some())).await?;
        let effects = Effects::created(self.parent, &attr);
        Ok((attr, effects))
    }
}

impl Create<'_> {
    fn entry(&self, context: &ChangeContext, updated: bool) -> LogEntry {
        let umask = self.caller.umask & 0o777;
        let (mode, target): (u16, &[u8]) = match self.new {
            NewInode::Symlink(target) => (self.mode, target),
            // Without ACLs real clients are asked by the kernel after it has applied the umask.
            _ if !context.settings.enable_acl => (self.mode & !umask, b""),
            _ => (self.mode, b""),
        };
        created(self.parent, self.name, (self.caller.uid, self.caller.gid), self.new.kind(), mode)
            .with(umask)
            .bytes(target)
            .bytes(b"linux")
            .with(updated)
            .result(self.ino)
    }

    /// Attributes of the new inode, with what it inherits from the directory `above`.
    fn attr(&self, above: &Attr, now: Time) -> Attr {
        let kind = self.new.kind();
        // The bits of a symbolic link mean nothing.
        let masked = kind != FileType::Symlink && !inherits_acl(kind, above);
        let mode = if masked { self.mode & !(self.caller.umask & 0o777) } else { self.mode };
        let mut attr = Attr::new(kind, mode, self.parent, now);
        match self.new {
            NewInode::Symlink(target) => attr.length = target.len() as u64,
            NewInode::BlockDevice(rdev) | NewInode::CharDevice(rdev) => attr.rdev = *rdev,
            _ => {}
        }
        attr.uid = self.caller.uid;
        attr.gid = self.caller.gid;
        inherit(&mut attr, above);
        let runs_as_group = attr.mode & (SETGID | 0o010) == SETGID | 0o010;
        let inherited = above.mode & SETGID != 0 && !attr.is_dir();
        if inherited && runs_as_group && !self.caller.is_root() && !self.caller.in_group(above.gid) {
            // Nobody makes a program that runs with the rights of a group that is not the maker's.
            attr.mode &= !SETGID;
        }
        attr
    }
}

/// The beginning of the log entry of a new inode.
pub(super) fn created(parent: Ino, name: &[u8], (uid, gid): (u32, u32), kind: FileType, mode: u16) -> LogEntry {
    LogEntry::new("CREATE").with(parent).bytes(name).with(uid).with(gid).with(kind as u8).with(mode)
}

/// Refuses a name that no new dentry of `parent` can have.
pub(crate) fn check_new_name(parent: Ino, name: &[u8]) -> Result<(), MetaError> {
    let shown = || format!("`{}`", show_name(name));
    match classify(parent, name) {
        NameClass::Ordinary => Ok(()),
        NameClass::Trash | NameClass::Virtual => {
            Err(MetaError::refused(Refusal::NotPermitted, format!("the name {} is reserved in the root", shown())))
        }
        NameClass::Impossible if name.len() > NAME_BYTES_MAX => {
            let what = format!("a name of {} bytes is too long; {NAME_BYTES_MAX} are possible", name.len());
            Err(MetaError::refused(Refusal::NameTooLong, what))
        }
        NameClass::Impossible => Err(MetaError::invalid(format!("{} is no possible name", shown()))),
    }
}

fn check_target(target: &[u8]) -> Result<(), MetaError> {
    if target.len() > SYMLINK_BYTES_MAX {
        let what = format!("a target of {} bytes is too long; {SYMLINK_BYTES_MAX} are possible", target.len());
        return Err(MetaError::refused(Refusal::NameTooLong, what));
    }
    if target.is_empty() || target.contains(&0) {
        return Err(MetaError::invalid("a symbolic link needs a target of at least one byte, none of them zero"));
    }
    Ok(())
}

/// What a new inode has from the directory it is made in (spec section 24.2).
pub(super) fn inherit(attr: &mut Attr, above: &Attr) {
    attr.flags = above.flags & attr_flag::SKIP_TRASH;
    attr.tier = above.tier;
    if above.mode & SETGID != 0 {
        attr.gid = above.gid;
        if attr.is_dir() {
            attr.mode |= SETGID;
        }
    }
}
