//! Accounting of a change: limits are kept, then use is written (spec sections 12 and 16).

use std::collections::BTreeMap;

use shoal_format::Settings;

use super::usage::{add_dir_usage, with_ancestors};
use crate::effects::Effects;
use crate::engine::{Records, Txn};
use crate::error::{MetaError, Refusal};
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::{Counter, DirUsage};

/// Use and limits as last read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) used_space: i64,
    pub(crate) used_inodes: i64,
    /// Of directories every quota, of users and groups those that limit anything.
    pub(crate) quotas: BTreeMap<QuotaKey, Quota>,
}

impl Limits {
    /// Everything that matters with these settings, read afresh.
    pub(crate) async fn load(records: &dyn Records, settings: &Settings) -> Result<Limits, MetaError> {
        let mut limits = Limits::of_volume(records, settings).await?;
        // Not only for limits: it is what the client knows of the volume's use.
        limits.used_space = records.counter(Counter::UsedSpace).await?;
        limits.used_inodes = records.counter(Counter::TotalInodes).await?;
        if settings.user_group_quota {
            for kind in [QuotaKind::User, QuotaKind::Group] {
                let limited = records.quotas(kind).await?.into_iter().filter(Quota::is_limited);
                limits.quotas.extend(limited.map(|quota| (quota.key, quota)));
            }
        }
        Ok(limits)
    }

    /// The same without the users and groups that these effects do not charge more.
    pub(crate) async fn load_for(
        records: &dyn Records,
        settings: &Settings,
        effects: &Effects,
    ) -> Result<Limits, MetaError> {
        let mut limits = Limits::of_volume(records, settings).await?;
        if settings.user_group_quota && effects.grows() {
            for (owner, more) in &effects.owners {
                if more.space > 0 || more.inodes > 0 {
                    let quota = records.quota(*owner).await?;
                    limits.quotas.extend(quota.map(|quota| (*owner, quota)));
                }
            }
        }
        Ok(limits)
    }

    async fn of_volume(records: &dyn Records, settings: &Settings) -> Result<Limits, MetaError> {
        let mut limits = Limits::default();
        if settings.capacity > 0 || settings.inodes > 0 {
            limits.used_space = records.counter(Counter::UsedSpace).await?;
            limits.used_inodes = records.counter(Counter::TotalInodes).await?;
        }
        if settings.dir_stats {
            let quotas = records.quotas(QuotaKind::Dir).await?;
            limits.quotas = quotas.into_iter().map(|quota| (quota.key, quota)).collect();
        }
        Ok(limits)
    }

    /// Takes a settled change in.
    pub(crate) fn add(&mut self, effects: &Effects) {
        self.used_space += effects.space;
        self.used_inodes += effects.inodes;
        for (key, charge) in &effects.quotas {
            if let Some(quota) = self.quotas.get_mut(key) {
                quota.used_space += charge.space;
                quota.used_inodes += charge.inodes;
            }
        }
    }

    fn has_dirs(&self) -> bool {
        // Directories come first in the order of keys.
        matches!(self.quotas.first_key_value(), Some((QuotaKey::Dir(_), _)))
    }
}

/// Works out which quotas `effects` charge. `NoSpace` where it would exceed the volume's limits or a quota; what shrinks, or only
/// changes its owner, is never refused, as with real clients.
pub(crate) async fn settle(
    records: &dyn Records,
    settings: &Settings,
    limits: &Limits,
    effects: &mut Effects,
) -> Result<(), MetaError> {
    check_volume(settings, limits, effects)?;
    let mut charges: BTreeMap<QuotaKey, DirUsage> = BTreeMap::new();
    let owners = std::mem::take(&mut effects.owners);
    if settings.user_group_quota {
        charges.extend(owners);
    }
    if settings.dir_stats && limits.has_dirs() {
        for (dir, usage) in effects.dirs.iter().chain(&effects.trees) {
            for key in with_ancestors(records, *dir).await?.into_iter().map(QuotaKey::Dir) {
                if limits.quotas.contains_key(&key) {
                    charges.entry(key).or_default().add(*usage);
                }
            }
        }
    }
    charges.retain(|_, charge| charge.space != 0 || charge.inodes != 0);
    for (key, charge) in &charges {
        let checked = key.kind() == QuotaKind::Dir || effects.grows();
        if let Some(quota) = limits.quotas.get(key).filter(|_| checked) {
            check_quota(quota, *charge)?;
        }
    }
    effects.quotas = charges;
    Ok(())
}

/// Writes settled effects.
pub(crate) async fn write_effects(txn: &dyn Txn, settings: &Settings, effects: &Effects) -> Result<(), MetaError> {
    for (counter, delta) in [(Counter::UsedSpace, effects.space), (Counter::TotalInodes, effects.inodes)] {
        if delta != 0 {
            txn.add_counter(counter, delta).await?;
        }
    }
    if settings.dir_stats {
        let changed = effects.dirs.iter().filter(|(_, usage)| **usage != DirUsage::default());
        let dirs: Vec<_> = changed.map(|(dir, usage)| (*dir, *usage)).collect();
        add_dir_usage(txn, &dirs).await?;
    }
    let charged = effects.quotas.iter().filter(|(_, charge)| **charge != DirUsage::default());
    let quotas: Vec<_> = charged.map(|(key, charge)| (*key, *charge)).collect();
    txn.add_quota_usage(&quotas).await
}

fn check_volume(settings: &Settings, limits: &Limits, effects: &Effects) -> Result<(), MetaError> {
    let exceeded = |limit: u64, used: i64, more: i64| {
        limit > 0 && more > 0 && i128::from(used) + i128::from(more) > i128::from(limit)
    };
    let volume = &settings.name;
    if exceeded(settings.capacity, limits.used_space, effects.space) {
        let limit = settings.capacity;
        return Err(MetaError::NoSpace { what: format!("volume `{volume}` holds at most {limit} bytes") });
    }
    if exceeded(settings.inodes, limits.used_inodes, effects.inodes) {
        let limit = settings.inodes;
        return Err(MetaError::NoSpace { what: format!("volume `{volume}` holds at most {limit} inodes") });
    }
    Ok(())
}

fn check_quota(quota: &Quota, charge: DirUsage) -> Result<(), MetaError> {
    let exceeded = |limit: i64, used: i64, more: i64| limit > 0 && more > 0 && used.saturating_add(more) > limit;
    let refuse = |limit: i64, unit: &str| {
        let what = match quota.key {
            QuotaKey::Dir(_) => format!("the quota of {limit} {unit} on {} is exceeded", quota.key),
            QuotaKey::User(_) | QuotaKey::Group(_) => {
                format!("the quota of {limit} {unit} of {} is exceeded", quota.key)
            }
        };
        Err(MetaError::Refused { why: Refusal::Quota, what })
    };
    if exceeded(quota.max_space, quota.used_space, charge.space) {
        return refuse(quota.max_space, "bytes");
    }
    if exceeded(quota.max_inodes, quota.used_inodes, charge.inodes) {
        return refuse(quota.max_inodes, "inodes");
    }
    Ok(())
}
