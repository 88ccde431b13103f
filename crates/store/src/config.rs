//! What a store is made with: sizes, directories and bounds, each with the reason for its default.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Bytes of buffers that reads in flight may hold, shared evenly by the directories, so that a disk which hangs holds no more than
    /// its share. Default 256 MiB: 64 blocks of 4 MiB.
    pub read_memory: u64,
    /// A read from a directory that takes longer is given up and a miss. Default 2 s: an origin answers sooner.
    pub read_patience: Duration,
    /// A directory with a transfer older than this hangs: it is out of service, alone, until it answers again. Default 10 s, beyond
    /// what a loaded disk takes and below the timeouts of those who wait for an insert.
    pub hang_after: Duration,
    /// Time until a directory out of service is probed for the first time; doubles up to twelve times this. Default 5 s.
    pub probe_every: Duration,
    /// Bytes of blocks that wait to be written, for each directory; more inserts wait their turn. Default 64 MiB.
    pub write_queue: u64,
    /// Bytes of page checksums of large blocks kept at hand, so that a small read of a large block is one I/O. Default
    /// 64 MiB: some 4 KiB for each 4 MiB block, that is 16 thousand blocks or 60 GiB.
    pub table_memory: u64,
    /// Bytes of idle I/O buffers kept for the next use. Default 256 MiB, what reads in flight may hold; with 64 MiB, reads of 4 MiB at
    /// depth 32 mapped and zeroed memory anew (0.20-0.23 ms of CPU each, 0.17-0.19 with 256 MiB, on a busy machine).
    pub pool_memory: u64,
    /// A block of at most this many bytes goes to RAM when it was read whole from NVMe once. Default 128 KiB.
    pub promote_bytes: u32,
    /// A larger block goes to RAM when it is read whole from NVMe for the n-th time, 31 at most; 0 is never. Default 2.
    pub promote_hits: u8,
    /// Bytes in a page, the unit a checksum covers: a power of two, 4 KiB..=1 MiB. Default 4 KiB (see `nvme::layout`).
    /// Used only when a directory is made.
    pub page_bytes: u32,
    /// Bytes a second that are read to find damaged blocks before somebody asks for them, all directories together, while nothing else is
    /// with the device; 0 turns that off. Default 8 MiB: a TiB in a day and a half, well below what any device gives.
    pub scrub_rate: u64,
    /// Which blocks are let into a full NVMe tier. Default [`Admission::SecondMiss`].
    pub admission: Admission,
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
            read_patience: Duration::from_secs(2),
            hang_after: Duration::from_secs(10),
            probe_every: Duration::from_secs(5),
            write_queue: 64 << 20,
            table_memory: 64 << 20,
            pool_memory: 256 << 20,
            promote_bytes: 128 << 10,
            promote_hits: 2,
            page_bytes: 4 << 10,
            scrub_rate: 8 << 20,
            admission: Admission::SecondMiss,
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
        for (name, time) in [
            ("read patience", self.read_patience),
            ("hang limit", self.hang_after),
            ("time between probes", self.probe_every),
        ] {
            if !(Duration::from_millis(20)..=Duration::from_secs(3600)).contains(&time) {
                return refuse(format!("{name} {time:?} is not in 20ms..=1h"));
            }
        }
        if self.promote_hits > HITS_MAX {
            return refuse(format!("blocks cannot go to RAM at read {}: {HITS_MAX} are counted", self.promote_hits));
        }
        if self.dirs.len() > DIRS_MAX {
            return refuse(format!("{} cache directories are more than {DIRS_MAX}", self.dirs.len()));
        }
        for (n, dir) in self.dirs.iter().enumerate() {
            if !(0.0..=0.9).contains(&dir.free_ratio) {
                return refuse(format!("free ratio {} of {} is not in 0..=0.9", dir.free_ratio, dir.path.display()));
            }
            if self.dirs[..n].iter().any(|other| other.path == dir.path) {
                return refuse(format!("cache directory {} is configured twice", dir.path.display()));
            }
        }
        Ok(())
    }

    /// How often the directories' devices are looked at: four times in the shortest patience.
    pub(crate) fn tick(&self) -> Duration {
        self.read_patience.min(self.hang_after).min(self.probe_every).div_f64(4.0).max(Duration::from_millis(1))
    }

    /// Whether a block read whole from NVMe for the `hits`-th time goes to RAM.
    pub(crate) fn promotes(&self, block_len: u32, hits: u8) -> bool {
        block_len <= self.promote_bytes || (self.promote_hits > 0 && hits >= self.promote_hits)
    }
}

/// Most reads of a block that are counted: the index has five bits for them.
pub(crate) const HITS_MAX: u8 = 31;

/// Most cache directories of a node.
const DIRS_MAX: usize = 256;

/// One cache directory.
#[derive(Debug, Clone, PartialEq)]
pub struct DirConfig {
    /// An existing directory that the process may write; it is used by one process at a time.
    pub path: PathBuf,
    /// Bytes that Shoal's files in it may take, all of them together; at least [`MIN_DIR_BYTES`].
    pub bytes: u64,
    /// The share of the file system that stays free, 0..=0.9: Shoal takes less than `bytes` if need be, and gives space back while others fill
    /// the file system. 0 reserves all of `bytes` at once and keeps it.
    pub free_ratio: f64,
}

impl DirConfig {
    /// A directory that leaves a tenth of its file system free, which is JuiceFS's default too.
    pub fn new(path: impl Into<PathBuf>, bytes: u64) -> DirConfig {
        DirConfig { path: path.into(), bytes, free_ratio: 0.1 }
    }
}

/// Least size of a cache directory: four segments that each hold at least a small block.
pub const MIN_DIR_BYTES: u64 = 1 << 20;

/// Which blocks are let into an NVMe tier that has to evict others for them. Warm-ups and pinned blocks always are, and so is
/// everything while there is room.
///
/// The default was chosen by traces (`cargo run --release -p shoal-store --example policy`): beside a scan of three times the cache a
/// working set keeps its hits (59 % before, 61 % meanwhile; without admission 57 % and 44 %); of a data set of 1.5 times the cache more than
/// half is served in every epoch (without: a third if shuffled, nothing if in order); and a fifth to a third as much is written. Its price: of a
/// new data set in a full cache the second epoch comes from the origin as well; a warm-up spares both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// Every block.
    All,
    /// Blocks that are asked for again before as many bytes as the cache holds were turned away.
    #[default]
    SecondMiss,
}

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
