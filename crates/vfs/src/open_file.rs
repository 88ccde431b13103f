//! An open handle: whose bytes, how they are being read, and what it was told of its writes.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::cursor::Cursor;
use crate::error::VfsError;
use crate::inode::Inode;
use crate::write::Failure;

/// One open handle of a regular file.
pub struct OpenFile {
    pub(crate) inode: Arc<Inode>,
    /// Shared with read-ahead under way, which ends when this handle does.
    pub(crate) cursor: Arc<Mutex<Cursor>>,
    /// Failed writes of the file that this handle was told of, or that came before it.
    failures_seen: AtomicU64,
}

impl OpenFile {
    pub(crate) fn new(inode: Arc<Inode>) -> OpenFile {
        let failures_seen = AtomicU64::new(inode.writes.failures());
        OpenFile { inode, cursor: Arc::default(), failures_seen }
    }

    /// Length of the file in bytes as last seen.
    pub fn length(&self) -> u64 {
        self.inode.length()
    }

    /// What became of writes to the file that failed since this handle was told last.
    pub(crate) fn failure(&self) -> Option<VfsError> {
        let failure = self.inode.writes.unseen_failure(&self.failures_seen)?;
        let Failure { kind, refusal, detail } = failure;
        Some(VfsError::Write { ino: self.inode.ino, kind, refusal, detail: detail.as_ref().into() })
    }
}
