//! Taking blocks in and giving them back.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_format::BlockCodec;
use shoal_object::ObjectStore;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::disk::{Disk, staged_dir};
use crate::error::StageError;
use crate::hours::Hours;
use crate::index::Index;
use crate::metrics::StageMetrics;

/// How long a disk that failed or hung is left alone.
const REST: Duration = Duration::from_secs(10);
/// Longest time for one block to be on disk: beyond it the disk hangs, and the block is stored directly.
const PATIENCE: Duration = Duration::from_secs(30);
/// Blocks staged at most: some hundred MiB of memory for what is known of them.
const BLOCKS_MAX: usize = 1_000_000;

/// Whether blocks are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// They are.
    Blocks,
    /// What an earlier process left is stored, and no more.
    Nothing,
}

/// How blocks are staged.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// The volume's directory on this host's disk: `<cache-dir>/<UUID>`.
    pub dir: PathBuf,
    /// What every key begins with and no staged file's path does: `<Name>/`.
    pub prefix: String,
    /// Whether blocks are taken in.
    pub admit: Admit,
    /// Blocks of as many plain bytes and more are not taken in; `None` for no such bound.
    pub too_long: Option<u64>,
    /// How long a block waits before it is stored.
    pub upload_delay: Duration,
    /// When blocks are stored.
    pub hours: Hours,
    /// Blocks written to the disk at once; further ones are stored directly.
    pub writes_max: usize,
    /// Staged blocks stored at once.
    pub uploads_max: usize,
    /// Parts of a thousand of the file system that stay free.
    pub keep_free_permille: u64,
}

/// What became of a block that was to be staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staged {
    /// It outlives this process, and will be stored.
    Yes,
    /// It has to be stored by the caller: the disk is full, busy or failing.
    No,
}

/// Staged blocks of one volume. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stage(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: StageConfig,
    pub(crate) disk: Arc<Disk>,
    pub(crate) codec: BlockCodec,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) metrics: StageMetrics,
    pub(crate) index: Mutex<Index>,
    /// Something came, went, or is to hurry.
    pub(crate) changed: Notify,
    /// Who wants to hear of blocks that were stored.
    listener: Mutex<Option<mpsc::Sender<String>>>,
    writing: Semaphore,
    /// Until when the disk is left alone.
    resting: Mutex<Option<Instant>>,
}

/// True if an earlier process left staged blocks in `dir`, or may have.
pub fn has_staged_blocks(dir: &Path) -> bool {
    std::fs::read_dir(staged_dir(dir)).is_ok_and(|mut entries| entries.next().is_some())
}

impl Stage {
    /// Takes up what an earlier process left in the directory. Errors: as of [`Stage::open`].
    pub(crate) async fn take_up(
        config: StageConfig,
        objects: Arc<dyn ObjectStore>,
        codec: BlockCodec,
        registry: &Registry,
    ) -> Result<Stage, StageError> {
        let dir = config.dir.clone();
        let opened = task::blocking("open stage", move || {
            let disk = Disk::open(&dir)?;
            let found = disk.scan()?;
            Ok::<_, StageError>((disk, found))
        });
        let (disk, found) = opened.await?;
        let (mut index, now) = (Index::default(), clock::now());
        for block in &found {
            index.insert(&block.key, block.plain_len, now, Duration::ZERO);
        }
        let (blocks, bytes) = index.size();
        if blocks > 0 {
            tracing::info!(blocks, bytes, dir = %config.dir.display(), "storing blocks that were staged before");
        }
        let writing = Semaphore::new(config.writes_max.min(Semaphore::MAX_PERMITS));
        let stage = Stage(Arc::new(Inner {
            disk: Arc::new(disk),
            codec,
            objects,
            metrics: StageMetrics::register(registry),
            index: Mutex::new(index),
            changed: Notify::new(),
            listener: Mutex::new(None),
            writing,
            resting: Mutex::new(None),
            config,
        }));
        stage.0.metrics.holds(stage.size());
        Ok(stage)
    }

    /// Takes in the plain bytes of block `key`: on disk and synced when it returns [`Staged::Yes`].
    pub async fn put(&self, key: &str, plain: Bytes) -> Staged {
        let StageConfig { admit, too_long, .. } = self.0.config;
        if admit == Admit::Nothing || too_long.is_some_and(|len| plain.len() as u64 >= len) {
            return Staged::No;
        }
        let staged = self.try_put(key, plain).await;
        match staged {
            Staged::Yes => self.0.metrics.staged(),
            Staged::No => self.0.metrics.declined(),
        }
        staged
    }

