//! Kernel requests for locks (spec section 17).
//!
//! A POSIX lock belongs to whom the kernel calls its owner: a process, or an open file (`F_OFD_SETLK`). A BSD lock belongs to an open
//! file; its owner is that of the kernel with the file handle mixed in, as with real clients. Which of both is asked for, a request as fuser
//! gives it does not say: only BSD locks are always of the whole file, and of those that are, [`lock_call`] asks the thread. Where it
//! cannot be seen, the file is locked both ways: nobody is let in who should wait, at the price that a program that takes both kinds
//! of locks on one file would wait for itself.

use fuser::{Errno, FileHandle, INodeNo, LockOwner, ReplyEmpty, ReplyLock, Request};
use shoal_format::{LockMode, RangeLock};
use shoal_meta::{LockWait, Unlock};
use shoal_vfs::VfsError;

use crate::asked::{Asked, flock_owner};
use crate::asker::{is_interrupted, lock_call};
use crate::handles::Handle;
use crate::ops::ShoalFs;

fn all_ranges(owner: u64) -> Unlock {
    Unlock::Range { owner, start: 0, end: RangeLock::END }
}

impl ShoalFs {
    pub(crate) fn on_setlk(&self, req: &Request, ino: INodeNo, asked: Asked, sleep: bool, reply: ReplyEmpty) {
        match self.handle(asked.fh).as_deref() {
            Some(Handle::File(..)) => {}
            Some(_) => return reply.error(Errno::ENOLCK),
            None => return reply.error(Errno::EBADF),
        }
        let (fs, tid) = (self.clone(), req.pid());
        self.spawn("setlk", async move {
            let done = match (asked.kind, asked.mode()) {
                (libc::F_UNLCK, _) => fs.unlock(ino, asked).await,
                (_, Some(mode)) => fs.lock(ino, asked, mode, tid, sleep).await,
                _ => return reply.error(Errno::EINVAL),
            };
            fs.done("setlk", ino, done, reply);
        });
    }

    async fn lock(&self, ino: INodeNo, asked: Asked, mode: LockMode, tid: u32, sleep: bool) -> Result<(), VfsError> {
        let call = if asked.is_whole() { lock_call(tid).await } else { None };
        let locks = asked.locks(mode, call);
        self.locked_handles().note(asked.fh, asked.owner);
        let interrupted = || is_interrupted(tid);
        let wait = if sleep { LockWait::Until(&interrupted) } else { LockWait::No };
        if self.vfs().lock(self.ino(ino), &locks, wait).await? {
            self.forget_pages(ino).await;
        }
        Ok(())
    }

    /// Of the kinds that this may mean, the owner holds at most what it took: it is asked for by owner, which no two kinds share.
    async fn unlock(&self, ino: INodeNo, asked: Asked) -> Result<(), VfsError> {
        let (start, end) = (asked.start, asked.end.min(RangeLock::END));
        if asked.is_whole() {
            let owner = flock_owner(asked.owner.0, asked.fh);
            self.vfs().unlock(self.ino(ino), Unlock::Whole { owner }).await?;
        }
        self.vfs().unlock(self.ino(ino), Unlock::Range { owner: asked.owner.0, start, end }).await
    }

    pub(crate) fn on_getlk(&self, ino: INodeNo, asked: Asked, reply: ReplyLock) {
        let Some(mode) = asked.mode() else { return reply.error(Errno::EINVAL) };
        let fs = self.clone();
        self.spawn("getlk", async move {
            let found = fs.vfs().range_in_the_way(fs.ino(ino), asked.owner.0, &asked.range(mode)).await;
            match found {
                Ok(None) => reply.locked(asked.start, asked.end, libc::F_UNLCK, 0),
                Ok(Some(lock)) => {
                    let kind = match lock.mode {
                        LockMode::Shared => libc::F_RDLCK,
                        LockMode::Exclusive => libc::F_WRLCK,
                    };
                    reply.locked(lock.start, lock.end, kind, lock.pid);
                }
                Err(error) => reply.error(fs.failed("getlk", ino.0, &error)),
            }
        });
    }

    /// A process closed a handle: by POSIX its locks of the file go, through whichever handle it took them. With a process for owner,
    /// what is locked as a whole was meant that way.
    pub(crate) async fn closed_by(&self, ino: INodeNo, fh: FileHandle, owner: LockOwner) {
        self.give_back(ino, all_ranges(owner.0)).await;
        self.give_back(ino, Unlock::Whole { owner: flock_owner(owner.0, fh) }).await;
        self.locked_handles().forget(fh, owner);
    }

    /// Nobody has the handle any more: what was locked through it goes.
    pub(crate) async fn handle_gone(&self, ino: INodeNo, fh: FileHandle) {
        for owner in self.locked_handles().take(fh) {
            self.give_back(ino, Unlock::Whole { owner: flock_owner(owner, fh) }).await;
            self.give_back(ino, all_ranges(owner)).await;
        }
    }

    async fn give_back(&self, ino: INodeNo, unlock: Unlock) {
        if let Err(error) = self.vfs().unlock(self.ino(ino), unlock).await {
            tracing::warn!(ino = ino.0, %error, "a lock stays until the mount ends");
        }
    }
}
