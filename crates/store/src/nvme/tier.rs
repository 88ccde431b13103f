//! All cache directories together: opened side by side, blocks spread over them by size, one index over all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_runtime::budget::Budget;
use shoal_runtime::{clock, task};
use shoal_types::{BlockId, BlockKey, BlockRange, MAX_BLOCK_BYTES, NodeId, PageTable};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::dir::{Claimed, Dir, Turns};
use super::evict::Wanted;
use super::ghost::Ghost;
use super::index::{Index, Location};
use super::keeper::{Care, Keeper};
use super::key;
use super::read::{Outcome, Reader, Verified};
use super::recover::{Recovered, recover};
use super::rules::{RuleBook, unix_seconds};
use super::scan::{ScanCursor, StoredBlock, scan};
use super::scrub::{Scrub, Scrubber};
use super::table::Tables;
use super::watch::{Outage, Patience, Watched, copy};
use super::write::{Job, LENT_MIN, QUEUE_TASKS, Refusal, Shared, Task, Writer};
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::io::buffer::{Buf, Pool};
use crate::io::device::Device;
use crate::io::engine::Engine;
use crate::metrics::{Look, StoreMetrics};
use crate::sums::Sums;

/// Puts something between the engine and the device: the fault device of tests.
///
/// Told the number of the directory, in the order of the configuration.
pub(crate) type Wrap = Arc<dyn Fn(usize, Arc<dyn Device>) -> Arc<dyn Device> + Send + Sync>;

/// The NVMe tier of a node.
pub(crate) struct NvmeTier {
    mounts: Vec<Mount>,
    index: Arc<Index>,
    reader: Reader,
    rules: Arc<RuleBook>,
    ghost: Ghost,
    /// Stops when the tier goes or is closed.
    scrubber: Mutex<Option<Scrubber>>,
    metrics: Arc<StoreMetrics>,
    /// What a simulation has in the place of directories.
    #[cfg(feature = "testing")]
    fake: Option<(super::fake::FakeDisk, StoreConfig)>,
}

/// A directory, and the way to its writer.
struct Mount {
    dir: Arc<Dir>,
    queue: Budget,
    /// `None` once the tier is closing.
    tasks: Mutex<Option<mpsc::Sender<Task>>>,
    /// True when the writer has ended.
    ended: watch::Receiver<bool>,
    /// Stops when the mount goes or is closed.
    keeper: Mutex<Option<Keeper>>,
}

/// What one directory holds.
pub(crate) struct DirUsage {
    pub(crate) path: PathBuf,
    pub(crate) used: u64,
    pub(crate) limit: u64,
    pub(crate) blocks: u64,
    pub(crate) evicted: u64,
    pub(crate) works: bool,
}

/// Bytes found in a directory.
pub(crate) struct Hit {
    pub(crate) bytes: Bytes,
    pub(crate) block_len: u32,
    /// Memory the bytes keep alive.
    pub(crate) memory: usize,
    /// The block's checksums; `None` for no bytes.
    pub(crate) table: Option<Arc<PageTable>>,
    /// How often the block was read from here, this time included.
    pub(crate) hits: u8,
    /// When it was stored first, or a little before.
    pub(crate) written: u32,
}

