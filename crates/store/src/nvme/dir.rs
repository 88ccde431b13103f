//! One cache directory in service: its device, which writing of each segment is current, and the turns of its readers.
//!
//! Also the checks that turn a directory that cannot be used into a sentence.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use shoal_runtime::budget::{Budget, Permit};
use shoal_runtime::clock;
use shoal_types::{ByteSize, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ages::Ages;
use super::descriptor::{Descriptor, Unusable};
use super::geometry::Geometry;
use super::index::{Index, Location};
use super::segment::Rules;
use super::slab::Slab;
use super::space::{FileSystem, SEGMENTS_MIN};
use super::watch::Watched;
use crate::config::{DirConfig, MIN_DIR_BYTES, StoreConfig};
use crate::error::StoreError;

/// A directory that was checked, locked and sized, and not yet read.
pub(crate) struct Claimed {
    pub(crate) config: DirConfig,
    pub(crate) id: NodeId,
    pub(crate) geometry: Geometry,
    pub(crate) page_bytes: u32,
    pub(crate) slab: Slab,
    /// Segments that may be reserved now.
    pub(crate) allowed: u32,
    pub(crate) lock: File,
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
        let allowed = allowed(config, geometry)?;
        let whole = allowed == geometry.segments;
        let slab = Slab::open(path, geometry.file_bytes(), whole).map_err(|source| refused(path, source))?;
        let Descriptor { id, page_bytes, .. } = descriptor;
        Ok(Claimed { config: config.clone(), id, geometry, page_bytes, slab, allowed, lock })
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

/// How many segments may be reserved now, so that enough of the file system stays free; what an older slab takes counts as room.
///
/// Refuses a size that the whole file system could not hold, and a file system that has no room for the smallest cache.
fn allowed(config: &DirConfig, geometry: Geometry) -> Result<u32, StoreError> {
    let DirConfig { path, bytes, free_ratio } = config;
    let fs = FileSystem::of(path).map_err(|source| StoreError::device(path, source))?;
    let ours = fs.free.saturating_add(Slab::allocated(path));
    let too_large =
        |free| Err(StoreError::DirTooLarge { path: path.clone(), free: ByteSize(free), asked: ByteSize(*bytes) });
    if fs.total > 0 && geometry.file_bytes() > fs.total {
        return too_large(ours);
    }
    let room = ours.saturating_sub(fs.reserve(*free_ratio));
    if room >= geometry.file_bytes() {
        return Ok(geometry.segments);
    }
    let segments = |room: u64| {
        let room = room.saturating_sub(geometry.file_bytes() - geometry.slab_bytes());
        u32::try_from(room / geometry.segment_bytes).unwrap_or(u32::MAX)
    };
    // The smallest cache is allowed as long as it fits at all.
    let segments = segments(room).max(segments(ours).min(SEGMENTS_MIN));
    if segments < SEGMENTS_MIN {
        return too_large(ours);
    }
    let size = ByteSize(geometry.segment_bytes * u64::from(segments));
    tracing::warn!(dir = %path.display(), asked = %ByteSize(*bytes), %size, free_ratio, "the cache is smaller than configured, so that enough of the file system stays free; it grows when there is room");
    Ok(segments)
}

/// A directory in service.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(crate) number: u16,
    pub(crate) path: PathBuf,
    config: DirConfig,
    /// Segments that are reserved on the file system.
    reserved: AtomicU32,
    /// How many should be.
    goal: AtomicU32,
    pub(crate) id: NodeId,
    pub(crate) rules: Rules,
    pub(crate) device: Watched,
    turns: Turns,
    /// Number of the current writing of each segment; 0 while there is none.
    writings: Box<[AtomicU64]>,
    /// When what lies in each segment was written.
    ages: Box<[Mutex<Ages>]>,
    /// Whether the next segment needs another to be forgotten.
    full: AtomicBool,
    evicted: AtomicU64,
    index: Arc<Index>,
}

/// What bounds the reads of one directory: a device that hangs holds its own share, never another's.
#[derive(Debug)]
pub(crate) struct Turns {
    /// Reads with the device.
    pub(crate) reads: Arc<Semaphore>,
    /// Most of them.
    pub(crate) depth: usize,
    /// Their buffers.
    pub(crate) memory: Budget,
    /// The longest wait for a turn.
    pub(crate) patience: Duration,
}

/// The right to read; the device keeps it until the read ended.
pub(crate) type Turn = Arc<(Permit, OwnedSemaphorePermit)>;

impl Dir {
    /// The directory number `number`, driven by `device`.
    pub(crate) fn new(number: u16, claimed: &Claimed, device: Watched, turns: Turns, index: Arc<Index>) -> Dir {
        let Claimed { config, id, geometry, page_bytes, allowed, .. } = claimed;
        Dir {
            number,
            path: config.path.clone(),
            config: config.clone(),
            reserved: AtomicU32::new(geometry.segments),
            goal: AtomicU32::new(*allowed),
            id: *id,
            rules: Rules { segment_bytes: geometry.segment_bytes, page_bytes: *page_bytes },
            device,
            turns,
            writings: (0..geometry.segments).map(|_| AtomicU64::new(0)).collect(),
            ages: (0..geometry.segments).map(|_| Mutex::default()).collect(),
            full: AtomicBool::new(false),
            evicted: AtomicU64::new(0),
            index,
        }
    }

    /// The turn of a read of `bytes`; `TimedOut` if it does not come while the reader is patient.
    pub(crate) async fn turn(&self, bytes: u32) -> io::Result<Turn> {
        let Turns { reads, memory, patience, .. } = &self.turns;
        let both = async {
            let memory = memory.acquire(bytes.into()).await;
            Ok(Arc::new((memory, Arc::clone(reads).acquire_owned().await.map_err(io::Error::other)?)))
        };
        if let Some(memory) = memory.try_acquire(bytes.into())
            && let Ok(read) = Arc::clone(reads).try_acquire_owned()
        {
            return Ok(Arc::new((memory, read)));
        }
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the device has too much to do");
        clock::timeout(*patience, both).await.map_err(late)?
    }

    /// Most bytes our files may take: as configured, less if the file system is short of room.
    pub(crate) fn limit(&self) -> u64 {
        let reserved = self.reserved.load(Ordering::Relaxed);
        match reserved == self.segments() {
            true => self.config.bytes,
            false => u64::from(reserved) * self.rules.segment_bytes,
        }
    }

    /// How many segments should be reserved.
    pub(crate) fn goal(&self) -> u32 {
        self.goal.load(Ordering::Relaxed)
    }

    /// Notes how many segments are reserved.
    pub(crate) fn set_reserved(&self, segments: u32) {
        self.reserved.store(segments, Ordering::Relaxed);
    }

    /// Looks at the file system and sets the goal by it; whether it differs from what is reserved.
    pub(crate) fn look_at_space(&self) -> io::Result<bool> {
        let reserved = self.reserved.load(Ordering::Relaxed);
        let fs = FileSystem::of(&self.path)?;
        let goal = fs.goal(self.config.free_ratio, self.rules.segment_bytes, reserved, self.segments());
        self.goal.store(goal, Ordering::Relaxed);
        Ok(goal != reserved)
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

    /// Notes when what lies from byte `start` of `segment` on was written.
    pub(crate) fn note_written(&self, segment: u32, start: u32, time: u32) {
        self.ages[segment as usize].lock().note(start, time);
    }

    /// Sets what is known of the times that `segment` was written at.
    pub(crate) fn set_ages(&self, segment: u32, ages: Ages) {
        *self.ages[segment as usize].lock() = ages;
    }

    /// When the block at `at` was stored, or a little before; Unix time in seconds, 0 if nothing is known.
    pub(crate) fn written_at(&self, at: &Location) -> u32 {
        self.ages[at.segment as usize].lock().of(at.start)
    }

    /// Whether what is written now has others evicted.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// See [`Dir::is_full`].
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Segments of the directory.
    pub(crate) fn segments(&self) -> u32 {
        self.writings.len() as u32
    }

    /// Whether there is a current writing of `segment`.
    pub(crate) fn has_writing(&self, segment: u32) -> bool {
        self.writings[segment as usize].load(Ordering::SeqCst) != 0
    }

    /// Reads with the device.
    pub(crate) fn reads_under_way(&self) -> usize {
        self.turns.depth - self.turns.reads.available_permits().min(self.turns.depth)
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
        self.device.works()
    }

    /// Lets the directory go: its blocks are misses from now on, and others may lock it once nothing of ours is on its way any more.
    pub(crate) fn close(&self) {
        self.device.close();
        self.index.remove_dir(self.number);
    }
}
