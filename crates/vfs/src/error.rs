//! What can go wrong between a file and its bytes.

use shoal_cache::CacheError;
use shoal_format::Ino;
use shoal_meta::MetaError;
use shoal_types::ErrorKind;

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
pub enum VfsError {
    /// The metadata engine failed or refused.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A block could not be had from any tier.
    #[error("file {ino} at byte {offset} cannot be read")]
    Read {
        /// The file.
        ino: Ino,
        /// First byte of the read.
        offset: u64,
        /// Why its block could not be had.
        #[source]
        source: CacheError,
    },
    /// No file or directory has this inode number.
    #[error("inode {ino} does not exist")]
    NoInode {
        /// The number asked for.
        ino: Ino,
    },
    /// The operation wants a regular file.
    #[error("inode {ino} is not a regular file")]
    NotAFile {
        /// The inode.
        ino: Ino,
    },
    /// A slice record of the file reaches outside its slice or chunk.
    #[error("chunk {index} of file {ino} has a damaged slice list; run `juicefs fsck` on the volume")]
    DamagedChunk {
        /// The file.
        ino: Ino,
        /// Chunk number, 64 MiB each.
        index: u32,
    },
}

impl VfsError {
    /// What the caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            VfsError::Meta(error) => error.kind(),
            VfsError::Read { source, .. } => source.kind(),
            VfsError::NoInode { .. } => ErrorKind::NotFound,
            VfsError::NotAFile { .. } => ErrorKind::Invalid,
            VfsError::DamagedChunk { .. } => ErrorKind::Corrupt,
        }
    }
}