impl NvmeTier {
    /// Opens every directory of `config`; one that cannot be used is an error, before any is written to.
    ///
    /// `wanted` says of a block whether RAM has it.
    pub(crate) async fn open(
        config: &StoreConfig,
        metrics: Arc<StoreMetrics>,
        wanted: Arc<Wanted>,
        wrap: Option<Wrap>,
    ) -> Result<NvmeTier, StoreError> {
        let index = Arc::new(Index::new(config.dirs.len()));
        let pool = Pool::new(config.pool_memory);
        let tables = Arc::new(Tables::new(config.table_memory));
        let rules = Arc::default();
        let (index, tables, pool) = (Arc::clone(&index), Arc::clone(&tables), pool.clone());
        let mut shared = Shared { index, tables, pool, metrics, rules, wanted };
        let mut mounts = Vec::new();
        if !config.dirs.is_empty() {
            let engine = Engine::choose(config.io).map_err(|source| StoreError::NoUring { source })?;
            let claimed = claim_all(config, &shared.index, &shared.pool).await?;
            shared.rules = Arc::new(RuleBook::open(config.dirs.iter().map(|dir| &*dir.path)));
            for (claimed, recovered) in claimed {
                mounts.push(mount(mounts.len() as u16, claimed, recovered, config, engine, &wrap, &shared)?);
            }
        }
        let Shared { index, tables, pool, metrics, rules, .. } = shared;
        let scrub = Scrub {
            dirs: mounts.iter().map(|mount: &Mount| Arc::clone(&mount.dir)).collect(),
            index: Arc::clone(&index),
            pool: pool.clone(),
            metrics: Arc::clone(&metrics),
            rate: config.scrub_rate,
        };
        let scrubs = config.scrub_rate > 0 && !mounts.is_empty();
        let scrubber = Mutex::new(scrubs.then(|| Scrubber::start(scrub)));
        let ghost = Ghost::new(config.dirs.iter().map(|dir| dir.bytes).sum());
        Ok(NvmeTier {
            mounts,
            index,
            reader: Reader { pool, tables },
            rules,
            ghost,
            scrubber,
            metrics,
            #[cfg(feature = "testing")]
            fake: None,
        })
    }

    /// Whether there are directories at all.
    pub(crate) fn is_empty(&self) -> bool {
        #[cfg(feature = "testing")]
        if self.fake.is_some() {
            return false;
        }
        self.mounts.is_empty()
    }

    /// Has `disk` do the work of directories.
    #[cfg(feature = "testing")]
    pub(crate) fn use_fake(&mut self, disk: super::fake::FakeDisk, config: &StoreConfig) {
        self.fake = Some((disk, config.clone()));
    }

    /// Memory for a block of `len` bytes that is to be written from there, if that is better than any other.
    pub(crate) fn memory_for(&self, len: usize) -> Option<Buf> {
        (len >= LENT_MIN && !self.mounts.is_empty()).then(|| self.reader.pool.get(len)).filter(|buf| {
            // RAM counts the block, not what its memory has beyond.
            buf.capacity() - len <= len / 16
        })
    }

    /// The first directory's id.
    pub(crate) fn id(&self) -> Option<NodeId> {
        self.mounts.first().map(|mount| mount.dir.id)
    }

    /// Bytes of memory that the index takes.
    pub(crate) fn index_memory(&self) -> u64 {
        self.index.memory()
    }

    /// The rules for groups of blocks.
    pub(crate) fn rules(&self) -> &RuleBook {
        &self.rules
    }

