//! Kernel requests that remove and rename.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, FileHandle, INodeNo, RenameFlags, ReplyEmpty, Request};
use shoal_meta::{Place, RenameMode};

use crate::access_log::Op;
use crate::handles::Handle;
use crate::ops::ShoalFs;
use crate::virtual_files::VirtualFile;

/// What renameat2(2) calls `flags`; `None` for what is not supported, and for what contradicts itself.
fn mode(flags: RenameFlags) -> Option<RenameMode> {
    match flags {
        flags if flags.is_empty() => Some(RenameMode::Replace),
        RenameFlags::RENAME_NOREPLACE => Some(RenameMode::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Some(RenameMode::Exchange),
        _ => None,
    }
}

/// True for a file of the client itself, which is in no volume and stays.
fn is_virtual(prefix: &str, parent: INodeNo, name: &OsStr) -> bool {
    parent == INodeNo::ROOT && VirtualFile::named(name.as_bytes(), prefix).is_some()
}

impl ShoalFs {
    pub(crate) fn remove_name(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let logged = Op::of("unlink", req, parent);
        if is_virtual(self.options().internal_prefix, parent, name) {
            return reply.error(Errno::EPERM);
        }
        let (fs, caller, name) = (self.clone(), self.caller(req), name.as_bytes().to_vec());
        self.spawn(logged, async move {
            let done = fs.vfs().unlink(&caller, fs.ino(parent), &name).await;
            fs.done("unlink", parent, done, reply);
        });
    }

    pub(crate) fn remove_dir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let logged = Op::of("rmdir", req, parent);
        let (fs, caller, name) = (self.clone(), self.caller(req), name.as_bytes().to_vec());
        self.spawn(logged, async move {
            let done = fs.vfs().rmdir(&caller, fs.ino(parent), &name).await;
            fs.done("rmdir", parent, done, reply);
        });
    }

    pub(crate) fn move_name(
        &self,
        req: &Request,
        from: (INodeNo, &OsStr),
        to: (INodeNo, &OsStr),
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let logged = Op::of("rename", req, from.0);
        let prefix = self.options().internal_prefix;
        if is_virtual(prefix, from.0, from.1) || is_virtual(prefix, to.0, to.1) {
            return reply.error(Errno::EPERM);
        }
        let Some(mode) = mode(flags) else { return reply.error(Errno::EINVAL) };
        let (fs, caller) = (self.clone(), self.caller(req));
        let (from_name, to_name) = (from.1.as_bytes().to_vec(), to.1.as_bytes().to_vec());
        let (from, to) = (from.0, to.0);
        self.spawn(logged, async move {
            let source = Place { parent: fs.ino(from), name: &from_name };
            let target = Place { parent: fs.ino(to), name: &to_name };
            let done = fs.vfs().rename(&caller, source, target, mode).await;
            fs.done("rename", from, done, reply);
        });
    }

    /// The kernel gives a handle back. What is pending of the file is stored, its locks are given back, and a removed file goes with its last handle, before
    /// the kernel hears of it.
    pub(crate) fn on_release(&self, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
        let Some(handle) = self.closed(fh) else { return reply.ok() };
        if let Handle::Log(_) = &*handle {
            self.access_log().closed();
            return reply.ok();
        }
        if !self.vfs().is_writable() || !matches!(&*handle, Handle::File(..)) {
            if let Handle::File(file, _) = &*handle {
                self.vfs().close(file);
            }
            return reply.ok();
        }
        let fs = self.clone();
        self.spawn("release", async move {
            let Handle::File(file, _) = &*handle else { return reply.ok() };
            fs.handle_gone(ino, fh).await;
            match fs.vfs().release(file).await {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(fs.failed("flush", ino.0, &error)),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_rename_have_their_modes() {
        assert_eq!(mode(RenameFlags::empty()), Some(RenameMode::Replace));
        assert_eq!(mode(RenameFlags::RENAME_NOREPLACE), Some(RenameMode::NoReplace));
        assert_eq!(mode(RenameFlags::RENAME_EXCHANGE), Some(RenameMode::Exchange));
        assert_eq!(mode(RenameFlags::RENAME_WHITEOUT), None);
        assert_eq!(mode(RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE), None);
    }

    #[test]
    fn files_of_the_client_itself_are_known() {
        assert!(is_virtual("", INodeNo::ROOT, OsStr::new(".stats")));
        assert!(!is_virtual("", INodeNo(2), OsStr::new(".stats")));
        assert!(!is_virtual("", INodeNo::ROOT, OsStr::new("stats")));
        assert!(is_virtual(".jfs", INodeNo::ROOT, OsStr::new(".jfs.stats")));
        assert!(!is_virtual(".jfs", INodeNo::ROOT, OsStr::new(".stats")));
    }
}
