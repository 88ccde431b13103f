//! Counters of staged blocks.

use shoal_runtime::metrics::{Counter, Gauge, Registry};

/// Metrics of one staging directory.
#[derive(Debug)]
pub(crate) struct StageMetrics {
    blocks: Gauge,
    bytes: Gauge,
    staged: Counter,
    declined: Counter,
    stored: Counter,
    retries: Counter,
}

impl StageMetrics {
    pub(crate) fn register(registry: &Registry) -> StageMetrics {
        StageMetrics {
            blocks: registry.gauge("shoal_stage_blocks", "Blocks on this host's disk that are still to be stored"),
            bytes: registry.gauge("shoal_stage_bytes", "Their bytes"),
            staged: registry.counter("shoal_stage_staged_blocks_total", "Blocks taken in to be stored later"),
            declined: registry.counter(
                "shoal_stage_declined_blocks_total",
                "Blocks not taken in, because the disk is full, busy or failing: they were stored at once",
            ),
            stored: registry.counter("shoal_stage_stored_blocks_total", "Staged blocks that were stored"),
            retries: registry.counter(
                "shoal_stage_retries_total",
                "Attempts to store a staged block that failed and are made again",
            ),
        }
    }

    /// What is staged now.
    pub(crate) fn holds(&self, (blocks, bytes): (usize, u64)) {
        self.blocks.set_u64(blocks as u64);
        self.bytes.set_u64(bytes);
    }

    pub(crate) fn staged(&self) {
        self.staged.add(1);
    }

    pub(crate) fn declined(&self) {
        self.declined.add(1);
    }

    pub(crate) fn stored(&self) {
        self.stored.add(1);
    }

    pub(crate) fn retried(&self) {
        self.retries.add(1);
    }
}
