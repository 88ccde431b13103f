//! Why a block could not be had.

use std::sync::Arc;
use std::time::Duration;

use shoal_format::FormatError;
use shoal_object::ObjectError;
use shoal_store::StoreError;
use shoal_types::{BlockKey, ErrorKind, MAX_BLOCK_BYTES, OriginId};

/// Reading or warming a block failed. Cheap to clone: everyone who waited for one fetch gets the same error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CacheError {
    /// This node neither holds the block nor is among its owners; the reader goes to the next place.
    #[error("this node is no owner of block {key} and does not hold it")]
    NotOwner {
        /// The block asked for.
        key: BlockKey,
    },
    /// The block belongs to an origin this process was not told about.
    #[error("block {key} comes from origin {origin}, which is not configured here")]
    NoOrigin {
        /// The block asked for.
        key: BlockKey,
        /// Its origin.
        origin: OriginId,
    },
    /// The object store failed.
    #[error("reading block {key} from the object store failed: {source}")]
    Origin {
        /// The block asked for.
        key: BlockKey,
        /// What the object store said.
        source: Arc<ObjectError>,
    },
    /// The object is larger than any block.
    #[error("object of block {key} has {len} bytes; a block has at most {max}", max = MAX_BLOCK_BYTES)]
    TooLarge {
        /// The block asked for.
        key: BlockKey,
        /// Bytes of the object.
        len: u64,
    },
    /// The object's length is not the one the block must have.
    #[error("block {key} has {got} bytes where {want} were expected")]
    Length {
        /// The block asked for.
        key: BlockKey,
        /// Bytes expected.
        want: u64,
        /// Bytes found.
        got: u64,
    },
    /// The stored bytes do not decode: damaged, or written with another key.
    #[error("block {key} does not decode: {source}")]
    Decode {
        /// The block asked for.
        key: BlockKey,
        /// What the codec said.
        source: Arc<FormatError>,
    },
    /// Nothing came within the time allowed.
    #[error("block {key} did not arrive within {waited:?}")]
    Timeout {
        /// The block asked for.
        key: BlockKey,
        /// The time allowed: up to the deadline, or without progress.
        waited: Duration,
    },
    /// The node's own tiers could not keep the block.
    #[error("storing block {key} failed: {source}")]
    Store {
        /// The block that was to be stored.
        key: BlockKey,
        /// What the store said.
        source: Arc<StoreError>,
    },
    /// Too many blocks wait to be fetched for one more that is less urgent.
    #[error("too many blocks wait to be fetched here; block {key} may be asked for again in {retry:?}")]
    Busy {
        /// The block asked for.
        key: BlockKey,
        /// When asking again makes sense.
        retry: Duration,
    },
    /// A peer took back the bytes it had given.
    #[error("a peer gave a part of block {key} and then found it damaged")]
    Retracted {
        /// The block asked for.
        key: BlockKey,
    },
    /// The object store answered a request for a part and did not say how long the object is.
    #[error("the object store does not say how long block {key} is")]
    Untold {
        /// The block asked for.
        key: BlockKey,
    },
    /// Warming needs a ring and there is none.
    #[error("no cache node is known; warming needs a ring")]
    NoNodes,
    /// The task that fetched the block ended without a result: it panicked, or the process is stopping.
    #[error("the fetch of block {key} ended without a result")]
    Abandoned {
        /// The block asked for.
        key: BlockKey,
    },
}

impl CacheError {
    /// What the caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            CacheError::NotOwner { .. }
            | CacheError::NoOrigin { .. }
            | CacheError::NoNodes
            | CacheError::Untold { .. }
            | CacheError::Busy { .. } => ErrorKind::Unavailable,
            CacheError::Origin { source, .. } => source.kind(),
            CacheError::TooLarge { .. } => ErrorKind::Invalid,
            CacheError::Length { .. } | CacheError::Decode { .. } | CacheError::Retracted { .. } => ErrorKind::Corrupt,
            CacheError::Timeout { .. } => ErrorKind::Timeout,
            CacheError::Store { source, .. } => source.kind(),
            CacheError::Abandoned { .. } => ErrorKind::Internal,
        }
    }
}
