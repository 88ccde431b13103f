//! Records of locks (spec section 17).

use async_trait::async_trait;
use shoal_format::{Ino, LockMode, RangeLock};

use crate::error::MetaError;

/// Who holds a lock: a client, and one of the owners that it tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockHolder {
    /// The client's session.
    pub sid: u64,
    /// The owner; any 64 bits.
    pub owner: u64,
}

/// Reads records of locks, as [`Records`](crate::Records) reads the others.
#[async_trait]
pub trait LockRecords: Send + Sync {
    /// Locks of a whole file (flock(2)), by holder.
    async fn flocks(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError>;
    /// Locks of ranges (fcntl(2)), by holder.
    async fn plocks(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError>;
}

/// Writes records of locks. [`SessionTxn::delete_session`](crate::SessionTxn::delete_session) removes those of a client.
#[async_trait]
pub trait LockTxn: Send + Sync {
    /// [`LockRecords::flocks`], which nobody else changes before this transaction ends; nor does anybody add the first one. Of a
    /// file that has attributes.
    async fn flocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError>;
    /// [`LockRecords::plocks`], likewise.
    async fn plocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError>;
    /// Sets a holder's lock of the whole file, or removes it.
    async fn put_flock(&self, ino: Ino, holder: LockHolder, mode: Option<LockMode>) -> Result<(), MetaError>;
    /// Replaces a holder's locks of ranges; none removes the record.
    async fn put_plocks(&self, ino: Ino, holder: LockHolder, locks: &[RangeLock]) -> Result<(), MetaError>;
}
