//! Writes of counters and statistics of directories (spec sections 12 and 16).

use async_trait::async_trait;
use shoal_format::Ino;

use crate::error::MetaError;
use crate::record::{Counter, DirUsage};

/// When a change of use is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounting {
    /// In the transaction that made it: exact. For databases where writers wait for each other anyway.
    InTransaction,
    /// Summed up by the client and written about once a second and at its end, as real clients do: one hot row would make
    /// all writers wait for each other. A crash loses what was not written; checks of the volume repair that.
    Batched,
}

/// Writes counters and use.
#[async_trait]
pub trait AccountingTxn: Send + Sync {
    /// Adds to a counter.
    async fn add_counter(&self, counter: Counter, delta: i64) -> Result<(), MetaError>;
    /// Replaces directories' use.
    async fn put_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError>;
    /// Makes every directory's use unknown.
    async fn forget_dir_usage(&self) -> Result<(), MetaError>;
    /// Adds to directories' use where it is known; returns those where it is not.
    async fn add_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<Vec<Ino>, MetaError>;
}
