//! How full the volume is.

use shoal_format::Settings;

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
    let space = records.counter(Counter::UsedSpace).await?;
    Ok(StatFs::of(&settings, space, records.counter(Counter::TotalInodes).await?))
}

impl StatFs {
    /// A volume with these settings, and with as many bytes and inodes as its counters say.
    pub(crate) fn of(settings: &Settings, used_space: i64, used_inodes: i64) -> StatFs {
        let used = |value: i64| u64::try_from(value).unwrap_or(0);
        StatFs {
            used_bytes: used(used_space),
            used_inodes: used(used_inodes),
            capacity: settings.capacity,
            inodes: settings.inodes,
        }
    }
}
