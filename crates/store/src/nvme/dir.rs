//! One cache directory in service: its device, which writing of each segment is current, and whether it still works.
//!
//! Also the checks that turn a directory that cannot be used into a sentence.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock, statvfs};
use shoal_types::{ByteSize, NodeId};
use tokio::sync::Semaphore;

use super::descriptor::{Descriptor, Unusable};
use super::geometry::Geometry;
use super::index::{Index, Location};
use super::segment::Rules;
use super::slab::Slab;
use crate::config::{DirConfig, MIN_DIR_BYTES, StoreConfig};
use crate::error::StoreError;
use crate::io::device::Device;

/// Failed reads a directory survives, each a miss: one bad sector must not cost a whole device. A failed write takes the directory
/// out at once: whatever is written next would fail as well.
const READ_ERRORS_MAX: u32 = 8;

/// A directory that was checked, locked and sized, and not yet read.
pub(crate) struct Claimed {
    pub(crate) config: DirConfig,
    pub(crate) id: NodeId,
    pub(crate) geometry: Geometry,
    pub(crate) page_bytes: u32,
    pub(crate) slab: Slab,
    lock: File,
}

impl Claimed {
    /// Checks `config`, locks the directory and gives its slab the configured size. Blocks.
    pub(crate) fn open(config: &DirConfig, store: &StoreConfig) -> Result<Claimed, StoreError> {
        let path = &config.path;
        check_exists(path)?;
        if config.bytes < MIN_DIR_BYTES {
            let (asked, least) = (ByteSize(config.bytes), ByteSize(MIN_DIR_BYTES));
            let path = path.display();
            return Err(StoreError::Config(format!("cache directory {path} is given {asked}, the least is {least}")));
        }
        let lock = lock(path)?;
        let (descriptor, geometry) = describe(config, store)?;
        check_space(path, geometry.slab_bytes(), config.bytes)?;
        let slab = Slab::open(path, geometry.slab_bytes()).map_err(|source| refused(path, source))?;
        let Descriptor { id, page_bytes, .. } = descriptor;
        Ok(Claimed { config: config.clone(), id, geometry, page_bytes, slab, lock })
    }
}

fn check_exists(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(StoreError::NotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(StoreError::NotADirectory { path: path.to_owned() })
        }
        Err(source) => Err(refused(path, source)),
    }
}

/// The error for a refusal to create or change a file in `path`.
fn refused(path: &Path, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::NotWritable { path: path.to_owned(), source }
        }
        _ => StoreError::device(path, source),
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let file = options.open(path.join("shoal-cache.lock")).map_err(|source| refused(path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(error) => Err(refused(path, error.into())),
    }
}

/// The directory's descriptor, read or made, and how its bytes are cut.
fn describe(config: &DirConfig, store: &StoreConfig) -> Result<(Descriptor, Geometry), StoreError> {
    let path = &config.path;
    let found = Descriptor::read(path).map_err(|error| match error {
        Unusable::Io(source) => refused(path, source),
        Unusable::Foreign(reason) => StoreError::Foreign { path: path.clone(), reason },
    })?;
    if let Some(found) = &found {
        if let Some(geometry) = Geometry::with_segments_of(found.segment_bytes, config.bytes) {
            return Ok((found.clone(), geometry));
        }
        tracing::warn!(dir = %path.display(), size = %ByteSize(config.bytes), "the directory's new size needs other segments: its cache starts empty");
    }
    let geometry = match store.segment_bytes {
        None => Geometry::fresh(config.bytes),
        Some(bytes) => Geometry::with_segments_of(bytes, config.bytes).ok_or_else(|| {
            let (path, size) = (path.display(), ByteSize(config.bytes));
            StoreError::Config(format!("cache directory {path} of {size} cannot be cut in segments of {bytes} bytes"))
        })?,
    };
    let id = found.map_or_else(|| NodeId(shoal_runtime::rng::id16()), |found| found.id);
    let descriptor = Descriptor { id, segment_bytes: geometry.segment_bytes, page_bytes: store.page_bytes };
    descriptor.write(path).map_err(|source| refused(path, source))?;
    Ok((descriptor, geometry))
}

