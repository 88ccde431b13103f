//! Accounting of directories: statistics of their children and quotas of the trees above them (spec section 16).

use std::collections::BTreeMap;

use shoal_format::Ino;

use super::readdir::PAGE;
use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::name::show_name;
use crate::record::{DirQuota, DirUsage};

/// Deepest path that is walked up to find quotas; a longer one is a cycle in damaged metadata.
const DEPTH_MAX: usize = 4096;

/// Adds to the statistics of directories; where they are unknown they are counted from the listing, which must hold the
/// new children already.
pub(crate) async fn add_dir_usage(txn: &dyn Txn, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
    let unknown = txn.add_dir_usage(usage).await?;
    let mut counted = Vec::with_capacity(unknown.len());
    for dir in unknown {
        counted.push((dir, count_children(txn, dir).await?));
    }
    txn.put_dir_usage(&counted).await
}

async fn count_children(records: &dyn Records, dir: Ino) -> Result<DirUsage, MetaError> {
    let mut total = DirUsage::default();
    let mut after = bytes::Bytes::new();
    loop {
        let page = records.entries(dir, &after, PAGE).await?;
        page.iter().filter_map(|entry| entry.attr.as_ref()).for_each(|attr| total.add(DirUsage::of(attr)));
        match page.last() {
            Some(last) if page.len() == PAGE => after = last.name.clone(),
            _ => return Ok(total),
        }
    }
}

/// Charges what was added below each directory to every quota set on it or above it. `NoSpace` where one is exceeded.
pub(crate) async fn charge_quotas(txn: &dyn Txn, added: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
    let quotas: BTreeMap<Ino, DirQuota> = txn.dir_quotas().await?.into_iter().map(|quota| (quota.ino, quota)).collect();
    if quotas.is_empty() {
        return Ok(());
    }
    let mut charges: BTreeMap<Ino, DirUsage> = BTreeMap::new();
    for (dir, usage) in added {
        for ino in with_ancestors(txn, *dir).await? {
            if quotas.contains_key(&ino) {
                charges.entry(ino).or_default().add(*usage);
            }
        }
    }
    for (ino, charge) in charges {
        check_quota(&quotas[&ino], charge)?;
        txn.add_quota_usage(ino, charge.space, charge.inodes).await?;
    }
    Ok(())
}

/// `dir` and the directories above it.
async fn with_ancestors(records: &dyn Records, dir: Ino) -> Result<Vec<Ino>, MetaError> {
    let mut chain = vec![dir];
    let mut ino = dir;
    while ino != Ino::ROOT && !ino.is_trash() {
        let attr = records.attr(ino).await?.ok_or_else(|| MetaError::no_inode(ino))?;
        ino = attr.parent;
        chain.push(ino);
        if chain.len() > DEPTH_MAX {
            return Err(MetaError::Corrupt { what: format!("directory {dir} lies in a cycle of directories") });
        }
    }
    Ok(chain)
}

fn check_quota(quota: &DirQuota, charge: DirUsage) -> Result<(), MetaError> {
    let exceeded = |limit: i64, used: i64, more: i64| limit > 0 && used.saturating_add(more) > limit;
    if exceeded(quota.max_space, quota.used_space, charge.space) {
        let (limit, ino) = (quota.max_space, quota.ino);
        return Err(MetaError::NoSpace { what: format!("the quota of {limit} bytes on directory {ino} is exceeded") });
    }
    if exceeded(quota.max_inodes, quota.used_inodes, charge.inodes) {
        let (limit, ino) = (quota.max_inodes, quota.ino);
        return Err(MetaError::NoSpace { what: format!("the quota of {limit} inodes on directory {ino} is exceeded") });
    }
    Ok(())
}

/// A name in a directory as messages say it.
pub(crate) fn place(parent: Ino, name: &[u8]) -> String {
    format!("`{}` in directory {parent}", show_name(name))
}
