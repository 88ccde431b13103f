//! Setting, removing and checking quotas (spec sections 16.3 and 16.4).

use async_trait::async_trait;
use shoal_format::{Ino, Settings, Time};

use super::init::change_settings;
use super::moved_tree::use_below;
use super::owners::count_owners;
use super::settings::settings_for_change;
use crate::changelog::{LogEntry, LogWriter};
use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::DirUsage;
use crate::retry::Operation;

/// Limits to set: `None` keeps what there is, 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaLimits {
    /// Most bytes.
    pub space: Option<u64>,
    /// Most inodes.
    pub inodes: Option<u64>,
}

impl QuotaLimits {
    fn apply(self, quota: &mut Quota) {
        let stored = |limit: u64| if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(i64::MAX) };
        quota.max_space = self.space.map_or(quota.max_space, stored);
        quota.max_inodes = self.inodes.map_or(quota.max_inodes, stored);
    }
}

/// Sets limits. What lies below a directory that had none is counted; accounting that the volume did without begins.
pub(crate) struct SetQuota<'a> {
    pub(crate) at: &'a str,
    pub(crate) key: QuotaKey,
    pub(crate) limits: QuotaLimits,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for SetQuota<'_> {
    type Output = Quota;

    async fn run(&self, txn: &dyn Txn) -> Result<Quota, MetaError> {
        let settings = settings_for_change(txn, self.at).await?;
        if let QuotaKey::Dir(dir) = self.key {
            check_dir(txn, dir).await?;
        }
        let mut wanted = settings.clone();
        match self.key.kind() {
            QuotaKind::Dir => wanted.dir_stats = true,
            QuotaKind::User | QuotaKind::Group => wanted.user_group_quota = true,
        }
        if wanted != settings {
            change_settings(txn, &settings, &wanted, self.log, self.now).await?;
        }
        let mut quota = match (txn.quota(self.key).await?, self.key) {
            (Some(quota), _) => quota,
            (None, QuotaKey::Dir(dir)) => Quota::unlimited(self.key).with_use(use_below(txn, dir).await?),
            (None, QuotaKey::User(_) | QuotaKey::Group(_)) => Quota::unlimited(self.key),
        };
        self.limits.apply(&mut quota);
        txn.put_quotas(&[quota]).await?;
        self.log.append(txn, &wanted, self.now, || set_entry(&quota)).await?;
        Ok(quota)
    }
}

/// Kind and number of what a quota is set on, as the change log has them.
fn key_entry(op: &str, key: QuotaKey) -> LogEntry {
    let (kind, number) = match key {
        QuotaKey::Dir(ino) => (0, ino.0),
        QuotaKey::User(uid) => (1, u64::from(uid)),
        QuotaKey::Group(gid) => (2, u64::from(gid)),
    };
    LogEntry::new(op).with(kind).with(number)
}

fn set_entry(quota: &Quota) -> LogEntry {
    key_entry("SETQUOTA", quota.key).with(quota.max_space).with(quota.max_inodes)
}

async fn check_dir(records: &dyn Records, dir: Ino) -> Result<(), MetaError> {
    let attr = records.attr(dir).await?.ok_or_else(|| MetaError::no_inode(dir))?;
    if !attr.is_dir() {
        return Err(MetaError::NotDirectory { what: format!("inode {dir}") });
    }
    if dir.is_trash() || attr.parent.is_trash() {
        return Err(MetaError::invalid("what is in the trash has no quota"));
    }
    Ok(())
}

/// Removes the limits of a quota; the use of users and groups stays known.
pub(crate) struct RemoveQuota<'a> {
    pub(crate) at: &'a str,
    pub(crate) key: QuotaKey,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for RemoveQuota<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let settings = settings_for_change(txn, self.at).await?;
        self.log.append(txn, &settings, self.now, || key_entry("DELQUOTA", self.key)).await?;
        match self.key {
            QuotaKey::Dir(dir) => txn.delete_dir_quotas(&[dir]).await,
            QuotaKey::User(_) | QuotaKey::Group(_) => match txn.quota(self.key).await? {
                Some(quota) => txn.put_quotas(&[Quota { max_space: -1, max_inodes: -1, ..quota }]).await,
                None => Ok(()),
            },
        }
    }
}

/// Which quotas are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaScope {
    /// Every one.
    All,
    /// That of one directory.
    Dir(Ino),
    /// Those of every user and group.
    Owners,
}

/// A quota as it is kept, and what was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaCheck {
    /// The record; one without limits and use where there is none.
    pub kept: Quota,
    /// What there is.
    pub counted: DirUsage,
}

impl QuotaCheck {
    /// True if both agree.
    pub fn is_consistent(&self) -> bool {
        (self.kept.used_space, self.kept.used_inodes) == (self.counted.space, self.counted.inodes)
    }
}

/// Counts what quotas are charged with, name by name.
pub(crate) async fn check_quotas(
    records: &dyn Records,
    settings: &Settings,
    scope: QuotaScope,
) -> Result<Vec<QuotaCheck>, MetaError> {
    let mut checks = Vec::new();
    let dirs = match scope {
        QuotaScope::Owners => Vec::new(),
        QuotaScope::All => records.quotas(QuotaKind::Dir).await?,
        QuotaScope::Dir(dir) => records.quota(QuotaKey::Dir(dir)).await?.into_iter().collect(),
    };
    for kept in dirs {
        if let QuotaKey::Dir(dir) = kept.key {
            checks.push(QuotaCheck { kept, counted: use_below(records, dir).await? });
        }
    }
    if settings.user_group_quota && !matches!(scope, QuotaScope::Dir(_)) {
        checks.extend(check_owners(records).await?);
    }
    Ok(checks)
}

async fn check_owners(records: &dyn Records) -> Result<Vec<QuotaCheck>, MetaError> {
    let mut counted = count_owners(records).await?;
    let mut checks = Vec::new();
    for kind in [QuotaKind::User, QuotaKind::Group] {
        for kept in records.quotas(kind).await? {
            checks.push(QuotaCheck { kept, counted: counted.remove(&kept.key).unwrap_or_default() });
        }
    }
    checks.extend(counted.into_iter().map(|(key, counted)| QuotaCheck { kept: Quota::unlimited(key), counted }));
    checks.sort_unstable_by_key(|check| check.kept.key);
    Ok(checks)
}

/// Checks quotas and writes what was counted where it differs. Gives what was found before.
pub(crate) struct RepairQuotas<'a> {
    pub(crate) at: &'a str,
    pub(crate) scope: QuotaScope,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for RepairQuotas<'_> {
    type Output = Vec<QuotaCheck>;

    async fn run(&self, txn: &dyn Txn) -> Result<Vec<QuotaCheck>, MetaError> {
        let settings = settings_for_change(txn, self.at).await?;
        let checks = check_quotas(txn, &settings, self.scope).await?;
        let wrong = checks.iter().filter(|check| !check.is_consistent());
        let repaired: Vec<Quota> = wrong.map(|check| check.kept.with_use(check.counted)).collect();
        txn.put_quotas(&repaired).await?;
        for quota in &repaired {
            self.log.append(txn, &settings, self.now, || set_entry(quota)).await?;
        }
        Ok(checks)
    }
}
