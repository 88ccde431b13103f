//! Quotas of directories, users and groups (spec sections 16.3 and 16.4).

use async_trait::async_trait;

use crate::error::MetaError;
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::DirUsage;

/// Reads quotas, as [`Records`](crate::Records) reads other records.
#[async_trait]
pub trait QuotaRecords: Send + Sync {
    /// Every quota of a kind, by key. Users and groups have one, without limits, once they were seen to own anything.
    async fn quotas(&self, kind: QuotaKind) -> Result<Vec<Quota>, MetaError>;
    /// One quota.
    async fn quota(&self, key: QuotaKey) -> Result<Option<Quota>, MetaError>;
}

/// Writes quotas. Those of directories are removed through [`RemovalTxn`](crate::RemovalTxn).
#[async_trait]
pub trait QuotaTxn: Send + Sync {
    /// Adds to the use of quotas. A user or group without one gets one without limits; a directory without one is passed over.
    async fn add_quota_usage(&self, usage: &[(QuotaKey, DirUsage)]) -> Result<(), MetaError>;
    /// Writes quotas, limits and use, whether there are any or not.
    async fn put_quotas(&self, quotas: &[Quota]) -> Result<(), MetaError>;
}
