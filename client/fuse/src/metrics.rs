//! Counters of the FUSE edge.

use std::time::Duration;

use shoal_runtime::metrics::{Counter, CounterVec, Gauge, Histogram, HistogramVec, LATENCY_BUCKETS, Registry};
use shoal_types::ErrorKind;

/// Metrics of one mount.
pub(crate) struct FuseMetrics {
    /// Bytes handed to the kernel for reads.
    pub read_bytes: Counter,
    /// Reads answered on the FUSE thread, from RAM.
    pub reads_inline: Counter,
    /// Reads that had to wait for a tier.
    pub reads_waited: Counter,
    /// Duration of the reads that waited, in seconds.
    pub read_seconds: Histogram,
    /// Bytes taken in from the kernel for writes.
    pub write_bytes: Counter,
    /// Open handles.
    pub handles: Gauge,
    errors: CounterVec,
    ops: HistogramVec,
}

impl FuseMetrics {
    pub(crate) fn register(registry: &Registry) -> FuseMetrics {
        let reads = registry.counters("shoal_fuse_reads_total", "Reads by how they were answered", &["path"]);
        FuseMetrics {
            read_bytes: registry
                .counter("shoal_fuse_read_bytes_total", "Bytes handed to the kernel for reads of files"),
            reads_inline: reads.with(&["inline"]),
            reads_waited: reads.with(&["waited"]),
            read_seconds: registry.histogram(
                "shoal_fuse_read_duration_seconds",
                "Duration of reads that waited for a tier",
                LATENCY_BUCKETS,
            ),
            write_bytes: registry
                .counter("shoal_fuse_write_bytes_total", "Bytes taken in from the kernel for writes of files"),
            handles: registry.gauge("shoal_fuse_open_handles", "Open file and directory handles"),
            ops: registry.histograms(
                "shoal_fuse_op_duration_seconds",
                "Duration of requests of the kernel, by kind; reads and writes answered at once are left out",
                &["op"],
                LATENCY_BUCKETS,
            ),
            errors: registry.counters("shoal_fuse_errors_total", "Failed operations by kind", &["kind"]),
        }
    }

    /// A request was answered by a task.
    pub(crate) fn op(&self, name: &str, took: Duration) {
        self.ops.with(&[name]).observe(took.as_secs_f64());
    }

    pub(crate) fn error(&self, kind: ErrorKind) {
        self.errors.with(&[kind.as_str()]).add(1);
    }
}
