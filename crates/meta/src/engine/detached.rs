//! Records of trees that are built before they have a name: a clone of a directory (spec section 19).

use async_trait::async_trait;
use shoal_format::Ino;

use crate::error::MetaError;

/// Reads records of detached trees, as [`Records`](crate::Records) reads the others.
#[async_trait]
pub trait DetachedRecords: Send + Sync {
    /// Up to `limit` tops of trees that were begun before `before` (seconds since 1970), oldest first.
    async fn detached_before(&self, before: i64, limit: usize) -> Result<Vec<Ino>, MetaError>;
}

/// Writes records of detached trees.
#[async_trait]
pub trait DetachedTxn: Send + Sync {
    /// Says that the tree below `ino` is begun at `at` (seconds since 1970): should its maker die, others find it.
    async fn insert_detached(&self, ino: Ino, at: i64) -> Result<(), MetaError>;
    /// Says that the tree has its name, or is gone. False if it is not recorded.
    async fn remove_detached(&self, ino: Ino) -> Result<bool, MetaError>;
}
