//! What can go wrong between a file and its bytes.

use shoal_cache::CacheError;
use shoal_format::Ino;
use shoal_meta::{MetaError, Refusal};
use shoal_object::ObjectError;
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
    /// Bytes that were written could not be stored or recorded; they are lost.
    #[error("bytes written to file {ino} are lost: {detail}")]
    Write {
        /// The file.
        ino: Ino,
        /// What a caller may do about it.
        kind: ErrorKind,
        /// Which rule of the volume forbade it, if one did.
        refusal: Option<Refusal>,
        /// What happened.
        detail: String,
    },
    /// The object store cannot promise that what was put into it outlives a loss of power.
    #[error("what was written may not outlive a loss of power")]
    Unsynced(#[from] ObjectError),
    /// A write would make the file longer than a file can be.
    #[error("file {ino} cannot be that long")]
    TooLarge {
        /// The file.
        ino: Ino,
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
            VfsError::Write { kind, .. } => *kind,
            VfsError::Unsynced(error) => error.kind(),
            VfsError::NoInode { .. } => ErrorKind::NotFound,
            VfsError::NotAFile { .. } | VfsError::TooLarge { .. } => ErrorKind::Invalid,
            VfsError::DamagedChunk { .. } => ErrorKind::Corrupt,
        }
    }

    /// True if a name that must be new exists.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, VfsError::Meta(MetaError::Exists { .. }))
    }
}
