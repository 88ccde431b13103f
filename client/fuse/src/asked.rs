//! What a request for a lock says, and the locks that answer it.

use fuser::{FileHandle, LockOwner};
use shoal_format::{LockMode, RangeLock};
use shoal_meta::Lock;

use crate::asker::LockCall;

/// What a process asks for, or gives back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub fh: FileHandle,
    pub owner: LockOwner,
    pub start: u64,
    pub end: u64,
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub kind: i32,
    pub pid: u32,
}

impl Asked {
    pub(crate) fn is_whole(&self) -> bool {
        self.start == 0 && self.end >= RangeLock::END
    }

    pub(crate) fn mode(&self) -> Option<LockMode> {
        match self.kind {
            libc::F_RDLCK => Some(LockMode::Shared),
            libc::F_WRLCK => Some(LockMode::Exclusive),
            _ => None,
        }
    }

    pub(crate) fn range(&self, mode: LockMode) -> RangeLock {
        RangeLock { mode, pid: self.pid, start: self.start, end: self.end.min(RangeLock::END) }
    }

    /// The locks that answer this, if `call` asked; every kind that it may mean if that is not known.
    pub(crate) fn locks(&self, mode: LockMode, call: Option<LockCall>) -> Vec<Lock> {
        let whole = Lock::Whole { owner: flock_owner(self.owner.0, self.fh), mode };
        let range = Lock::Range { owner: self.owner.0, lock: self.range(mode) };
        match (self.is_whole(), call) {
            (false, _) | (true, Some(LockCall::Fcntl)) => vec![range],
            (true, Some(LockCall::Flock)) => vec![whole],
            (true, None) => vec![whole, range],
        }
    }
}

/// The owner of a BSD lock, as real clients make it from the kernel's.
pub(crate) fn flock_owner(owner: u64, fh: FileHandle) -> u64 {
    owner ^ fh.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(start: u64, end: u64) -> Asked {
        let (fh, owner) = (FileHandle(6), LockOwner(0xFF));
        Asked { fh, owner, start, end, kind: libc::F_WRLCK, pid: 7 }
    }

    #[test]
    fn only_whole_files_are_locked_by_flock() {
        let mode = LockMode::Exclusive;
        let whole = Lock::Whole { owner: 0xF9, mode };
        let range = |start, end| Lock::Range { owner: 0xFF, lock: RangeLock { mode, pid: 7, start, end } };
        assert_eq!(asked(0, 9).locks(mode, None), [range(0, 9)]);
        assert_eq!(asked(1, u64::MAX).locks(mode, None), [range(1, RangeLock::END)]);
        let all = asked(0, RangeLock::END);
        assert_eq!(all.locks(mode, Some(LockCall::Flock)), [whole]);
        assert_eq!(all.locks(mode, Some(LockCall::Fcntl)), [range(0, RangeLock::END)]);
        assert_eq!(all.locks(mode, None), [whole, range(0, RangeLock::END)]);
    }
}