    async fn try_put(&self, key: &str, plain: Bytes) -> Staged {
        let inner = &self.0;
        let Some(path) = key.strip_prefix(&inner.config.prefix) else { return Staged::No };
        if self.is_resting() || self.size().0 >= BLOCKS_MAX {
            return Staged::No;
        }
        let Ok(_turn) = inner.writing.try_acquire() else { return Staged::No };
        let (disk, keep_free, len) = (Arc::clone(&inner.disk), inner.config.keep_free_permille, plain.len() as u32);
        let name = path.to_owned();
        let write = task::blocking("stage", move || {
            if disk.free_permille()? < keep_free {
                return Ok(Staged::No);
            }
            disk.write(&name, &plain)?;
            Ok::<_, StageError>(Staged::Yes)
        });
        match clock::timeout(PATIENCE, write).await {
            Ok(Ok(Staged::Yes)) => {
                inner.index.lock().insert(path, len, clock::now(), inner.config.upload_delay);
                self.changed();
                Staged::Yes
            }
            Ok(Ok(Staged::No)) => Staged::No,
            Ok(Err(error)) => {
                tracing::warn!(%error, "blocks are stored directly for a while");
                self.rest()
            }
            Err(_) => {
                tracing::warn!(dir = %inner.config.dir.display(), "the staging disk hangs; blocks are stored directly for a while");
                self.rest()
            }
        }
    }

    /// Plain bytes `range` of block `key` if it is staged. One that cannot be read counts as not staged.
    pub async fn read(&self, key: &str, range: Range<u32>) -> Option<Bytes> {
        let path = key.strip_prefix(&self.0.config.prefix)?.to_owned();
        let plain_len = self.0.index.lock().get(&path)?;
        let disk = Arc::clone(&self.0.disk);
        let read = task::blocking("read staged", move || disk.read(&path, plain_len, range)).await;
        match read {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                // It may have been stored and removed at this very moment.
                tracing::debug!(%error, "a staged block cannot be read");
                None
            }
        }
    }

    /// True if block `key` is staged.
    pub fn holds(&self, key: &str) -> bool {
        let path = key.strip_prefix(&self.0.config.prefix);
        path.is_some_and(|path| self.0.index.lock().get(path).is_some())
    }

    /// Drops block `key`, whose object is to be deleted.
    pub async fn forget(&self, key: &str) {
        let Some(path) = key.strip_prefix(&self.0.config.prefix) else { return };
        if self.0.index.lock().remove(path) {
            self.remove_file(path).await;
            self.changed();
        }
    }

    /// Keys of blocks from now on, as they are stored; those that find `waiting_max` unheard are left out. For one listener.
    pub fn stored(&self, waiting_max: usize) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel(waiting_max);
        *self.0.listener.lock() = Some(sender);
        receiver
    }

    pub(crate) fn tell_stored(&self, key: &str) {
        if let Some(listener) = &*self.0.listener.lock() {
            // What is not heard of is only not offered to the ring.
            let _ = listener.try_send(key.to_owned());
        }
    }

    /// Number of staged blocks, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        self.0.index.lock().size()
    }

    /// The volume's directory.
    pub fn dir(&self) -> &Path {
        &self.0.config.dir
    }

    /// From now on nothing waits for its time, or its hour.
    pub fn hurry(&self) {
        self.0.index.lock().hurry(clock::now());
        self.changed();
    }

    /// [`Stage::hurry`], and waits until all is stored that can be. Never returns while the object store fails. Cancel-safe.
    pub async fn flush(&self) {
        self.hurry();
        loop {
            let changed = self.0.changed.notified();
            if self.0.index.lock().is_done() {
                return;
            }
            changed.await;
        }
    }

    pub(crate) async fn remove_file(&self, path: &str) {
        let (disk, path) = (Arc::clone(&self.0.disk), path.to_owned());
        if let Err(error) = task::blocking("remove staged", move || disk.remove(&path)).await {
            tracing::warn!(%error, "a block that is no longer staged stays on disk until the next start");
        }
    }

    pub(crate) fn changed(&self) {
        self.0.metrics.holds(self.size());
        self.0.changed.notify_waiters();
    }

    fn is_resting(&self) -> bool {
        self.0.resting.lock().is_some_and(|until| clock::now() < until)
    }

    fn rest(&self) -> Staged {
        *self.0.resting.lock() = Some(clock::now() + REST);
        Staged::No
    }
}
