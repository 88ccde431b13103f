//! Walking the source: what is there, in an order in which every directory comes before its entries.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, Time};
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::task;
use tokio::sync::mpsc;

use super::progress::Counts;
use crate::error::VolumeError;

/// Entries the walk may be ahead of the planner.
const AHEAD: usize = 1024;

/// First room for a list of attribute names or a value: most fit.
const XATTR_BYTES_FIRST: usize = 1024;
/// Longest list of attribute names and longest value Linux has (xattr(7)).
const XATTR_BYTES_MAX: usize = 64 << 10;

/// One thing found. Directories are numbered in the order found; 0 is the source itself.
pub(crate) struct Found {
    pub path: PathBuf,
    /// Number of the directory it is in.
    pub dir: usize,
    pub name: Bytes,
    pub attr: Attr,
    /// Device and inode, when it has more than one name.
    pub shared: Option<(u64, u64)>,
    pub symlink: Option<Bytes>,
    pub xattrs: Vec<(Bytes, Bytes)>,
}

pub(crate) fn unreadable(path: &Path, source: io::Error) -> VolumeError {
    VolumeError::Source { path: path.to_owned(), source }
}

/// Starts the walk; the first error is the last thing sent.
pub(crate) fn start(source: PathBuf, shutdown: Shutdown) -> mpsc::Receiver<Result<Found, VolumeError>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    drop(task::thread("import scan", move || {
        if let Err(error) = walk(&source, &sender, &shutdown) {
            // A closed channel means the planner has ended with an error of its own.
            let _ = sender.blocking_send(Err(error));
        }
    }));
    receiver
}

fn walk(source: &Path, out: &mpsc::Sender<Result<Found, VolumeError>>, shutdown: &Shutdown) -> Result<(), VolumeError> {
    let mut pending = vec![(0usize, source.to_owned())];
    let mut dirs = 1usize;
    while let Some((dir, path)) = pending.pop() {
        for name in sorted_names(&path)? {
            if shutdown.is_triggered() {
                return Ok(());
            }
            let found = match examine(path.join(&name), dir, name) {
                Err(VolumeError::Source { path, source }) if source.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), "vanished while the source was read; left out");
                    continue;
                }
                found => found?,
            };
            if found.attr.kind == FileType::Directory {
                pending.push((dirs, found.path.clone()));
                dirs += 1;
            }
            if out.blocking_send(Ok(found)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn sorted_names(path: &Path) -> Result<Vec<OsString>, VolumeError> {
    let list = fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names: Vec<OsString> = list.map_err(|error| unreadable(path, error))?;
    names.sort_unstable();
    Ok(names)
}

fn examine(path: PathBuf, dir: usize, name: OsString) -> Result<Found, VolumeError> {
    let meta = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, error))?;
    let symlink = match meta.file_type().is_symlink() {
        true => {
            let target = fs::read_link(&path).map_err(|error| unreadable(&path, error))?;
            Some(Bytes::copy_from_slice(target.as_os_str().as_bytes()))
        }
        false => None,
    };
    let xattrs = xattrs(&path).map_err(|error| unreadable(&path, error))?;
    let shared = (meta.nlink() > 1 && !meta.is_dir()).then(|| (meta.dev(), meta.ino()));
    let attr = attr_of(&meta);
    Ok(Found { dir, name: Bytes::copy_from_slice(name.as_bytes()), attr, shared, symlink, xattrs, path })
}

/// The attribute the entry gets. Link counts and parents are the engine's to keep.
fn attr_of(meta: &Metadata) -> Attr {
    let kind = kind_of(&meta.file_type());
    let length = match kind {
        FileType::Regular | FileType::Symlink => meta.size(),
        FileType::Directory => 4096,
        _ => 0,
    };
    let time = |secs: i64, nanos: i64| Time { secs, nanos: nanos as u32 };
    Attr {
        flags: 0,
        kind,
        mode: (meta.mode() & 0o7777) as u16,
        uid: meta.uid(),
        gid: meta.gid(),
        atime: time(meta.atime(), meta.atime_nsec()),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        length,
        rdev: if matches!(kind, FileType::BlockDevice | FileType::CharDevice) { meta.rdev() as u32 } else { 0 },
        parent: Ino(0),
        access_acl: 0,
        default_acl: 0,
        tier: 0,
    }
}

