//! How full the volume is.

use super::settings::settings;
use crate::engine::Records;
use crate::error::MetaError;
use crate::record::Counter;

/// Use and limits of a volume. Counters of other clients arrive a second late and may drift after a crash (spec section 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// Accounted bytes, trash included.
    pub used_bytes: u64,
    /// Inodes, trash included.
    pub used_inodes: u64,
    /// Most bytes, 0 for no limit.
    pub capacity: u64,
    /// Most inodes, 0 for no limit.
    pub inodes: u64,
}

pub(crate) async fn statfs(records: &dyn Records, at: &str) -> Result<StatFs, MetaError> {
    let settings = settings(records, at).await?;
    let used = |value: i64| u64::try_from(value).unwrap_or(0);
    Ok(StatFs {
        used_bytes: used(records.counter(Counter::UsedSpace).await?),
        used_inodes: used(records.counter(Counter::TotalInodes).await?),
        capacity: settings.capacity,
        inodes: settings.inodes,
    })
}
