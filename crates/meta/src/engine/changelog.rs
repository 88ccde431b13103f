//! The metadata change log (spec section 20).

use async_trait::async_trait;

use crate::error::MetaError;

/// An entry of the change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedChange {
    /// Its number: later entries have higher ones.
    pub version: u64,
    /// What it says.
    pub entry: String,
}

/// Reads the change log, as [`Records`](crate::Records) reads other records.
#[async_trait]
pub trait ChangeLogRecords: Send + Sync {
    /// Up to `limit` entries with a version above `after`, in order.
    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<LoggedChange>, MetaError>;
    /// The version of the newest entry there is; 0 for an empty log.
    async fn newest_change(&self) -> Result<u64, MetaError>;
}

/// Writes the change log.
#[async_trait]
pub trait ChangeLogTxn: Send + Sync {
    /// Appends an entry.
    async fn append_change(&self, entry: &str) -> Result<(), MetaError>;
    /// Removes entries up to and with `version`.
    async fn remove_changes(&self, version: u64) -> Result<(), MetaError>;
}