/// Refuses a slab that the file system has no room for; what an older slab takes counts as room.
fn check_space(path: &Path, slab_bytes: u64, asked: u64) -> Result<(), StoreError> {
    let stat = statvfs(path).map_err(|error| StoreError::device(path, error.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_add(Slab::allocated(path));
    if slab_bytes > free {
        return Err(StoreError::DirTooLarge { path: path.to_owned(), free: ByteSize(free), asked: ByteSize(asked) });
    }
    Ok(())
}

/// A directory in service.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) number: u16,
    pub(crate) path: PathBuf,
    /// Most bytes our files may take.
    pub(crate) limit: u64,
    pub(crate) id: NodeId,
    pub(crate) rules: Rules,
    pub(crate) device: Arc<dyn Device>,
    /// Bounds the reads with the device.
    pub(crate) reads: Semaphore,
    /// Number of the current writing of each segment; 0 while there is none.
    writings: Box<[AtomicU64]>,
    /// False once `outage` is set.
    works: AtomicBool,
    outage: Mutex<Option<Outage>>,
    read_errors: AtomicU32,
    evicted: AtomicU64,
    /// Keeps other processes out until the directory is closed, a failed one too: writes may still be on their way.
    lock: Mutex<Option<File>>,
    index: Arc<Index>,
}

/// Why a directory takes no more blocks.
#[derive(Debug, Clone)]
pub(crate) enum Outage {
    Failed(Arc<io::Error>),
    Closed,
}

impl Dir {
    /// The directory number `number`, driven by `device`.
    pub(crate) fn new(number: u16, claimed: Claimed, device: Arc<dyn Device>, depth: u32, index: Arc<Index>) -> Dir {
        let Claimed { config, id, geometry, page_bytes, slab: _, lock } = claimed;
        Dir {
            number,
            path: config.path,
            limit: config.bytes,
            id,
            rules: Rules { segment_bytes: geometry.segment_bytes, page_bytes },
            device,
            reads: Semaphore::new(depth as usize),
            writings: (0..geometry.segments).map(|_| AtomicU64::new(0)).collect(),
            works: AtomicBool::new(true),
            outage: Mutex::new(None),
            read_errors: AtomicU32::new(0),
            evicted: AtomicU64::new(0),
            lock: Mutex::new(Some(lock)),
            index,
        }
    }

    /// Offset in the slab of byte `at` of `segment`.
    pub(crate) fn offset(&self, segment: u32, at: u32) -> u64 {
        u64::from(segment) * self.rules.segment_bytes + u64::from(at)
    }

    /// Makes `seq` the current writing of `segment`; 0 makes every location in it stale.
    pub(crate) fn set_writing(&self, segment: u32, seq: u64) {
        self.writings[segment as usize].store(seq, Ordering::SeqCst);
    }

    /// Whether the segment still holds what it held when `at` was made. If so after a read, no write was in the way of it.
    pub(crate) fn is_current(&self, at: &Location) -> bool {
        let seq = self.writings[at.segment as usize].load(Ordering::SeqCst);
        seq != 0 && seq as u32 == at.generation
    }

    /// Adds blocks that were evicted.
    pub(crate) fn count_evicted(&self, blocks: u64) {
        self.evicted.fetch_add(blocks, Ordering::Relaxed);
    }

    /// Blocks evicted since the directory was opened.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Whether the directory is in service.
    pub(crate) fn works(&self) -> bool {
        self.works.load(Ordering::Acquire)
    }

    /// Why the directory is out of service, if it is.
    pub(crate) fn outage(&self) -> Option<Outage> {
        self.outage.lock().clone()
    }

    /// Takes the directory out of service because of `error`: its blocks are misses from now on. Gives the error that did it,
    /// which may be an earlier one.
    pub(crate) fn fail(&self, error: io::Error) -> Outage {
        let outage = {
            let mut outage = self.outage.lock();
            if let Some(earlier) = &*outage {
                return earlier.clone();
            }
            self.works.store(false, Ordering::Release);
            outage.insert(Outage::Failed(Arc::new(error))).clone()
        };
        let blocks = self.index.remove_dir(self.number);
        if let Outage::Failed(error) = &outage {
            tracing::error!(dir = %self.path.display(), %error, blocks, "cache directory failed and is out of service; its blocks are fetched anew");
        }
        outage
    }

    /// Counts a failed read; too many take the directory out of service.
    pub(crate) fn read_failed(&self, error: io::Error) {
        let errors = self.read_errors.fetch_add(1, Ordering::Relaxed) + 1;
        if errors >= READ_ERRORS_MAX {
            self.fail(error);
        } else {
            tracing::warn!(dir = %self.path.display(), %error, errors, "a block could not be read from NVMe and is dropped");
        }
    }

    /// Lets the directory go: its blocks are misses from now on and others may lock it. No write may be under way.
    pub(crate) fn close(&self) {
        self.works.store(false, Ordering::Release);
        self.outage.lock().get_or_insert(Outage::Closed);
        self.index.remove_dir(self.number);
        *self.lock.lock() = None;
    }
}
