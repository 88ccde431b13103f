//! Storage `file`: a directory whose files are the objects, laid out as JuiceFS lays them out (volume format 3.4).
//!
//! * A put writes `.jfs.<base>.tmp.<random>` beside the target and renames it: after a crash an object is whole or absent. After a
//!   loss of power this holds for those that were synced; one that was not can be missing or too short. (JuiceFS never syncs.)
//!   A crash can leave such a temporary file; lists never show them.
//! * The directory itself is never made by a put: a bucket that is not mounted must not fill the disk under it.
//! * ETags are made of inode, length and modification time in nanoseconds: every put makes a new inode, and one that is
//!   used again has a later time (by the kernel's clock tick, up to 4 ms before Linux 6.13). An open body keeps serving
//!   the bytes it began with.
//!
//! Not OpenDAL's `fs` service: that one keeps temporary files in a directory of its own, does not sync directories,
//! does not know the length of what it opened (a `stat` before each read, and a race), has no ETags and no ordered
//! list.

mod entry;
mod list;
mod unsynced;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use shoal_runtime::{rng, task};
use shoal_types::ErrorKind;

use self::{
    entry::{TEMP_PREFIX, is_temporary, object_meta},
    list::list_dir,
    unsynced::{Unsynced, sync_dir},
};
use crate::{
    ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore, Op,
    error::object_name,
    store::{check_key, check_prefix, check_range, clamp},
};

/// Most bytes of the target's name that a temporary file repeats: the rest of the 255 is prefix and random number.
const TEMP_BASE_MAX: usize = 200;
/// Bytes read in one visit to the blocking pool, and held by one body: a usual block, whole. (Measured, page cache, 4 MiB
/// objects: 0.056-0.060 CPU-s/GB here with 4 or 1 MiB, `std::fs::read` 0.036-0.040, OpenDAL's `fs` with `stat` 0.060-0.064.)
const READ_BYTES: u64 = 4 << 20;

/// A directory as an object store.
#[derive(Debug)]
pub(crate) struct FileStore {
    root: Arc<Path>,
    name: Arc<str>,
    unsynced: Unsynced,
}

impl FileStore {
    /// `root` need not exist yet: calls then say `NotFound` and name it.
    pub(crate) fn new(root: PathBuf) -> FileStore {
        let name = format!("directory {}", root.display());
        FileStore { root: root.into(), name: name.into(), unsynced: Unsynced::default() }
    }

    fn path(&self, key: &str) -> Result<PathBuf, ObjectError> {
        check_key(key)?;
        if is_temporary(key.rsplit('/').next().unwrap_or(key)) {
            let why = "names like .jfs.*.tmp.* are temporary files of this storage";
            return Err(ObjectError::Key { key: key.to_owned(), why });
        }
        Ok(self.root.join(key))
    }

    /// What went wrong with `key`, telling a missing object from a missing directory.
    fn failed(&self, op: Op, key: &str, source: io::Error) -> ObjectError {
        let (store, key) = (self.name(), key.to_owned());
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if !self.root.is_dir() => {
                ObjectError::NoBucket { store }
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory if op != Op::Put => {
                ObjectError::NotFound { store, key }
            }
            _ if ErrorKind::of_io(&source) == ErrorKind::Denied => {
                ObjectError::Denied { store, op, key, reason: source.to_string() }
            }
            _ => ObjectError::Io { store, op, key, source },
        }
    }

    /// Runs `work` where it may block, and gives its error the names a user knows.
    async fn blocking<T: Send + 'static>(
        &self,
        op: Op,
        key: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, ObjectError> {
        task::blocking("object-file", work).await.map_err(|error| self.failed(op, key, error))
    }
}

/// Makes the directory of a `file` bucket, with its parents; one that is there is fine.
pub(crate) async fn create(root: PathBuf) -> Result<(), ObjectError> {
    let store = FileStore::new(root.clone());
    store.blocking(Op::Put, "", move || fs::create_dir_all(root)).await
}