    /// Where the directories are.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.mounts.iter().map(|mount| &*mount.dir.path)
    }

    /// Whether the block is in a directory in service, stored at or after `since`.
    pub(crate) fn contains(&self, id: BlockId, since: u32) -> bool {
        #[cfg(feature = "testing")]
        if let Some((disk, _)) = &self.fake {
            return disk.contains(id);
        }
        self.index.get(id).is_some_and(|at| self.serves(&at, since))
    }

    fn serves(&self, at: &Location, since: u32) -> bool {
        let dir = self.dir(at);
        dir.works() && (since == 0 || dir.written_at(at) >= since)
    }

    /// Whether the block of `len` bytes may have others evicted: if it was turned away before.
    pub(crate) fn admits(&self, id: BlockId, len: usize) -> bool {
        let full = self.by_preference(id).first().is_some_and(|mount| mount.dir.is_full());
        !full || self.ghost.seen(id, len)
    }

    fn dir(&self, at: &Location) -> &Dir {
        &self.mounts[usize::from(at.dir)].dir
    }

    /// Verified bytes of the block; `None` if it is not here or no longer intact, in which case it is forgotten.
    ///
    /// A block stored before `since` is a miss too.
    pub(crate) async fn read(&self, id: BlockId, range: BlockRange, since: u32) -> Option<Hit> {
        #[cfg(feature = "testing")]
        if let Some((disk, config)) = &self.fake {
            let super::fake::Read { bytes, table, hits } = disk.read(id, config).await?;
            let (block_len, memory) = (bytes.len() as u32, bytes.len());
            let range = range.clamp(block_len);
            let bytes = bytes.slice(range.start as usize..range.end as usize);
            return Some(Hit { bytes, block_len, memory, table: Some(table), hits, written: unix_seconds() });
        }
        let Some((at, hits)) = self.index.hit(id).filter(|(at, _)| self.serves(at, since)) else {
            self.metrics.nvme_read(Look::Miss, None);
            return None;
        };
        let range = range.clamp(at.len);
        let dir = self.dir(&at);
        let started = clock::now();
        if range.is_empty() {
            self.metrics.nvme_read(Look::Hit, None);
            return Some(Hit { bytes: Bytes::new(), block_len: at.len, memory: 0, table: None, hits, written: 0 });
        }
        let outcome = self.reader.read(dir, id, at, range).await;
        let (look, hit) = self.settle(dir, id, at, outcome);
        self.metrics.nvme_read(look, Some(clock::now() - started));
        let Verified { bytes, memory, table } = hit?;
        let written = dir.written_at(&at);
        Some(Hit { bytes, block_len: at.len, memory, table: Some(table), hits, written })
    }

    /// Draws the consequences of how a read ended.
    fn settle(&self, dir: &Dir, id: BlockId, at: Location, outcome: Outcome) -> (Look, Option<Verified>) {
        match outcome {
            Outcome::Hit(verified) => (Look::Hit, Some(verified)),
            Outcome::Gone => (Look::Miss, None),
            Outcome::Late => (Look::Late, None),
            Outcome::Corrupt => {
                // Of several who find it so at once, the scrubber among them, one drops it: a damaged block counts once.
                if self.index.remove_if(id, |now| *now == at) {
                    self.metrics.dropped_damaged();
                    tracing::debug!(dir = %dir.path.display(), segment = at.segment, start = at.start, "a block failed its checksum and is dropped");
                }
                (Look::Corrupt, None)
            }
            Outcome::Failed(error) => {
                // A directory that left service keeps its blocks for when it is back.
                if dir.works() {
                    self.index.remove_if(id, |now| *now == at);
                    tracing::warn!(dir = %dir.path.display(), %error, "a block could not be read from NVMe and is dropped");
                }
                (Look::Failed, None)
            }
        }
    }

    /// Writes the block to a directory in service and returns when it is there; its checksums are in `sums` from then on.
    pub(crate) async fn write(&self, key: &BlockKey, data: Bytes, sums: &Sums) -> Result<(), StoreError> {
        #[cfg(feature = "testing")]
        if let Some((disk, config)) = &self.fake {
            let table = disk.write(key, data, config).await;
            return table.map(|table| sums.set(&table)).ok_or_else(|| StoreError::NoDirectory { key: key.clone() });
        }
        let unstorable = |reason: &str| StoreError::Unstorable { key: key.clone(), reason: reason.to_owned() };
        if data.len() > MAX_BLOCK_BYTES as usize {
            return Err(unstorable("it is larger than a block may be"));
        }
        let name = key::encode(key).ok_or_else(|| unstorable("its name is too long"))?;
        let closed = self.mounts.iter().any(|mount| matches!(mount.dir.device.outage(), Some(Outage::Closed)));
        let key_of = key.clone();
        let mut error =
            if closed { StoreError::Closed { key: key_of } } else { StoreError::NoDirectory { key: key_of } };
        for mount in self.by_preference(key.id()) {
            match mount.write(key.id(), name.clone(), data.clone(), sums.clone()).await {
                Ok(()) => return Ok(()),
                Err(refusal) => error = mount.explain(refusal, key, data.len()),
            }
        }
        Err(error)
    }

    /// Directories in service, the block's favourite first: rendezvous hashing, in proportion to size, so that the loss of one
    /// directory moves only its own blocks.
    fn by_preference(&self, id: BlockId) -> Vec<&Mount> {
        let mut scored: Vec<_> =
            self.mounts.iter().filter(|mount| mount.dir.works()).map(|mount| (mount.score(id), mount)).collect();
        scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        scored.into_iter().map(|(_, mount)| mount).collect()
    }

    /// At most `max` blocks from `cursor` on, and where to go on.
    pub(crate) async fn scan(
        self: &Arc<NvmeTier>,
        cursor: Option<ScanCursor>,
        max: usize,
    ) -> (Vec<StoredBlock>, Option<ScanCursor>) {
        #[cfg(feature = "testing")]
        if let Some((disk, _)) = &self.fake {
            return disk.scan(cursor, max);
        }
        let tier = Arc::clone(self);
        task::blocking("store-scan", move || {
            let dirs = tier.mounts.iter().map(|mount| &*mount.dir);
            scan(dirs, &tier.index, &tier.reader.pool, cursor, max)
        })
        .await
    }

    /// What each directory holds.
    pub(crate) fn usage(&self) -> Vec<DirUsage> {
        let usage = |Mount { dir, .. }: &Mount| {
            let (used, blocks) = self.index.usage(dir.number);
            DirUsage {
                path: dir.path.clone(),
                used,
                limit: dir.limit(),
                blocks,
                evicted: dir.evicted(),
                works: dir.works(),
            }
        };
        self.mounts.iter().map(usage).collect()
    }

    /// Finishes what was accepted for writing and lets the directories go.
    pub(crate) async fn close(&self) {
        *self.scrubber.lock() = None;
        for mount in &self.mounts {
            *mount.tasks.lock() = None;
        }
        for mount in &self.mounts {
            // An error means the writer's thread is gone, which is what we wait for.
            let _ = mount.ended.clone().wait_for(|ended| *ended).await;
            *mount.keeper.lock() = None;
        }
    }
}

