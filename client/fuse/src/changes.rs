//! Kernel requests that change names and attributes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileHandle, FopenFlags, INodeNo, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, Request, TimeOrNow,
};
use shoal_format::{Attr, Ino, Time};
use shoal_meta::{Caller, MAY_WRITE, NewInode, SetAttr, SetTime, XattrMode};
use shoal_vfs::VfsError;

use crate::access_log::Op;
use crate::attr::file_attr;
use crate::caller::{caller_with_groups, wanted_by_open};
use crate::ops::{GENERATION, ShoalFs};
use crate::virtual_files::VirtualFile;

/// Set-group-id and the group's execute bit: together they make a program of the group.
const RUNS_AS_GROUP: u32 = 0o2010;

/// The bits a program asks for, and its umask.
pub(crate) type Asked = (u32, u32);

/// What mknod(2) is to make; `None` for what it cannot.
fn node(mode: u32, rdev: u32) -> Option<NewInode> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(NewInode::File),
        libc::S_IFIFO => Some(NewInode::Fifo),
        libc::S_IFSOCK => Some(NewInode::Socket),
        libc::S_IFBLK => Some(NewInode::BlockDevice(rdev)),
        libc::S_IFCHR => Some(NewInode::CharDevice(rdev)),
        _ => None,
    }
}

impl ShoalFs {
    /// Permission bits of something new: those asked for, less what `--umask` says if it says anything.
    fn new_mode(&self, mode: u32) -> u16 {
        permissions(mode) & !self.options().umask.unwrap_or(0)
    }
}

/// The 12 permission bits of a mode.
pub(crate) fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(volume_time(time)),
    }
}

