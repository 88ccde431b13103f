//! What can go wrong in the store, and what a caller may do about it.

use std::io;
use std::path::{Path, PathBuf};

use shoal_types::{BlockKey, ByteSize, ErrorKind};

/// Opening the store, or writing a block to it, failed. Failed reads are misses, not errors.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A value of the configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// A configured directory does not exist.
    #[error("cache directory {path} does not exist: create it or correct the path", path = path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// A configured directory is something else.
    #[error("cache directory {path} is not a directory", path = path.display())]
    NotADirectory {
        /// What was configured.
        path: PathBuf,
    },
    /// The process may not write a configured directory.
    #[error("cache directory {path} cannot be written: {source}", path = path.display())]
    NotWritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process has the directory open.
    #[error("cache directory {path} is in use by another process: give each node a directory of its own", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file system is too small for the configured size.
    #[error(
        "cache directory {path} has {free} free, {asked} were asked: lower the size or free space",
        path = path.display()
    )]
    DirTooLarge {
        /// The directory.
        path: PathBuf,
        /// What Shoal could have there.
        free: ByteSize,
        /// What was configured.
        asked: ByteSize,
    },
    /// The directory holds a cache this version cannot use.
    #[error("cache directory {path} cannot be used: {reason}", path = path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// io_uring was demanded and the kernel refuses it.
    #[error("io_uring is not available: {source}; choose plain I/O or let the store choose")]
    NoUring {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A device failed; its directory is out of service.
    #[error("cache directory {path} failed: {source}", path = path.display())]
    Device {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Rules for groups of blocks could not be kept in a directory; they are in force until the store is closed.
    #[error("the rules are in force and could not be kept in cache directory {path}: {source}", path = path.display())]
    RulesNotKept {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Every directory is out of service.
    #[error("block {key} was not written to NVMe: no cache directory is in service")]
    NoDirectory {
        /// The block.
        key: BlockKey,
    },
    /// The block is larger than a block may be, or its name is.
    #[error("block {key} cannot be stored: {reason}")]
    Unstorable {
        /// The block.
        key: BlockKey,
        /// Which bound it breaks.
        reason: String,
    },
    /// The block does not fit in a segment of any directory in service.
    #[error("block {key} of {len} bytes does not fit in a segment of {segment} bytes: enlarge the cache directory")]
    BlockTooLarge {
        /// The block.
        key: BlockKey,
        /// Its length.
        len: usize,
        /// The most a segment holds.
        segment: u64,
    },
    /// The store was closed while the block waited.
    #[error("block {key} was not written to NVMe: the store is closing")]
    Closed {
        /// The block.
        key: BlockKey,
    },
}

impl StoreError {
    /// What a caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Config(_) | StoreError::NotADirectory { .. } => ErrorKind::Invalid,
            StoreError::Foreign { .. } | StoreError::Unstorable { .. } => ErrorKind::Invalid,
            StoreError::Missing { .. } => ErrorKind::NotFound,
            StoreError::NotWritable { .. } => ErrorKind::Denied,
            StoreError::InUse { .. } => ErrorKind::Conflict,
            StoreError::DirTooLarge { .. } | StoreError::BlockTooLarge { .. } => ErrorKind::NoSpace,
            StoreError::NoUring { .. } | StoreError::NoDirectory { .. } => ErrorKind::Unavailable,
            StoreError::Device { source, .. } | StoreError::RulesNotKept { source, .. } => {
                match ErrorKind::of_io(source) {
                    ErrorKind::NoSpace => ErrorKind::NoSpace,
                    _ => ErrorKind::Unavailable,
                }
            }
            StoreError::Closed { .. } => ErrorKind::Cancelled,
        }
    }

    pub(crate) fn device(path: &Path, source: io::Error) -> StoreError {
        StoreError::Device { path: path.to_owned(), source }
    }
}
