//! The store: RAM in front of cache directories.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{rng, task};
use shoal_types::{BlockKey, BlockRange, MAX_BLOCK_BYTES, NodeId, PageSums, PageTable, Tier};

use crate::config::{Admission, StoreConfig};
use crate::error::StoreError;
use crate::flight::Flying;
use crate::metrics::{Look, StoreMetrics};
use crate::nvme::rules::{GroupRule, RULES_MAX, unix_seconds};
use crate::nvme::scan::{ScanCursor, StoredBlock};
use crate::nvme::tier::{DirUsage, Hit, NvmeTier, Wrap};
use crate::ram::{RamTier, Resident};
use crate::sums::Sums;

/// A node's local tiers; clones share them. When the last clone is dropped, accepted writes are finished in the background.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    config: StoreConfig,
    id: NodeId,
    ram: Arc<RamTier>,
    nvme: Arc<NvmeTier>,
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
    /// Checksums of `bytes` by page, so that who sends them on need not hash them again. `None` while they are not known: for an empty range,
    /// and for a block that is on its way to a directory for the first time.
    pub sums: Option<PageSums>,
}

/// Why a block comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InsertHint {
    /// It was brought in by request, ahead of use: the admission policy does not apply.
    pub warm: bool,
}

/// What the store holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Bytes of blocks in RAM.
    pub ram_used: u64,
    /// The most bytes the RAM tier holds.
    pub ram_limit: u64,
    /// Bytes of live blocks in cache directories in service, their headers included.
    pub nvme_used: u64,
    /// The most bytes Shoal's files may take, of directories in service.
    pub nvme_limit: u64,
    /// Blocks in cache directories in service.
    pub blocks: u64,
    /// Blocks dropped for space since the store was opened.
    pub evictions: u64,
    /// Bytes of memory that the index over cache directories takes.
    pub index_bytes: u64,
    /// Each cache directory, in the order of the configuration.
    pub dirs: Vec<DirStats>,
}

