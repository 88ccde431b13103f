//! The staging directory: everything here waits for the disk, and runs on threads that may.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::error::StageError;
use crate::file;

/// Where staged blocks lie in a volume's directory.
const STAGED: &str = "rawstaging";
/// Held locked by the process that stages here.
const LOCK: &str = ".shoal.lock";
/// What a file is called until all of it is there.
const UNFINISHED: &str = "tmp";
/// Who may read staged bytes: nobody else, as with real clients.
const MODE: u32 = 0o600;

/// A volume's staging directory, locked for this process.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    /// Directories that are sure to outlive a crash.
    synced: Mutex<HashSet<PathBuf>>,
    _lock: File,
}

/// A block that was found staged: its key without the volume's name, and its plain length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) plain_len: u32,
}

/// The directory of staged blocks in `dir`, the volume's own.
pub(crate) fn staged_dir(dir: &Path) -> PathBuf {
    dir.join(STAGED)
}

impl Disk {
    /// The staging directory in `dir`, made if it is missing. Errors: `Conflict` if another process has it.
    pub(crate) fn open(dir: &Path) -> Result<Disk, StageError> {
        let root = staged_dir(dir);
        fs::create_dir_all(&root).map_err(StageError::io("making", &root))?;
        let path = dir.join(LOCK);
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).mode(MODE).open(&path);
        let lock = lock.map_err(StageError::io("opening", &path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StageError::InUse { dir: dir.to_owned() })?;
        Ok(Disk { root, synced: Mutex::default(), _lock: lock })
    }

    /// Every staged block. Unfinished files of a process that died are removed; others that are no blocks are left, and named in
    /// the log.
    pub(crate) fn scan(&self) -> Result<Vec<Found>, StageError> {
        let (mut found, mut pending) = (Vec::new(), vec![self.root.clone()]);
        while let Some(dir) = pending.pop() {
            let listed = fs::read_dir(&dir).map_err(StageError::io("listing", &dir))?;
            for entry in listed {
                let entry = entry.map_err(StageError::io("listing", &dir))?;
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(path);
                } else if path.extension().is_some_and(|name| name == UNFINISHED) {
                    fs::remove_file(&path).map_err(StageError::io("removing", &path))?;
                } else if let Some(block) = self.block_at(&path) {
                    found.push(block);
                } else {
                    tracing::warn!(path = %path.display(), "this is no staged block; it is left alone");
                }
            }
        }
        Ok(found)
    }

    fn block_at(&self, path: &Path) -> Option<Found> {
        let key = path.strip_prefix(&self.root).ok()?.to_str()?.to_owned();
        let plain_len = file::plain_len(&key)?;
        let len = fs::metadata(path).ok()?.len();
        (len >= u64::from(plain_len)).then_some(Found { key, plain_len })
    }

    /// Keeps a block so that no crash loses it.
    pub(crate) fn write(&self, key: &str, plain: &[u8]) -> Result<(), StageError> {
        let path = self.path(key);
        let dir = path.parent().unwrap_or(&self.root);
        self.make_dir(dir)?;
        let unfinished = path.with_extension(UNFINISHED);
        let written = (|| -> io::Result<()> {
            let mut file = File::options().create(true).truncate(true).write(true).mode(MODE).open(&unfinished)?;
            file.write_all(plain)?;
            file.write_all(&file::checksums(plain))?;
            file.sync_data()?;
            fs::rename(&unfinished, &path)?;
            File::open(dir)?.sync_all()
        })();
        if written.is_err() {
            // What cannot be removed is removed at the next start.
            let _ = fs::remove_file(&unfinished);
        }
        written.map_err(StageError::io("writing", path))
    }

    /// Makes `dir` and those above it, each synced into the one above.
    fn make_dir(&self, dir: &Path) -> Result<(), StageError> {
        if self.synced.lock().contains(dir) {
            return Ok(());
        }
        fs::create_dir_all(dir).map_err(StageError::io("making", dir))?;
        let above = dir.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
        for above in above {
            File::open(above).and_then(|file| file.sync_all()).map_err(StageError::io("syncing", above))?;
        }
        self.synced.lock().insert(dir.to_owned());
        Ok(())
    }

    /// Bytes `range` of a block of `plain_len`, checked. Errors: `NotFound` if it is not there; `Corrupt`.
    pub(crate) fn read(&self, key: &str, plain_len: u32, range: Range<u32>) -> Result<Bytes, StageError> {
        let path = self.path(key);
        let span = file::segments(&range, plain_len);
        let (at, sums_len) = file::checksums_at(&span, plain_len);
        let read = (|| -> io::Result<_> {
            let file = File::open(&path)?;
            let mut bytes = vec![0; span.len()];
            file.read_exact_at(&mut bytes, span.start.into())?;
            let with_sums = file.metadata()?.len() >= u64::from(plain_len) + file::checksums_len(plain_len) as u64;
            let mut sums = vec![0; if with_sums { sums_len } else { 0 }];
            file.read_exact_at(&mut sums, at)?;
            Ok((bytes, with_sums.then_some(sums)))
        })();
        let (bytes, sums) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(StageError::Damaged { path, why: "it is too short" });
            }
            Err(error) => return Err(StageError::io("reading", path)(error)),
        };
        if sums.is_some_and(|sums| !file::is_intact(&bytes, &sums)) {
            return Err(StageError::Damaged { path, why: "its checksum is wrong" });
        }
        Ok(file::cut(bytes, span.start, &range))
    }

    /// Removes a block; one that is not there counts as removed.
    pub(crate) fn remove(&self, key: &str) -> Result<(), StageError> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StageError::io("removing", path)(error)),
            _ => Ok(()),
        }
    }

    /// Parts of a thousand of the file system that are free: bytes, or inodes if those are fewer.
    pub(crate) fn free_permille(&self) -> Result<u64, StageError> {
        let stat = statvfs(&self.root).map_err(|error| StageError::io("looking at", &self.root)(error.into()))?;
        let part = |free: u64, all: u64| free.saturating_mul(1000).checked_div(all).unwrap_or(1000);
        Ok(part(stat.f_bavail, stat.f_blocks).min(part(stat.f_favail, stat.f_files)))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }
}
