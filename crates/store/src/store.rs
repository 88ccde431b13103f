//! The store: RAM in front of cache directories.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_runtime::rng;
use shoal_types::{BlockKey, BlockRange, MAX_BLOCK_BYTES, NodeId, Tier};

use crate::config::StoreConfig;
use crate::error::StoreError;
use crate::flight::Flying;
use crate::metrics::{Look, StoreMetrics};
use crate::nvme::tier::{DirUsage, Hit, NvmeTier, Wrap};
use crate::ram::{RamTier, cut};

/// A node's local tiers; clones share them. When the last clone is dropped, accepted writes are finished in the background.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    config: StoreConfig,
    id: NodeId,
    ram: RamTier,
    nvme: NvmeTier,
    flying: Flying,
    metrics: Arc<StoreMetrics>,
}

/// Bytes of a block that the store had.
#[derive(Debug, Clone)]
pub struct Found {
    /// Exactly the asked range, clamped to the block.
    pub bytes: Bytes,
    /// Bytes in the whole block.
    pub block_len: u32,
    /// Where they were.
    pub tier: Tier,
}

/// What the store holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes of blocks in RAM.
    pub ram_used: u64,
    /// The most bytes the RAM tier holds.
    pub ram_limit: u64,
    /// Bytes of live blocks in cache directories, their headers included.
    pub nvme_used: u64,
    /// The most bytes Shoal's files may take, of directories in service.
    pub nvme_limit: u64,
    /// Blocks in cache directories.
    pub blocks: u64,
    /// Blocks dropped for space since the store was opened.
    pub evictions: u64,
    /// Each cache directory, in the order of the configuration.
    pub dirs: Vec<DirStats>,
}

/// What one cache directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirStats {
    /// The directory.
    pub path: PathBuf,
    /// Bytes of live blocks, their headers included.
    pub used: u64,
    /// The most bytes Shoal's files in it may take.
    pub limit: u64,
    /// Live blocks.
    pub blocks: u64,
    /// False once it failed.
    pub in_service: bool,
}

impl Store {
    /// Opens the store: checks, locks and recovers every directory.
    ///
    /// Errors, each a sentence about one directory: `NotFound`, `Invalid`, `Denied`, `NoSpace`, `Conflict` (in use by another
    /// process), `Unavailable` (io_uring was demanded and is refused).
    pub async fn open(config: StoreConfig, registry: &Registry) -> Result<Store, StoreError> {
        Store::open_wrapped(config, registry, None).await
    }

    pub(crate) async fn open_wrapped(
        config: StoreConfig,
        registry: &Registry,
        wrap: Option<Wrap>,
    ) -> Result<Store, StoreError> {
        config.check()?;
        let metrics = Arc::new(StoreMetrics::register(registry));
        let nvme = NvmeTier::open(&config, Arc::clone(&metrics), wrap).await?;
        let id = nvme.id().unwrap_or_else(|| NodeId(rng::id16()));
        let ram = RamTier::new(config.memory);
        let shared = Arc::new(Shared { config, id, ram, nvme, flying: Flying::default(), metrics });
        let weak = Arc::downgrade(&shared);
        registry.on_scrape(move || {
            if let Some(shared) = weak.upgrade() {
                Store { shared }.export();
            }
        });
        Ok(Store { shared })
    }

    /// Identity of the node whose directories these are: kept in the first of them; without directories, for this life only.
    pub fn node_id(&self) -> NodeId {
        self.shared.id
    }

    /// Verified bytes of `key` in `range`, from RAM, else from a cache directory; `None` is a miss.
    ///
    /// A damaged or unreadable block is forgotten, counted, and a miss. Costs one I/O, two at once for the first small read of a
    /// large block. Cancel-safe. Never fails today: the error is for tiers to come.
    pub async fn read(&self, key: &BlockKey, range: BlockRange) -> Result<Option<Found>, StoreError> {
        if let Some(found) = self.read_ram(key, range) {
            return Ok(Some(found));
        }
        let shared = &*self.shared;
        let Some(hit) = shared.nvme.read(key.id(), range).await else { return Ok(None) };
        let Hit { bytes, block_len, memory, hits } = hit;
        if bytes.len() == block_len as usize && shared.config.promotes(block_len, hits) {
            shared.ram.put(key.id(), bytes.clone(), memory);
        }
        Ok(Some(Found { bytes, block_len, tier: Tier::Nvme }))
    }

    /// Bytes of `key` in `range` if RAM has the block; never blocks.
    pub fn read_ram(&self, key: &BlockKey, range: BlockRange) -> Option<Found> {
        let block = self.shared.ram.get(key.id());
        self.shared.metrics.ram_read(if block.is_some() { Look::Hit } else { Look::Miss });
        let block = block?;
        Some(Found { bytes: cut(&block, range), block_len: block.len() as u32, tier: Tier::Ram })
    }

    /// The nearest tier that has `key`; does not count as a use.
    pub fn contains(&self, key: &BlockKey) -> Option<Tier> {
        if self.shared.ram.contains(key.id()) {
            Some(Tier::Ram)
        } else if self.shared.nvme.contains(key.id()) {
            Some(Tier::Nvme)
        } else {
            None
        }
    }

    /// Stores the block `stored` under `key`: in RAM at once, and returns when a cache directory has it.
    ///
    /// A block that a directory has already is not written again; one that somebody else is inserting is waited for. Waits while the
    /// write queue is full. Errors: `NoSpace` (block larger than a segment, file system full), `Unavailable` (no directory in
    /// service), `Invalid` (larger than a block may be), `Cancelled` (closing); the copy in RAM stays. Cancel-safe: a block that is
    /// queued is written all the same.
    pub async fn insert(&self, key: &BlockKey, stored: Bytes) -> Result<(), StoreError> {
        let shared = &*self.shared;
        if !shared.ram.contains(key.id()) && stored.len() <= MAX_BLOCK_BYTES as usize {
            shared.ram.put(key.id(), stored.clone(), stored.len());
        }
        if shared.nvme.is_empty() {
            return Ok(());
        }
        loop {
            if shared.nvme.contains(key.id()) {
                return Ok(());
            }
            if let Ok(_lead) = shared.flying.lead(key.id()).await {
                let result = shared.nvme.write(key, stored).await;
                return result.inspect_err(|_| shared.metrics.dropped());
            }
        }
    }

    /// What the store holds now.
    pub fn stats(&self) -> StoreStats {
        let shared = &*self.shared;
        let mut stats =
            StoreStats { ram_used: shared.ram.used(), ram_limit: shared.ram.limit(), ..StoreStats::default() };
        for DirUsage { path, used, limit, blocks, evicted, works } in shared.nvme.usage() {
            stats.nvme_used += used;
            stats.nvme_limit += if works { limit } else { 0 };
            stats.blocks += blocks;
            stats.evictions += evicted;
            stats.dirs.push(DirStats { path, used, limit, blocks, in_service: works });
        }
        stats
    }

    /// Finishes accepted writes and lets the directories go, so that another process may open them. Reads are misses from then on,
    /// except from RAM; inserts fail with `Cancelled`.
    pub async fn close(&self) {
        self.shared.nvme.close().await;
    }

    fn export(&self) {
        let stats = self.stats();
        let metrics = &self.shared.metrics;
        metrics.tier_bytes(Tier::Ram, stats.ram_used, stats.ram_limit);
        metrics.tier_bytes(Tier::Nvme, stats.nvme_used, stats.nvme_limit);
        metrics.population(stats.blocks, stats.dirs.iter().filter(|dir| dir.in_service).count());
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("id", &self.shared.id).field("stats", &self.stats()).finish()
    }
}