fn volume_time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => Time::since_epoch(since),
        Err(before) => {
            let before = Time::since_epoch(before.duration());
            match before.nanos {
                0 => Time { secs: -before.secs, nanos: 0 },
                nanos => Time { secs: -before.secs - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    }
}

impl ShoalFs {
    /// [`caller`] of a creation: with its further groups where they decide about the new mode, and with its umask where the kernel
    /// has not applied it.
    fn creator(&self, req: &Request, (mode, umask): Asked) -> Caller {
        let runs_as_group = mode & RUNS_AS_GROUP == RUNS_AS_GROUP;
        let caller = if runs_as_group { caller_with_groups(req, self.options().squash) } else { self.caller(req) };
        let umask = if self.options().acl { permissions(umask) } else { 0 };
        Caller { umask, ..caller }
    }

    /// Attributes as setattr asks for them, without the length.
    pub(crate) fn set_attr(
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
    ) -> SetAttr {
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        SetAttr { mode: mode.map(permissions), uid, gid, atime, mtime, flags: None }
    }

    /// Answers a request that gives a new name.
    fn reply_entry(&self, op: &'static str, parent: Ino, result: Result<(Ino, Attr), VfsError>, reply: ReplyEntry) {
        match result {
            Ok((ino, attr)) => {
                let (attr_ttl, entry_ttl) = (self.options().attr_ttl, self.entry_ttl(&attr));
                reply.entry_with_ttls(&attr_ttl, &entry_ttl, &file_attr(ino, &attr), GENERATION);
            }
            Err(error) => reply.error(self.failed(op, parent.0, &error)),
        }
    }

    pub(crate) fn make(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        new: NewInode,
        asked: Asked,
        reply: ReplyEntry,
    ) {
        let logged = Op::of("make", req, parent);
        let (fs, caller, parent, name) =
            (self.clone(), self.creator(req, asked), self.ino(parent), name.as_bytes().to_vec());
        let op = match new {
            NewInode::Directory => "mkdir",
            NewInode::Symlink(_) => "symlink",
            _ => "mknod",
        };
        self.spawn(logged.named(op), async move {
            let mode = match new {
                NewInode::Symlink(_) => permissions(asked.0),
                _ => fs.new_mode(asked.0),
            };
            let made = fs.vfs().create(&caller, parent, &name, &new, mode).await;
            fs.reply_entry(op, parent, made, reply);
        });
    }

    pub(crate) fn make_node(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        asked: Asked,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        match node(asked.0, rdev) {
            Some(new) => self.make(req, parent, name, new, asked, reply),
            None => reply.error(Errno::EINVAL),
        }
    }

    pub(crate) fn make_file(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        asked: Asked,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let logged = Op::of("create", req, parent);
        let (fs, caller, parent, name) =
            (self.clone(), self.creator(req, asked), self.ino(parent), name.as_bytes().to_vec());
        self.spawn(logged, async move {
            let mode = fs.new_mode(asked.0);
            let made = async {
                let (ino, attr) = if flags & libc::O_EXCL != 0 {
                    fs.vfs().create(&caller, parent, &name, &NewInode::File, mode).await?
                } else {
                    fs.vfs().create_or_find(&caller, parent, &name, mode, wanted_by_open(flags)).await?
                };
                Ok((ino, attr, fs.vfs().open(ino).await?))
            };
            match made.await {
                Ok((ino, attr, opened)) => {
                    let ttl = fs.options().attr_ttl.min(fs.entry_ttl(&attr));
                    let handle = fs.opened_file(opened.file, flags);
                    let kept = if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
                    reply.created(&ttl, &file_attr(ino, &attr), GENERATION, handle, kept);
                }
                Err(error) => reply.error(fs.failed("create", parent.0, &error)),
            }
        });
    }

    pub(crate) fn make_link(&self, req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let logged = Op::of("link", req, parent);
        if VirtualFile::numbered(ino).is_some() {
            return reply.error(Errno::EPERM);
        }
        let (fs, caller, name) = (self.clone(), self.caller(req), name.as_bytes().to_vec());
        let (ino, parent) = (self.ino(ino), self.ino(parent));
        self.spawn(logged, async move {
            let linked = fs.vfs().link(&caller, ino, parent, &name).await;
            fs.reply_entry("link", parent, linked.map(|attr| (ino, attr)), reply);
        });
    }

    /// Changes attributes and, with `size`, the length, which takes permission to write unless it is done `through` a handle.
    pub(crate) fn change_attr(
        &self,
        req: &Request,
        ino: INodeNo,
        set: SetAttr,
        (size, through): (Option<u64>, Option<FileHandle>),
        reply: ReplyAttr,
    ) {
        let logged = Op::of("setattr", req, ino);
        if VirtualFile::numbered(ino).is_some() {
            return reply.error(Errno::EPERM);
        }
        let (fs, caller, ino) = (self.clone(), self.caller(req), self.ino(ino));
        self.spawn(logged, async move {
            let changed = async {
                if size.is_some() && through.is_none() {
                    fs.vfs().access(&caller, ino, MAY_WRITE).await?;
                }
                match size {
                    Some(size) if set == SetAttr::default() => fs.vfs().truncate(ino, size).await,
                    Some(size) => {
                        fs.vfs().truncate(ino, size).await?;
                        fs.vfs().setattr(&caller, ino, &set).await
                    }
                    None => fs.vfs().setattr(&caller, ino, &set).await,
                }
            };
            match changed.await {
                Ok(attr) => reply.attr(&fs.options().attr_ttl, &file_attr(Ino(fs.number(ino).0), &attr)),
                Err(error) => reply.error(fs.failed("setattr", ino.0, &error)),
            }
        });
    }

    pub(crate) fn put_xattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        reply: ReplyEmpty,
    ) {
        let mode = match flags {
            0 => XattrMode::Any,
            libc::XATTR_CREATE => XattrMode::Create,
            libc::XATTR_REPLACE => XattrMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        if VirtualFile::numbered(ino).is_some() {
            return reply.error(Errno::EPERM);
        }
        let (fs, caller, name, value) = (self.clone(), self.caller(req), name.as_bytes().to_vec(), value.to_vec());
        self.spawn("setxattr", async move {
            let done = async {
                fs.vfs().access(&caller, fs.ino(ino), MAY_WRITE).await?;
                fs.vfs().setxattr(fs.ino(ino), &name, &value, mode).await
            };
            fs.done("setxattr", ino, done.await, reply);
        });
    }

    pub(crate) fn delete_xattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if VirtualFile::numbered(ino).is_some() {
            return reply.error(Errno::EPERM);
        }
        let (fs, caller, name) = (self.clone(), self.caller(req), name.as_bytes().to_vec());
        self.spawn("removexattr", async move {
            let done = async {
                fs.vfs().access(&caller, fs.ino(ino), MAY_WRITE).await?;
                fs.vfs().removexattr(fs.ino(ino), &name).await
            };
            fs.done("removexattr", ino, done.await, reply);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let at = |secs: u64, nanos| Duration::new(secs, nanos);
        assert_eq!(volume_time(UNIX_EPOCH + at(5, 7)), Time { secs: 5, nanos: 7 });
        assert_eq!(volume_time(UNIX_EPOCH - at(5, 7)), Time { secs: -6, nanos: 999_999_993 });
        assert_eq!(volume_time(UNIX_EPOCH - at(5, 0)), Time { secs: -5, nanos: 0 });
    }

    #[test]
    fn every_kind_of_node_is_told_by_its_mode() {
        for (mode, new) in [
            (libc::S_IFREG, NewInode::File),
            (0, NewInode::File),
            (libc::S_IFIFO, NewInode::Fifo),
            (libc::S_IFSOCK, NewInode::Socket),
            (libc::S_IFBLK, NewInode::BlockDevice(77)),
            (libc::S_IFCHR, NewInode::CharDevice(77)),
        ] {
            assert_eq!(node(mode | 0o644, 77), Some(new));
        }
        assert_eq!(node(libc::S_IFDIR, 0), None);
        assert_eq!(permissions(libc::S_IFREG | 0o6755), 0o6755);
    }
}
