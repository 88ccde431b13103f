//! An open handle: whose bytes, and how they are being read.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::cursor::Cursor;
use crate::inode::Inode;

/// One open handle of a regular file.
pub struct OpenFile {
    pub(crate) inode: Arc<Inode>,
    /// Shared with read-ahead under way, which ends when this handle does.
    pub(crate) cursor: Arc<Mutex<Cursor>>,
}

impl OpenFile {
    pub(crate) fn new(inode: Arc<Inode>) -> OpenFile {
        OpenFile { inode, cursor: Arc::default() }
    }

    /// Length of the file in bytes as last seen.
    pub fn length(&self) -> u64 {
        self.inode.length()
    }
}
