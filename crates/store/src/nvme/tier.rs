//! All cache directories together: opened side by side, blocks spread over them by size, one index over all.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_runtime::budget::Budget;
use shoal_runtime::{clock, task};
use shoal_types::{BlockId, BlockKey, BlockRange, MAX_BLOCK_BYTES, NodeId};
use tokio::sync::{mpsc, oneshot, watch};

use super::dir::{Claimed, Dir, Outage};
use super::index::{Index, Location};
use super::key;
use super::read::{Outcome, Reader};
use super::recover::{Recovered, recover};
use super::table::Tables;
use super::write::{Job, QUEUE_JOBS, Refusal, Shared, Writer};
use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::io::buffer::Pool;
use crate::io::device::Device;
use crate::io::engine::Engine;
use crate::metrics::{Look, StoreMetrics};

/// Puts something between the engine and the device: the fault device of tests.
///
/// Told the number of the directory, in the order of the configuration.
pub(crate) type Wrap = Arc<dyn Fn(usize, Arc<dyn Device>) -> Arc<dyn Device> + Send + Sync>;

/// The NVMe tier of a node.
pub(crate) struct NvmeTier {
    mounts: Vec<Mount>,
    index: Arc<Index>,
    reader: Reader,
    metrics: Arc<StoreMetrics>,
}

/// A directory, and the way to its writer.
struct Mount {
    dir: Arc<Dir>,
    queue: Budget,
    /// `None` once the tier is closing.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// True when the writer has ended.
    ended: watch::Receiver<bool>,
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
    /// How often the block was read from here, this time included.
    pub(crate) hits: u8,
}

impl NvmeTier {
    /// Opens every directory of `config`; one that cannot be used is an error, before any is written to.
    pub(crate) async fn open(
        config: &StoreConfig,
        metrics: Arc<StoreMetrics>,
        wrap: Option<Wrap>,
    ) -> Result<NvmeTier, StoreError> {
        let index = Arc::new(Index::new(config.dirs.len()));
        let pool = Pool::new(config.pool_memory);
        let tables = Arc::new(Tables::new(config.table_memory));
        let budget = Budget::new(config.read_memory);
        let shared = Shared { index: Arc::clone(&index), tables: Arc::clone(&tables), pool: pool.clone(), metrics };
        let mut mounts = Vec::new();
        if !config.dirs.is_empty() {
            let engine = Engine::choose(config.io).map_err(|source| StoreError::NoUring { source })?;
            for (claimed, recovered) in claim_all(config, &index, &pool).await? {
                mounts.push(mount(mounts.len() as u16, claimed, recovered, config, engine, &wrap, &shared)?);
            }
        }
        let reader = Reader { pool, tables, budget };
        Ok(NvmeTier { mounts, index, reader, metrics: shared.metrics })
    }

    /// Whether there are directories at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// The first directory's id.
    pub(crate) fn id(&self) -> Option<NodeId> {
        self.mounts.first().map(|mount| mount.dir.id)
    }

    /// Whether the block is in a directory.
    pub(crate) fn contains(&self, id: BlockId) -> bool {
        self.index.contains(id)
    }

    /// Verified bytes of the block; `None` if it is not here or no longer intact, in which case it is forgotten.
    pub(crate) async fn read(&self, id: BlockId, range: BlockRange) -> Option<Hit> {
        let Some((at, hits)) = self.index.hit(id) else {
            self.metrics.nvme_read(Look::Miss, None);
            return None;
        };
        let range = range.clamp(at.len);
        let dir = &*self.mounts[usize::from(at.dir)].dir;
        let started = clock::now();
        let outcome =
            if range.is_empty() { Outcome::Hit(Bytes::new(), 0) } else { self.reader.read(dir, id, at, range).await };
        let (look, hit) = self.settle(dir, id, at, outcome);
        self.metrics.nvme_read(look, Some(clock::now() - started));
        hit.map(|(bytes, memory)| Hit { bytes, block_len: at.len, memory, hits })
    }

    /// Draws the consequences of how a read ended.
    fn settle(&self, dir: &Dir, id: BlockId, at: Location, outcome: Outcome) -> (Look, Option<(Bytes, usize)>) {
        match outcome {
            Outcome::Hit(bytes, memory) => (Look::Hit, Some((bytes, memory))),
            Outcome::Gone => (Look::Miss, None),
            Outcome::Corrupt => {
                self.index.remove_if(id, |now| *now == at);
                tracing::debug!(dir = %dir.path.display(), segment = at.segment, start = at.start, "a block failed its checksum and is dropped");
                (Look::Corrupt, None)
            }
            Outcome::Failed(error) => {
                self.index.remove_if(id, |now| *now == at);
                dir.read_failed(error);
                (Look::Failed, None)
            }
        }
    }