/// What one cache directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirStats {
    /// The directory.
    pub path: PathBuf,
    /// Bytes of live blocks, their headers included; those of a failed directory wait for its return.
    pub used: u64,
    /// The most bytes Shoal's files in it may take.
    pub limit: u64,
    /// Live blocks.
    pub blocks: u64,
    /// False while it is failed.
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
        Store::open_changed(config, registry, wrap, |_| ()).await
    }

    /// [`Store::open_wrapped`], with a change of the directories' tier before anything is served.
    pub(crate) async fn open_changed(
        config: StoreConfig,
        registry: &Registry,
        wrap: Option<Wrap>,
        change: impl FnOnce(&mut NvmeTier),
    ) -> Result<Store, StoreError> {
        config.check()?;
        let metrics = Arc::new(StoreMetrics::register(registry));
        let ram = Arc::new(RamTier::new(config.memory));
        let in_ram = Arc::clone(&ram);
        let wanted = Arc::new(move |id| in_ram.contains(id));
        let mut nvme = NvmeTier::open(&config, Arc::clone(&metrics), wanted, wrap).await?;
        change(&mut nvme);
        let nvme = Arc::new(nvme);
        let id = nvme.id().unwrap_or_else(|| NodeId(rng::id16()));
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
        let since = shared.nvme.rules().stored_since(key);
        let Some(hit) = shared.nvme.read(key.id(), range, since).await else { return Ok(None) };
        let Hit { bytes, block_len, memory, table, hits, written } = hit;
        if bytes.len() == block_len as usize && shared.config.promotes(block_len, hits) {
            let sums = table.as_ref().map_or_else(Sums::default, |table| Sums::known(Arc::clone(table)));
            shared.ram.put(key.id(), Resident { bytes: bytes.clone(), sums, written }, memory);
        }
        let sums = table.map(|table| PageSums::new(table, range.clamp(block_len).start));
        Ok(Some(Found { bytes, block_len, tier: Tier::Nvme, sums }))
    }

    /// Bytes of `key` in `range` if RAM has the block; never blocks.
    pub fn read_ram(&self, key: &BlockKey, range: BlockRange) -> Option<Found> {
        let block = self.in_ram(key);
        self.shared.metrics.ram_read(if block.is_some() { Look::Hit } else { Look::Miss });
        let block = block?;
        let (bytes, sums) = block.cut(range);
        Some(Found { bytes, block_len: block.bytes.len() as u32, tier: Tier::Ram, sums })
    }

    /// The block in RAM, unless it is too old, in which case it is forgotten.
    fn in_ram(&self, key: &BlockKey) -> Option<Resident> {
        let shared = &*self.shared;
        let block = shared.ram.get(key.id())?;
        if block.written < shared.nvme.rules().stored_since(key) {
            shared.ram.remove(key.id());
            return None;
        }
        Some(block)
    }

    /// The nearest tier that has `key`; does not count as a use.
    pub fn contains(&self, key: &BlockKey) -> Option<Tier> {
        let shared = &*self.shared;
        let since = shared.nvme.rules().stored_since(key);
        if shared.ram.contains(key.id()) && (since == 0 || self.in_ram(key).is_some()) {
            Some(Tier::Ram)
        } else if shared.nvme.contains(key.id(), since) {
            Some(Tier::Nvme)
        } else {
            None
        }
    }

    /// `pieces` of a block to be stored, in one: without a copy if there is only one. A large block is put where [`Store::insert`] can have it
    /// written without copying it once more; a process without cache directories gets ordinary memory.
    pub fn gather(&self, pieces: &[Bytes]) -> Bytes {
        if let [only] = pieces {
            return only.clone();
        }
        match self.shared.nvme.memory_for(pieces.iter().map(Bytes::len).sum()) {
            Some(mut buf) => {
                let len = pieces.iter().fold(0, |at, piece| {
                    buf[at..at + piece.len()].copy_from_slice(piece);
                    at + piece.len()
                });
                Bytes::from_owner(buf).slice(..len)
            }
            None => pieces.concat().into(),
        }
    }

    /// [`Store::insert_with`] for a block that somebody asked for.
    pub async fn insert(&self, key: &BlockKey, stored: Bytes) -> Result<(), StoreError> {
        self.insert_with(key, stored, InsertHint::default()).await
    }

    /// Stores the block `stored` under `key`: in RAM at once, and returns when a cache directory has it, or when the admission policy
    /// keeps it out of a full one.
    ///
    /// A block that a directory has already is not written again; one that somebody else is inserting is waited for. Waits while the
    /// write queue is full. Errors: `NoSpace` (block larger than a segment, file system full), `Unavailable` (no directory in
    /// service), `Invalid` (larger than a block may be), `Cancelled` (closing); the copy in RAM stays. Cancel-safe: a block that is
    /// queued is written all the same.
    pub async fn insert_with(&self, key: &BlockKey, stored: Bytes, hint: InsertHint) -> Result<(), StoreError> {
        let shared = &*self.shared;
        if shared.nvme.is_empty() {
            self.insert_ram(key, stored);
            return Ok(());
        }
        let sums = Sums::default();
        self.put_in_ram(key, &stored, || sums.clone());
        loop {
            let since = shared.nvme.rules().stored_since(key);
            if shared.nvme.contains(key.id(), since) {
                return Ok(());
            }
            if let Ok(_lead) = shared.flying.lead(key.id()).await {
                if !self.admits(key, stored.len(), hint) {
                    shared.metrics.turned_away();
                    return Ok(());
                }
                let result = shared.nvme.write(key, stored, &sums).await;
                return result.inspect_err(|_| shared.metrics.dropped());
            }
        }
    }

    /// Keeps the block `stored` under `key` in RAM only: for a copy that somebody else keeps on NVMe. Never blocks; a block larger than
    /// a block may be is not kept.
    pub fn insert_ram(&self, key: &BlockKey, stored: Bytes) {
        // Nobody else will hash it on the way to a device.
        let page_bytes = self.shared.config.page_bytes;
        self.put_in_ram(key, &stored, || Sums::known(Arc::new(PageTable::of(&stored, page_bytes))));
    }

    fn put_in_ram(&self, key: &BlockKey, stored: &Bytes, sums: impl FnOnce() -> Sums) {
        let ram = &self.shared.ram;
        if ram.limit() > 0 && stored.len() <= MAX_BLOCK_BYTES as usize && !ram.contains(key.id()) {
            let resident = Resident { bytes: stored.clone(), sums: sums(), written: unix_seconds() };
            ram.put(key.id(), resident, stored.len());
        }
    }

    /// Whether the block may be written to a cache directory.
    fn admits(&self, key: &BlockKey, len: usize, hint: InsertHint) -> bool {
        let shared = &*self.shared;
        match shared.config.admission {
            Admission::All => true,
            Admission::SecondMiss => hint.warm || shared.nvme.rules().pins(key) || shared.nvme.admits(key.id(), len),
        }
    }

    /// Puts `rules` in force in place of those before, at most 256, and keeps them in every cache directory for the next start.
    ///
    /// A block follows the rule of its origin with the longest prefix of its object's key. Pins hold when segments are evicted, for blocks
    /// stored before as well, as long as pinned blocks take at most half of a directory; beyond, they are evicted and counted. Ages hold at
    /// once, to the second where blocks come fast and rather too early where they do not; a block whose time of storage is not
    /// known is too old. Errors: `Invalid` (too many); `NoSpace`, `Unavailable` (a directory could not keep them; they are in force all the same).
    pub async fn set_rules(&self, rules: Vec<GroupRule>) -> Result<(), StoreError> {
        if rules.len() > RULES_MAX {
            return Err(StoreError::Config(format!("{} rules are more than {RULES_MAX}", rules.len())));
        }
        let nvme = Arc::clone(&self.shared.nvme);
        task::blocking("store-rules", move || {
            let kept = nvme.rules().set(rules, nvme.paths());
            kept.map_err(|(source, path)| StoreError::RulesNotKept { path: path.to_owned(), source })
        })
        .await
    }

    /// The rules in force, the longest prefix first.
    pub fn rules(&self) -> Vec<GroupRule> {
        self.shared.nvme.rules().current().list().to_vec()
    }

    /// At most `max` (at least 1) blocks that the cache directories hold, from `cursor` on (`None`: from the start), and where to go
    /// on; no cursor is the end.
    ///
    /// In the order they lie on the devices. A block that comes, goes or moves meanwhile may be missed or listed twice. Reads record
    /// heads: about 4 KiB for each large block, everything where blocks are small. Directories out of service and parts that cannot
    /// be read are left out. Never fails today. Dropping the future leaves one step of reading behind.
    pub async fn scan(
        &self,
        cursor: Option<ScanCursor>,
        max: usize,
    ) -> Result<(Vec<StoredBlock>, Option<ScanCursor>), StoreError> {
        Ok(self.shared.nvme.scan(cursor, max.max(1)).await)
    }

    /// What the store holds now.
    pub fn stats(&self) -> StoreStats {
        let shared = &*self.shared;
        let mut stats = StoreStats {
            ram_used: shared.ram.used(),
            ram_limit: shared.ram.limit(),
            index_bytes: shared.nvme.index_memory(),
            ..StoreStats::default()
        };
        for DirUsage { path, used, limit, blocks, evicted, works } in shared.nvme.usage() {
            if works {
                stats.nvme_used += used;
                stats.nvme_limit += limit;
                stats.blocks += blocks;
            }
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
        let dirs_in_service = stats.dirs.iter().filter(|dir| dir.in_service).count();
        metrics.population(stats.blocks, stats.index_bytes, dirs_in_service);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("id", &self.shared.id).field("stats", &self.stats()).finish()
    }
}
