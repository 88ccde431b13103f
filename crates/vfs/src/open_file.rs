//! An open handle: whose bytes, and how they are being read.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::cursor::Cursor;
use crate::inode::Inode;

/// One open handle of a regular file.
pub struct OpenFile {
    pub(crate) inode: Arc<Inode>,
    pub(crate) cursor: Mutex<Cursor>,
}

impl OpenFile {
    pub(crate) fn new(inode: Arc<Inode>) -> OpenFile {
        OpenFile { inode, cursor: Mutex::new(Cursor::default()) }
    }

    /// Length of the file in bytes as last seen.
    pub fn length(&self) -> u64 {
        self.inode.length()
    }
}
