//! Counters of the file layer.

use shoal_runtime::metrics::{Counter, Registry};

/// Metrics of one `Vfs`.
pub(crate) struct VfsMetrics {
    /// Bytes handed to readers of files, holes included.
    pub read_bytes: Counter,
    /// Bytes of those that no block holds.
    pub hole_bytes: Counter,
    /// Blocks asked for ahead of a sequential reader.
    pub readahead_blocks: Counter,
    /// Slice lists read again because an object had gone.
    pub stale_chunks: Counter,
}

impl VfsMetrics {
    pub(crate) fn register(registry: &Registry) -> VfsMetrics {
        VfsMetrics {
            read_bytes: registry
                .counter("shoal_vfs_read_bytes_total", "Bytes handed to readers of files, holes included"),
            hole_bytes: registry.counter("shoal_vfs_hole_bytes_total", "Bytes handed to readers that no block holds"),
            readahead_blocks: registry
                .counter("shoal_vfs_readahead_blocks_total", "Blocks asked for ahead of a sequential reader"),
            stale_chunks: registry
                .counter("shoal_vfs_stale_chunks_total", "Slice lists read again because an object had gone"),
        }
    }
}
