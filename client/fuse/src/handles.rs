//! What the kernel's file handles stand for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fuser::{FileHandle, LockOwner};
use parking_lot::{Mutex, RwLock};
use shoal_meta::DirEntry;
use shoal_vfs::OpenFile;

use crate::access_log::LogReader;

/// One open handle.
pub(crate) enum Handle {
    /// A regular file of the volume.
    File(Arc<OpenFile>, Purpose),
    /// A directory, with its entries as they were when it was opened.
    Dir(DirHandle),
    /// A virtual file, with its content as it was when it was opened.
    Virtual(Vec<u8>),
    /// The access log from when it was opened.
    Log(LogReader),
}

/// What a file was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be read only: its close waits for nothing that others write.
    Reading,
    /// To be written too, if only through memory that is mapped.
    Writing,
}

impl Purpose {
    /// What open(2) with `flags` is for.
    pub(crate) fn of_open(flags: i32) -> Purpose {
        if flags & libc::O_ACCMODE == libc::O_RDONLY { Purpose::Reading } else { Purpose::Writing }
    }
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

/// The kernel's owners of locks that were taken through each handle: what is not given back by a `flush` goes with the handle.
#[derive(Default)]
pub(crate) struct LockedHandles(Mutex<HashMap<u64, HashSet<u64>>>);

impl LockedHandles {
    pub(crate) fn note(&self, fh: FileHandle, owner: LockOwner) {
        self.0.lock().entry(fh.0).or_default().insert(owner.0);
    }

    pub(crate) fn forget(&self, fh: FileHandle, owner: LockOwner) {
        let mut handles = self.0.lock();
        if let Some(owners) = handles.get_mut(&fh.0) {
            owners.remove(&owner.0);
            if owners.is_empty() {
                handles.remove(&fh.0);
            }
        }
    }

    pub(crate) fn take(&self, fh: FileHandle) -> HashSet<u64> {
        self.0.lock().remove(&fh.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_opened_for_is_told_by_its_flags() {
        assert_eq!(Purpose::of_open(libc::O_RDONLY | libc::O_CREAT | libc::O_SYNC), Purpose::Reading);
        assert_eq!(Purpose::of_open(libc::O_WRONLY | libc::O_APPEND), Purpose::Writing);
        assert_eq!(Purpose::of_open(libc::O_RDWR), Purpose::Writing);
    }

    #[test]
    fn owners_are_known_until_their_handle_is_gone() {
        let handles = LockedHandles::default();
        for owner in [1, 2, 2] {
            handles.note(FileHandle(6), LockOwner(owner));
        }
        handles.forget(FileHandle(6), LockOwner(1));
        handles.forget(FileHandle(7), LockOwner(2));
        assert_eq!(handles.take(FileHandle(6)), HashSet::from([2]));
        assert_eq!(handles.take(FileHandle(6)), HashSet::new());
    }
}