/// Claims and recovers the directories side by side.
async fn claim_all(
    config: &StoreConfig,
    index: &Arc<Index>,
    pool: &Pool,
) -> Result<Vec<(Claimed, Recovered)>, StoreError> {
    let mut claims = Vec::new();
    for dir in &config.dirs {
        let (dir, config) = (dir.clone(), config.clone());
        claims.push(task::blocking("store-open", move || Claimed::open(&dir, &config)).await?);
    }
    let recoveries = claims.into_iter().enumerate().map(|(number, claimed)| {
        let (index, pool) = (Arc::clone(index), pool.clone());
        task::spawn(
            "store-recover",
            task::blocking("store-recover", move || {
                let recovered = recover(&claimed, number as u16, &index, &pool);
                (claimed, recovered)
            }),
        )
    });
    let mut recovered = Vec::new();
    for recovery in recoveries.collect::<Vec<_>>() {
        recovered.push(recovery.await.map_err(|_| StoreError::Config("the runtime is shutting down".into()))?);
    }
    Ok(recovered)
}

/// Starts a directory's device and writer.
fn mount(
    number: u16,
    claimed: Claimed,
    recovered: Recovered,
    config: &StoreConfig,
    engine: Engine,
    wrap: &Option<Wrap>,
    shared: &Shared,
) -> Result<Mount, StoreError> {
    let path = claimed.config.path.clone();
    let care = Care { tick: config.tick(), probe: config.probe_every, probe_at: claimed.geometry.slab_bytes() };
    let file = claimed.slab.device_file().map_err(|source| StoreError::device(&path, source))?;
    let device = engine.start(file, "store-io").map_err(|source| StoreError::device(&path, source))?;
    let device = wrap.as_ref().map_or(Arc::clone(&device), |wrap| wrap(number.into(), device));
    let lock = claimed.lock.try_clone().map_err(|source| StoreError::device(&path, source))?;
    let device = Watched::new(device, path.clone(), lock, patience(config), shared.metrics.dir(number));
    let dir = Arc::new(Dir::new(number, &claimed, device.clone(), turns(config), Arc::clone(&shared.index)));
    let (tasks, waiting) = mpsc::channel(QUEUE_TASKS);
    let writer = Writer::new(Arc::clone(&dir), claimed.slab, recovered, waiting, shared.clone());
    let (end, ended) = watch::channel(false);
    task::thread("store-write", move || {
        writer.run();
        end.send_replace(true);
    });
    let (used, blocks) = shared.index.usage(number);
    let look = space_keeper(Arc::clone(&dir), tasks.downgrade());
    let keeper = Mutex::new(Some(Keeper::start(device, shared.pool.clone(), care, look)));
    tracing::info!(dir = %path.display(), blocks, used = %shoal_types::ByteSize(used), limit = %shoal_types::ByteSize(dir.limit()), ?engine, "cache directory is in service");
    Ok(Mount { dir, queue: Budget::new(config.write_queue), tasks: Mutex::new(Some(tasks)), ended, keeper })
}

