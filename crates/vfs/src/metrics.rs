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
    /// Bytes taken in from writers of files.
    pub write_bytes: Counter,
    /// Blocks stored in the object store.
    pub blocks_stored: Counter,
    /// Attempts to store a block that failed and were made again.
    pub upload_retries: Counter,
    /// Slices recorded in the volume.
    pub slices_committed: Counter,
    /// Chunks whose records became fewer.
    pub chunks_compacted: Counter,
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
            write_bytes: registry.counter("shoal_vfs_write_bytes_total", "Bytes taken in from writers of files"),
            blocks_stored: registry
                .counter("shoal_vfs_stored_blocks_total", "Blocks of written files stored in the object store"),
            upload_retries: registry
                .counter("shoal_vfs_upload_retries_total", "Attempts to store a block that failed and were made again"),
            chunks_compacted: registry
                .counter("shoal_vfs_compacted_chunks_total", "Chunks of files whose records became fewer"),
            slices_committed: registry
                .counter("shoal_vfs_committed_slices_total", "Slices of written files recorded in the volume"),
        }
    }
}
