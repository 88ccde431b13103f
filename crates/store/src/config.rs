//! What a store is made with: sizes, directories and bounds, each with the reason for its default.

use std::path::PathBuf;

use shoal_types::ByteSize;

use crate::error::StoreError;

/// Everything a [`crate::Store`] needs to know. `..StoreConfig::default()` fills what a caller does not care about.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Bytes of blocks kept in RAM; 0 turns the RAM tier off. Default 256 MiB.
    pub memory: u64,
    /// Cache directories, one for each device; none means RAM only.
    pub dirs: Vec<DirConfig>,
    /// Which way of doing file I/O to use.
    pub io: IoChoice,
    /// Reads in flight at once for each directory, 1..=1024. Default 128: raw 4 KiB reads gained 15 % from 32 to 128.
    pub read_depth: u32,
    /// Bytes of buffers that reads in flight may hold, all directories together. Default 256 MiB: 64 blocks of 4 MiB.
    pub read_memory: u64,
    /// Bytes of blocks that wait to be written, for each directory; more inserts wait their turn. Default 64 MiB.
    pub write_queue: u64,
    /// Bytes of page checksums of large blocks kept at hand, so that a small read of a large block is one I/O. Default
    /// 64 MiB: 1 KiB for each 4 MiB block, that is 65 thousand blocks or 256 GiB.
    pub table_memory: u64,
    /// Bytes of idle I/O buffers kept for the next use. Default 256 MiB, what reads in flight may hold; with 64 MiB, reads of 4 MiB at
    /// depth 32 mapped and zeroed memory anew (0.20-0.23 ms of CPU each, 0.17-0.19 with 256 MiB, on a busy machine).
    pub pool_memory: u64,
    /// A block of at most this many bytes goes to RAM when it was read whole from NVMe once. Default 128 KiB.
    pub promote_bytes: u32,
    /// A larger block goes to RAM when it is read whole from NVMe for the n-th time; 0 is never. Default 2.
    pub promote_hits: u8,
    /// Bytes in a page, the unit a checksum covers: a power of two, 4 KiB..=1 MiB. Default 16 KiB (see `nvme::layout`).
    pub page_bytes: u32,
    /// Bytes in a segment, a multiple of 4 KiB, at least 64 KiB; `None` derives it from the directory's size. Used only when a
    /// directory is made.
    pub segment_bytes: Option<u64>,
}

impl Default for StoreConfig {
    fn default() -> StoreConfig {
        StoreConfig {
            memory: 256 << 20,
            dirs: Vec::new(),
            io: IoChoice::Auto,
            read_depth: 128,
            read_memory: 256 << 20,
            write_queue: 64 << 20,
            table_memory: 64 << 20,
            pool_memory: 256 << 20,
            promote_bytes: 128 << 10,
            promote_hits: 2,
            page_bytes: 16 << 10,
            segment_bytes: None,
        }
    }
}

impl StoreConfig {
    /// Refuses values that cannot work, with a sentence.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let refuse = |sentence: String| Err(StoreError::Config(sentence));
        if !(1..=1024).contains(&self.read_depth) {
            return refuse(format!("read depth {} is not in 1..=1024", self.read_depth));
        }
        if !self.page_bytes.is_power_of_two() || !(4 << 10..=1 << 20).contains(&self.page_bytes) {
            return refuse(format!("page size {} is not a power of two in 4K..=1M", ByteSize(self.page_bytes.into())));
        }
        if self.dirs.len() > DIRS_MAX {
            return refuse(format!("{} cache directories are more than {DIRS_MAX}", self.dirs.len()));
        }
        for (n, dir) in self.dirs.iter().enumerate() {
            if self.dirs[..n].iter().any(|other| other.path == dir.path) {
                return refuse(format!("cache directory {} is configured twice", dir.path.display()));
            }
        }
        Ok(())
    }

    /// Whether a block read whole from NVMe for the `hits`-th time goes to RAM.
    pub(crate) fn promotes(&self, block_len: u32, hits: u8) -> bool {
        block_len <= self.promote_bytes || (self.promote_hits > 0 && hits >= self.promote_hits)
    }
}

/// Most cache directories of a node.
const DIRS_MAX: usize = 256;

/// One cache directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirConfig {
    /// An existing directory that the process may write; it is used by one process at a time.
    pub path: PathBuf,
    /// Bytes that Shoal's files in it may take, all of them together; at least [`MIN_DIR_BYTES`].
    pub bytes: u64,
}

/// Least size of a cache directory: four segments that each hold at least a small block.
pub const MIN_DIR_BYTES: u64 = 1 << 20;

/// How file I/O is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else plain reads and writes, with a warning.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// `pread` and `pwrite` on a few threads.
    Plain,
}
