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
    /// The device did not answer in time.
    Late,
}

impl Look {
    const ALL: [Look; 5] = [Look::Hit, Look::Miss, Look::Corrupt, Look::Failed, Look::Late];

    const fn as_str(self) -> &'static str {
        match self {
            Look::Hit => "hit",
            Look::Miss => "miss",
            Look::Corrupt => "corrupt",
            Look::Failed => "failed",
            Look::Late => "late",
        }
    }
}

/// The store's metrics.
#[derive(Debug)]
pub(crate) struct StoreMetrics {
    ram_reads: [Counter; 5],
    nvme_reads: [Counter; 5],
    nvme_read_seconds: Histogram,
    write_seconds: Histogram,
    write_bytes: Counter,
    corrupt: Counter,
    evictions: Counter,
    segments: Counter,
    carried: Counter,
    carried_bytes: Counter,
    pins_refused: Counter,
    turned_away: Counter,
    scrubbed: Counter,
    scrub_found: Counter,
    scrub_passes: Counter,
    dropped: Counter,
    used: GaugeVec,
    limit: GaugeVec,
    blocks: Gauge,
    index_bytes: Gauge,
    dirs_in_service: Gauge,
    dir_in_service: GaugeVec,
    dir_transitions: CounterVec,
}

/// The metrics of one directory; its label is its number in the order of the configuration.
#[derive(Debug)]
pub(crate) struct DirMetrics {
    in_service: Gauge,
    left: Counter,
    returned: Counter,
}

impl DirMetrics {
    /// Whether the directory is in service now.
    pub(crate) fn in_service(&self, works: bool) {
        self.in_service.set(works.into());
    }

    /// The directory failed.
    pub(crate) fn left(&self) {
        self.left.inc();
    }

    /// The directory is back.
    pub(crate) fn returned(&self) {
        self.returned.inc();
    }
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
            segments: registry.counter(
                "shoal_store_segments_total",
                "Segments of cache directories begun to be written; times their size, what wears the device.",
            ),
            carried: registry.counter(
                "shoal_store_carried_total",
                "Blocks in use or pinned that were written again because their segment was evicted.",
            ),
            carried_bytes: registry.counter("shoal_store_carried_bytes_total", "Bytes of these blocks."),
            pins_refused: registry.counter(
                "shoal_store_pins_refused_total",
                "Pinned blocks evicted because pinned blocks take half of the cache directory already.",
            ),
            scrubbed: registry
                .counter("shoal_store_scrubbed_bytes_total", "Bytes read to find damage before somebody asks."),
            scrub_found: registry.counter(
                "shoal_store_scrub_corrupt_total",
                "Blocks dropped because scrubbing found them damaged or unreadable.",
            ),
            scrub_passes: registry.counter("shoal_store_scrub_passes_total", "Times that all blocks were scrubbed."),
            turned_away: registry.counter(
                "shoal_store_turned_away_total",
                "Blocks kept out of a full NVMe tier because they were asked for the first time.",
            ),
            dropped: registry.counter("shoal_store_dropped_total", "Blocks that could not be written to NVMe."),
            used: registry.gauges("shoal_store_used_bytes", "Bytes of blocks in a tier.", &["tier"]),
            limit: registry.gauges("shoal_store_limit_bytes", "Most bytes a tier may take.", &["tier"]),
            blocks: registry.gauge("shoal_store_blocks", "Blocks in cache directories."),
            index_bytes: registry
                .gauge("shoal_store_index_bytes", "Bytes of memory of the index over cache directories."),
            dir_in_service: registry.gauges(
                "shoal_store_dir_in_service",
                "Whether a cache directory is in service (1) or failed (0), by its number in the configuration.",
                &["dir"],
            ),
            dir_transitions: registry.counters(
                "shoal_store_dir_transitions_total",
                "Times a cache directory left service (out) and came back (in).",
                &["dir", "to"],
            ),
            dirs_in_service: registry.gauge("shoal_store_dirs_in_service", "Cache directories that have not failed."),
        }
    }

    /// The metrics of directory `number`.
    pub(crate) fn dir(&self, number: u16) -> DirMetrics {
        let number = number.to_string();
        DirMetrics {
            in_service: self.dir_in_service.with(&[&number]),
            left: self.dir_transitions.with(&[&number, "out"]),
            returned: self.dir_transitions.with(&[&number, "in"]),
        }
    }

    /// A look into RAM ended.
    pub(crate) fn ram_read(&self, look: Look) {
        self.ram_reads[look as usize].inc();
    }

    /// A look into NVMe ended after `took`; misses of the index, which take no time, are not timed.
    pub(crate) fn nvme_read(&self, look: Look, took: Option<Duration>) {
        self.nvme_reads[look as usize].inc();
        if let Some(took) = took {
            self.nvme_read_seconds.observe_duration(took);
        }
    }

    /// A block was dropped because a read found it damaged.
    pub(crate) fn dropped_damaged(&self) {
        self.corrupt.inc();
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

    /// A segment is written from its start.
    pub(crate) fn segment_begun(&self) {
        self.segments.inc();
    }

    /// A block of `bytes` was carried forward.
    pub(crate) fn carried(&self, bytes: usize) {
        self.carried.inc();
        self.carried_bytes.add(bytes as u64);
    }

    /// `blocks` that are pinned were evicted all the same.
    pub(crate) fn pins_refused(&self, blocks: u64) {
        self.pins_refused.add(blocks);
    }

    /// Scrubbing read `bytes`.
    pub(crate) fn scrubbed(&self, bytes: u32) {
        self.scrubbed.add(bytes.into());
    }

    /// Scrubbing dropped a block.
    pub(crate) fn scrub_found(&self) {
        self.scrub_found.inc();
    }

    /// Scrubbing has seen all blocks.
    pub(crate) fn scrubbed_all(&self) {
        self.scrub_passes.inc();
    }

    /// A block was not let in.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
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

    /// How many blocks there are in how many directories, and what their index takes.
    pub(crate) fn population(&self, blocks: u64, index_bytes: u64, dirs_in_service: usize) {
        self.blocks.set_u64(blocks);
        self.index_bytes.set_u64(index_bytes);
        self.dirs_in_service.set_u64(dirs_in_service as u64);
    }
}

fn by_outcome(reads: &CounterVec, tier: Tier) -> [Counter; 5] {
    Look::ALL.map(|look| reads.with(&[tier.as_str(), look.as_str()]))
}
