//! Requests that change the contents of files.
//!
//! A write that finds memory is taken in on the FUSE thread that received it, straight from the kernel's buffer; one that has to
//! wait takes a copy with it to a task of its own.

use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileHandle, INodeNo, LockOwner, ReplyEmpty, ReplyWrite};
use shoal_meta::{Fallocate, FileRange};
use shoal_vfs::{OpenFile, VfsError};

use crate::handles::{Handle, Purpose};
use crate::ops::ShoalFs;

/// Bytes one copy_file_range takes at most: some hundred records in one transaction, and a number that fits the reply.
const COPY_MAX: u64 = 1 << 30;

impl ShoalFs {
    pub(crate) fn on_write(&self, ino: INodeNo, fh: FileHandle, offset: u64, data: &[u8], reply: ReplyWrite) {
        let Some((file, _)) = self.file(fh) else { return reply.error(Errno::EBADF) };
        match self.vfs().try_write(&file, offset, data) {
            Some(result) => {
                self.written(ino, result, reply);
                if self.access_log().is_read() {
                    self.access_log().write("write".into(), None, Duration::ZERO);
                }
            }
            None => {
                let (fs, data) = (self.clone(), data.to_vec());
                self.spawn("write", async move {
                    let result = fs.vfs().write(&file, offset, &data).await;
                    fs.written(ino, result, reply);
                });
            }
        }
    }

    fn written(&self, ino: INodeNo, result: Result<u32, VfsError>, reply: ReplyWrite) {
        match result {
            Ok(len) => {
                self.metrics().write_bytes.add(u64::from(len));
                reply.written(len);
            }
            Err(error) => {
                reply.error(self.failed("write", ino.0, &error));
                if matches!(error, VfsError::Write { .. }) {
                    // Not before the answer: the kernel holds the pages that it writes.
                    let fs = self.clone();
                    self.spawn("forget", async move {
                        fs.vfs().flush_inode(fs.ino(ino)).await;
                        fs.forget_pages(ino).await;
                    });
                }
            }
        }
    }

    /// [`Vfs::flush`](shoal_vfs::Vfs::flush); if bytes are lost, the kernel shows them no longer.
    async fn flushed(&self, ino: INodeNo, file: &OpenFile) -> Result<(), VfsError> {
        let result = self.vfs().flush(file).await;
        if result.is_err() {
            self.forget_pages(ino).await;
        }
        result
    }

    /// `close`: everything written before is in the volume when it returns, unless by a handle that cannot write; and `owner` has no
    /// POSIX locks.
    pub(crate) fn on_flush(&self, ino: INodeNo, fh: FileHandle, owner: LockOwner, reply: ReplyEmpty) {
        let Some((file, purpose)) = self.file(fh) else { return reply.ok() };
        let fs = self.clone();
        self.spawn("flush", async move {
            let result = match purpose {
                Purpose::Reading => Ok(()),
                Purpose::Writing => fs.flushed(ino, &file).await,
            };
            fs.closed_by(ino, fh, owner).await;
            fs.done("flush", ino, result, reply);
        });
    }

    /// `fsync`, of a file or a directory: what was written and changed before outlives a loss of power when it returns.
    pub(crate) fn on_fsync(&self, op: &'static str, ino: INodeNo, fh: FileHandle, reply: ReplyEmpty) {
        let fs = self.clone();
        self.spawn(op, async move {
            let flushed = match fs.file(fh) {
                Some((file, _)) => fs.flushed(ino, &file).await,
                None => Ok(()),
            };
            let result = match flushed {
                Ok(()) => fs.vfs().sync().await,
                Err(error) => Err(error),
            };
            fs.done(op, ino, result, reply);
        });
    }

    pub(crate) fn on_fallocate(&self, ino: INodeNo, range: (u64, u64), mode: i32, reply: ReplyEmpty) {
        let Some(what) = fallocate(mode) else { return reply.error(Errno::EOPNOTSUPP) };
        let fs = self.clone();
        self.spawn("fallocate", async move {
            let result = fs.vfs().fallocate(fs.ino(ino), what, range.0, range.1).await;
            fs.done("fallocate", ino, result, reply);
        });
    }

    pub(crate) fn on_copy(&self, from: (INodeNo, u64), to: (INodeNo, u64), len: u64, reply: ReplyWrite) {
        let range = |(ino, offset): (INodeNo, u64)| FileRange { ino: self.ino(ino), offset };
        let (fs, source, target) = (self.clone(), range(from), range(to));
        self.spawn("copy_file_range", async move {
            match fs.vfs().copy_range(source, target, len.min(COPY_MAX)).await {
                Ok(copied) => reply.written(copied as u32),
                Err(error) => reply.error(fs.failed("copy_file_range", to.0.0, &error)),
            }
        });
    }

    pub(crate) fn done(&self, op: &'static str, ino: INodeNo, result: Result<(), VfsError>, reply: ReplyEmpty) {
        match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.failed(op, ino.0, &error)),
        }
    }

    fn file(&self, fh: FileHandle) -> Option<(Arc<OpenFile>, Purpose)> {
        match &*self.handle(fh)? {
            Handle::File(file, purpose) => Some((Arc::clone(file), *purpose)),
            Handle::Dir(_) | Handle::Virtual(_) | Handle::Log(_) => None,
        }
    }
}

/// What fallocate(2) calls `mode`; `None` for what moves bytes.
fn fallocate(mode: i32) -> Option<Fallocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    Some(match mode {
        0 => Fallocate::Extend,
        KEEP => Fallocate::Keep,
        PUNCH => Fallocate::Punch,
        ZERO => Fallocate::Zero,
        ZERO_KEEP => Fallocate::ZeroKeep,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_move_bytes_are_not_supported() {
        assert_eq!(fallocate(0), Some(Fallocate::Extend));
        assert_eq!(fallocate(0x1), Some(Fallocate::Keep));
        assert_eq!(fallocate(0x3), Some(Fallocate::Punch));
        assert_eq!(fallocate(0x10), Some(Fallocate::Zero));
        assert_eq!(fallocate(0x11), Some(Fallocate::ZeroKeep));
        for mode in [0x2, 0x8, 0x20, 0x40] {
            assert_eq!(fallocate(mode), None, "{mode:#x}");
        }
    }
}
