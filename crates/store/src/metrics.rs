//! What the store counts and times.

use std::time::Duration;

use shoal_runtime::metrics::{Counter, CounterVec, Gauge, GaugeVec, Histogram, LATENCY_BUCKETS, Registry};
use shoal_types::Tier;

/// How a look into one tier ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The tier had the bytes.
    Hit,
    /// The tier did not have the block, or lost it to eviction during the read.
    Miss,
    /// A checksum failed.
    Corrupt,
    /// The device failed.
    Failed,
}

impl Look {
    const ALL: [Look; 4] = [Look::Hit, Look::Miss, Look::Corrupt, Look::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Look::Hit => "hit",
            Look::Miss => "miss",
            Look::Corrupt => "corrupt",
            Look::Failed => "failed",
        }
    }
}

/// The store's metrics.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    ram_reads: [Counter; 4],
    nvme_reads: [Counter; 4],
    nvme_read_seconds: Histogram,
    write_seconds: Histogram,
    write_bytes: Counter,
    corrupt: Counter,
    evictions: Counter,
    dropped: Counter,
    used: GaugeVec,
    limit: GaugeVec,
    blocks: Gauge,
    dirs_in_service: Gauge,
}

impl StoreMetrics {
    /// The metrics in `registry`.
    pub(crate) fn register(registry: &Registry) -> StoreMetrics {
        let reads = registry.counters("shoal_store_reads_total", "Looks for a block in a tier.", &["tier", "outcome"]);
        StoreMetrics {
            ram_reads: by_outcome(&reads, Tier::Ram),
            nvme_reads: by_outcome(&reads, Tier::Nvme),
            nvme_read_seconds: registry.histogram(
                "shoal_store_nvme_read_seconds",
                "Time of NVMe reads from the request to verified bytes.",
                LATENCY_BUCKETS,
            ),
            write_seconds: registry.histogram(
                "shoal_store_nvme_write_seconds",
                "Time of NVMe writes, each of one or more blocks.",
                LATENCY_BUCKETS,
            ),
            write_bytes: registry
                .counter("shoal_store_nvme_written_bytes_total", "Bytes written to cache directories."),
            corrupt: registry.counter("shoal_store_corrupt_total", "Blocks dropped because a checksum failed."),
            evictions: registry.counter("shoal_store_evictions_total", "Blocks dropped from NVMe for space."),
            dropped: registry.counter("shoal_store_dropped_total", "Blocks that could not be written to NVMe."),
            used: registry.gauges("shoal_store_used_bytes", "Bytes of blocks in a tier.", &["tier"]),
            limit: registry.gauges("shoal_store_limit_bytes", "Most bytes a tier may take.", &["tier"]),
            blocks: registry.gauge("shoal_store_blocks", "Blocks in cache directories."),
            dirs_in_service: registry.gauge("shoal_store_dirs_in_service", "Cache directories that have not failed."),
        }
    }

    /// A look into RAM ended.
    pub(crate) fn ram_read(&self, look: Look) {
        self.ram_reads[look as usize].inc();
    }

    /// A look into NVMe ended after `took`; misses of the index, which take no time, are not timed.
    pub(crate) fn nvme_read(&self, look: Look, took: Option<Duration>) {
        self.nvme_reads[look as usize].inc();
        if look == Look::Corrupt {
            self.corrupt.inc();
        }
        if let Some(took) = took {
            self.nvme_read_seconds.observe_duration(took);
        }
    }

    /// A write of `bytes` succeeded after `took`.
    pub(crate) fn wrote(&self, bytes: usize, took: Duration) {
        self.write_seconds.observe_duration(took);
        self.write_bytes.add(bytes as u64);
    }

    /// `blocks` were dropped for space.
    pub(crate) fn evicted(&self, blocks: u64) {
        self.evictions.add(blocks);
    }

    /// A block could not be written.
    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    /// What one tier holds and may hold.
    pub(crate) fn tier_bytes(&self, tier: Tier, used: u64, limit: u64) {
        self.used.with(&[tier.as_str()]).set_u64(used);
        self.limit.with(&[tier.as_str()]).set_u64(limit);
    }

    /// How many blocks there are in how many directories.
    pub(crate) fn population(&self, blocks: u64, dirs_in_service: usize) {
        self.blocks.set_u64(blocks);
        self.dirs_in_service.set_u64(dirs_in_service as u64);
    }
}

fn by_outcome(reads: &CounterVec, tier: Tier) -> [Counter; 4] {
    Look::ALL.map(|look| reads.with(&[tier.as_str(), look.as_str()]))
}
