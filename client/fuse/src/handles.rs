//! What the kernel's file handles stand for.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fuser::FileHandle;
use parking_lot::RwLock;
use shoal_meta::DirEntry;
use shoal_vfs::OpenFile;

/// One open handle.
pub(crate) enum Handle {
    /// A regular file of the volume.
    File(Arc<OpenFile>),
    /// A directory, with its entries as they were when it was opened.
    Dir(DirHandle),
    /// A virtual file, with its content as it was when it was opened.
    Virtual(Vec<u8>),
}

/// An open directory.
pub(crate) struct DirHandle {
    /// Inode of the directory above, for `..`.
    pub parent: u64,
    /// Every entry but `.` and `..`.
    pub entries: Vec<DirEntry>,
    /// When the entries were asked for.
    pub listed: Instant,
}

/// All open handles.
#[derive(Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    open: RwLock<HashMap<u64, Arc<Handle>>>,
}

impl Handles {
    pub(crate) fn insert(&self, handle: Handle) -> FileHandle {
        let fh = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().insert(fh, Arc::new(handle));
        FileHandle(fh)
    }

    pub(crate) fn get(&self, fh: FileHandle) -> Option<Arc<Handle>> {
        self.open.read().get(&fh.0).cloned()
    }

    pub(crate) fn remove(&self, fh: FileHandle) -> Option<Arc<Handle>> {
        self.open.write().remove(&fh.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.read().len()
    }
}