/// Looks at the directory's file system, and tells the writer if its size should change.
fn space_keeper(dir: Arc<Dir>, tasks: mpsc::WeakSender<Task>) -> impl FnMut() + Send + 'static {
    move || match dir.look_at_space() {
        Ok(false) => {}
        Ok(true) => {
            if let Some(tasks) = tasks.upgrade() {
                // A full queue is told again at the next look.
                let _ = tasks.try_send(Task::Fit);
            }
        }
        Err(error) => {
            tracing::debug!(dir = %dir.path.display(), %error, "the file system does not tell its free space")
        }
    }
}

/// How many ticks transfers may take.
fn patience(config: &StoreConfig) -> Patience {
    let ticks = |time: Duration| time.as_nanos().div_ceil(config.tick().as_nanos()) as u64;
    Patience { read_ticks: ticks(config.read_patience), hang_ticks: ticks(config.hang_after) }
}

/// The bounds of one directory's reads.
fn turns(config: &StoreConfig) -> Turns {
    let share = config.read_memory / config.dirs.len().max(1) as u64;
    Turns {
        reads: Arc::new(Semaphore::new(config.read_depth as usize)),
        depth: config.read_depth as usize,
        memory: Budget::new(share.max(u64::from(MAX_BLOCK_BYTES))),
        patience: config.read_patience,
    }
}

impl Mount {
    /// How much the block likes this directory.
    fn score(&self, id: BlockId) -> f64 {
        let mut salted = [0u8; 32];
        salted[..16].copy_from_slice(&id.0);
        salted[16..].copy_from_slice(&self.dir.id.0);
        let (low, high) = salted.split_at(16);
        // Mixes id and directory; both are uniform already.
        let mix = |bytes: &[u8]| u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let hash = (mix(low) ^ mix(high)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        // In (0, 1): -size / ln(u) is the weighted rendezvous score.
        let unit = ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        -(self.dir.limit() as f64) / unit.ln()
    }

    async fn write(&self, id: BlockId, key: Vec<u8>, data: Bytes, sums: Sums) -> Result<(), Refusal> {
        let closed = || Refusal::Outage(self.dir.device.outage().unwrap_or(Outage::Closed));
        // A record's head counts too, or a million empty blocks would cost nothing.
        let permit = self.queue.acquire(data.len() as u64 + key.len() as u64 + 64).await;
        let Some(tasks) = self.tasks.lock().clone() else { return Err(closed()) };
        let (reply, answer) = oneshot::channel();
        tasks
            .send(Task::Write(Job { id, key, data, sums, written: unix_seconds(), reply, _permit: Some(permit) }))
            .await
            .map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn explain(&self, refusal: Refusal, key: &BlockKey, len: usize) -> StoreError {
        let key = key.clone();
        match refusal {
            Refusal::TooLarge(segment) => StoreError::BlockTooLarge { key, len, segment },
            Refusal::Outage(Outage::Closed) => StoreError::Closed { key },
            Refusal::Failed(error) | Refusal::Outage(Outage::Failed(error)) => {
                StoreError::device(&self.dir.path, copy(&error))
            }
        }
    }
}