    /// Writes the block to a directory in service and returns when it is there.
    pub(crate) async fn write(&self, key: &BlockKey, data: Bytes) -> Result<(), StoreError> {
        let unstorable = |reason: &str| StoreError::Unstorable { key: key.clone(), reason: reason.to_owned() };
        if data.len() > MAX_BLOCK_BYTES as usize {
            return Err(unstorable("it is larger than a block may be"));
        }
        let name = key::encode(key).ok_or_else(|| unstorable("its name is too long"))?;
        let closed = self.mounts.iter().any(|mount| matches!(mount.dir.outage(), Some(Outage::Closed)));
        let key_of = key.clone();
        let mut error =
            if closed { StoreError::Closed { key: key_of } } else { StoreError::NoDirectory { key: key_of } };
        for mount in self.by_preference(key.id()) {
            match mount.write(key.id(), name.clone(), data.clone()).await {
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

    /// What each directory holds.
    pub(crate) fn usage(&self) -> Vec<DirUsage> {
        let usage = |Mount { dir, .. }: &Mount| {
            let (used, blocks) = self.index.usage(dir.number);
            DirUsage {
                path: dir.path.clone(),
                used,
                limit: dir.limit,
                blocks,
                evicted: dir.evicted(),
                works: dir.works(),
            }
        };
        self.mounts.iter().map(usage).collect()
    }

    /// Finishes what was accepted for writing and lets the directories go.
    pub(crate) async fn close(&self) {
        for mount in &self.mounts {
            *mount.jobs.lock() = None;
        }
        for mount in &self.mounts {
            // An error means the writer's thread is gone, which is what we wait for.
            let _ = mount.ended.clone().wait_for(|ended| *ended).await;
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
    let file = claimed.slab.device_file().map_err(|source| StoreError::device(&path, source))?;
    let device = engine.start(file, "store-io").map_err(|source| StoreError::device(&path, source))?;
    let device = wrap.as_ref().map_or(Arc::clone(&device), |wrap| wrap(number.into(), device));
    let dir = Arc::new(Dir::new(number, claimed, device, config.read_depth, Arc::clone(&shared.index)));
    let (jobs, waiting) = mpsc::channel(QUEUE_JOBS);
    let writer = Writer::new(Arc::clone(&dir), recovered, waiting, shared.clone());
    let (end, ended) = watch::channel(false);
    task::thread("store-write", move || {
        writer.run();
        end.send_replace(true);
    });
    let (used, blocks) = shared.index.usage(number);
    tracing::info!(dir = %path.display(), blocks, used = %shoal_types::ByteSize(used), limit = %shoal_types::ByteSize(dir.limit), ?engine, "cache directory is in service");
    Ok(Mount { dir, queue: Budget::new(config.write_queue), jobs: Mutex::new(Some(jobs)), ended })
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
        -(self.dir.limit as f64) / unit.ln()
    }

    async fn write(&self, id: BlockId, key: Vec<u8>, data: Bytes) -> Result<(), Refusal> {
        let closed = || Refusal::Outage(self.dir.outage().unwrap_or(Outage::Closed));
        // A record's head counts too, or a million empty blocks would cost nothing.
        let permit = self.queue.acquire(data.len() as u64 + key.len() as u64 + 64).await;
        let Some(jobs) = self.jobs.lock().clone() else { return Err(closed()) };
        let (reply, answer) = oneshot::channel();
        jobs.send(Job { id, key, data, reply, _permit: permit }).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn explain(&self, refusal: Refusal, key: &BlockKey, len: usize) -> StoreError {
        let key = key.clone();
        match refusal {
            Refusal::TooLarge(segment) => StoreError::BlockTooLarge { key, len, segment },
            Refusal::Outage(Outage::Closed) => StoreError::Closed { key },
            Refusal::Outage(Outage::Failed(error)) => {
                // An `io::Error` cannot be cloned: its number or its text is what matters.
                let copy = error.raw_os_error().map_or_else(
                    || std::io::Error::new(error.kind(), error.to_string()),
                    std::io::Error::from_raw_os_error,
                );
                StoreError::device(&self.dir.path, copy)
            }
        }
    }
}