fn kind_of(kind: &fs::FileType) -> FileType {
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_block_device() {
        FileType::BlockDevice
    } else if kind.is_char_device() {
        FileType::CharDevice
    } else if kind.is_socket() {
        FileType::Socket
    } else {
        FileType::Regular
    }
}

/// Extended attributes of `path` itself. ACLs are left out: the format keeps them elsewhere, and only when ACLs are enabled.
fn xattrs(path: &Path) -> io::Result<Vec<(Bytes, Bytes)>> {
    let list = |buffer: &mut [u8]| rustix::fs::llistxattr(path, buffer);
    let names = match sized(list) {
        Ok(names) => names,
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut attributes = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"system.posix_acl_") {
            continue;
        }
        match sized(|buffer| rustix::fs::lgetxattr(path, name, buffer)) {
            Ok(value) => attributes.push((Bytes::copy_from_slice(name), Bytes::from(value))),
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(attributes)
}

/// What `read` puts into a buffer that is large enough. (rustix turns the size query, a read into no buffer, into "nothing there".)
fn sized(mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; XATTR_BYTES_FIRST];
    loop {
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < XATTR_BYTES_MAX => buffer.resize(XATTR_BYTES_MAX, 0),
            Err(error) => return Err(error),
        }
    }
}

/// A count that runs beside the import, for the progress bar's total.
pub(crate) struct Totals(Shutdown);

impl Totals {
    /// Ends the count if it still runs.
    pub(crate) fn stop(self) {
        self.0.trigger();
    }
}

/// Counts the source's files and bytes. What cannot be read is the walk's to report.
pub(crate) fn count(source: PathBuf, counts: Arc<Counts>, shutdown: Shutdown) -> Totals {
    let stop = Shutdown::new();
    let stopped = stop.clone();
    drop(task::thread("import count", move || {
        let mut pending = vec![source];
        while let Some(path) = pending.pop() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            for entry in entries.flatten() {
                if shutdown.is_triggered() || stopped.is_triggered() {
                    return;
                }
                let Ok(meta) = entry.metadata() else { continue };
                if meta.is_dir() {
                    pending.push(entry.path());
                } else if meta.is_file() {
                    counts.files_found.fetch_add(1, Ordering::Relaxed);
                    counts.bytes_found.fetch_add(meta.len(), Ordering::Relaxed);
                }
            }
        }
        counts.found_all.store(true, Ordering::Relaxed);
    }));
    Totals(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_attributes_of_any_size_are_read() {
        let dir = tempfile::tempdir_in("/var/tmp").expect("a directory on a disk");
        let set =
            |name: &str, value: &[u8]| rustix::fs::lsetxattr(dir.path(), name, value, rustix::fs::XattrFlags::empty());
        match set("user.empty", b"") {
            Err(rustix::io::Errno::NOTSUP) => return,
            set => set.expect("set"),
        }
        // A block of ext4 holds names and values together.
        set("user.long", &[7; 2000]).expect("set");
        let mut found = xattrs(dir.path()).expect("read");
        found.retain(|(name, _)| name.starts_with(b"user."));
        found.sort();
        assert_eq!(found, [("user.empty".into(), Bytes::new()), ("user.long".into(), Bytes::from(vec![7; 2000]))]);
        assert_eq!(
            sized(|buffer| if buffer.len() < XATTR_BYTES_MAX { Err(rustix::io::Errno::RANGE) } else { Ok(9) }),
            Ok(vec![0; 9])
        );
    }
}