#[async_trait]
impl ObjectStore for FileStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let path = self.path(key)?;
        check_range(&self.name, key, range.as_ref())?;
        // One hop opens, asks and reads the first part; the open file then serves the rest whatever happens to its name.
        let (wanted, expected) = (range.clone(), if_match.map(str::to_owned));
        let opened = self.blocking(Op::Get, key, move || open_part(&path, wanted, expected.as_deref())).await?;
        let Opened { file, meta, first } = opened;
        if let Some(etag) = if_match.filter(|etag| meta.etag.as_deref() != Some(etag)) {
            return Err(ObjectError::Changed { store: self.name(), key: key.to_owned(), etag: etag.to_owned() });
        }
        let span = clamp(&self.name, key, range.as_ref(), meta.len)?;
        let rest = Rest {
            at: span.start + first.len() as u64,
            end: span.end,
            file: Some(file),
            first: Some(first),
            store: self.name.clone(),
            key: key.to_owned(),
        };
        let chunks = stream::try_unfold(rest, Rest::next);
        let mut body = ObjectBody::from_stream(object_name(key, &self.name), span.end - span.start, chunks);
        body.object_len = Some(meta.len);
        body.etag = meta.etag;
        Ok(body)
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        let (root, target, unsynced) = (self.root.clone(), self.path(key)?, self.unsynced.clone());
        let write = move || write_whole(&root, &target, &data).map(|()| unsynced.add(target));
        self.blocking(Op::Put, key, write).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        let (root, unsynced) = (self.root.clone(), self.unsynced.clone());
        self.blocking(Op::Put, "", move || unsynced.sync(&root)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let path = self.path(key)?;
        self.blocking(Op::Head, key, move || object_meta(&fs::metadata(path)?)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.path(key)?;
        match self.blocking(Op::Delete, key, move || fs::remove_file(path)).await {
            Err(ObjectError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        check_prefix(prefix)?;
        let (root, from) = (self.root.clone(), after.map(str::to_owned));
        let start = prefix.to_owned();
        self.blocking(Op::List, prefix, move || {
            // Asked first: below, a directory that is gone counts as empty.
            fs::metadata(&root).and_then(|found| if found.is_dir() { Ok(()) } else { Err(not_a_directory()) })?;
            list_dir(&root, &start, from.as_deref(), limit)
        })
        .await
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

fn not_a_directory() -> io::Error {
    io::ErrorKind::NotADirectory.into()
}

struct Opened {
    file: File,
    meta: ObjectMeta,
    first: Bytes,
}

/// Opens `path` and reads the start of `range`; reads nothing where the caller will refuse anyway.
fn open_part(path: &Path, range: Option<Range<u64>>, if_match: Option<&str>) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let meta = object_meta(&file.metadata()?)?;
    let range = range.unwrap_or(0..u64::MAX);
    let end = range.end.min(meta.len);
    let first = if range.start >= end || if_match.is_some_and(|etag| meta.etag.as_deref() != Some(etag)) {
        Bytes::new()
    } else {
        if range.start > 0 {
            file.seek(SeekFrom::Start(range.start))?;
        }
        read_some(&mut file, end - range.start)?
    };
    Ok(Opened { file, meta, first })
}

/// Up to [`READ_BYTES`] of the `left` bytes from the file's position on; fewer only if the file shrank.
fn read_some(file: &mut File, left: u64) -> io::Result<Bytes> {
    let want = left.min(READ_BYTES);
    // At most 4 MiB. `read_to_end` fills spare capacity without zeroing it first.
    let mut bytes = Vec::with_capacity(want as usize);
    file.take(want).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// What is still to be read of an open file.
struct Rest {
    file: Option<File>,
    at: u64,
    end: u64,
    first: Option<Bytes>,
    store: Arc<str>,
    key: String,
}

impl Rest {
    async fn next(mut self) -> Result<Option<(Bytes, Rest)>, ObjectError> {
        if let Some(first) = self.first.take() {
            return Ok(Some((first, self)));
        }
        let left = self.end - self.at;
        let Some(mut file) = self.file.take().filter(|_| left > 0) else {
            return Ok(None);
        };
        let read = task::blocking("object-file", move || read_some(&mut file, left).map(|bytes| (bytes, file))).await;
        match read {
            Ok((bytes, file)) => {
                self.at += bytes.len() as u64;
                // Nothing read means the file shrank under us: the body then ends early, which is an error.
                self.file = Some(file).filter(|_| !bytes.is_empty());
                Ok(Some((bytes, self)))
            }
            Err(source) => Err(ObjectError::Io { store: self.store.to_string(), op: Op::Get, key: self.key, source }),
        }
    }
}

/// All of a put; see the module's first point.
fn write_whole(root: &Path, target: &Path, data: &[u8]) -> io::Result<()> {
    let dir = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let base = target.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let mut cut = base.len().min(TEMP_BASE_MAX);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let temp = dir.join(format!("{TEMP_PREFIX}{}.tmp.{}", &base[..cut], rng::random_u64()));
    let written = write_new(root, dir, &temp, data).and_then(|()| fs::rename(&temp, target));
    if written.is_err() {
        // The first error is the one that counts.
        let _ = fs::remove_file(&temp);
    }
    written
}

fn write_new(root: &Path, dir: &Path, temp: &Path, data: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let mut file = match options.open(temp) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dirs(root, dir)?;
            options.open(temp)?
        }
        other => other?,
    };
    file.write_all(data)
}

/// Makes the directories between `root`, which must exist, and `dir`, each durable in its parent.
fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|path| *path != root && !path.is_dir()).collect();
    for path in missing.into_iter().rev() {
        match fs::create_dir(path) {
            // Another put was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            other => other?,
        }
        sync_dir(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
    }
    Ok(())
}
