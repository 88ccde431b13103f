//! What users and groups own, counted name by name (spec section 16.4).

use std::collections::{BTreeMap, HashSet};

use shoal_format::{Attr, Ino};

use super::readdir::PAGE;
use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::DirUsage;

/// What every user and group owns: the roots are nobody's, removed files that are open still have their owner.
pub(crate) async fn count_owners(records: &dyn Records) -> Result<BTreeMap<QuotaKey, DirUsage>, MetaError> {
    let mut count = OwnerCount::default();
    let mut pending = vec![Ino::ROOT, Ino::TRASH];
    while let Some(dir) = pending.pop() {
        let mut after = bytes::Bytes::new();
        loop {
            let page = records.entries(dir, &after, PAGE).await?;
            for entry in &page {
                let Some(attr) = &entry.attr else { continue };
                count.add(entry.ino, attr);
                if attr.is_dir() {
                    pending.push(entry.ino);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.name.clone(),
                _ => break,
            }
        }
    }
    for session in records.sessions().await? {
        let held = records.sustained(session.sid).await?;
        for (ino, attr) in held.iter().zip(records.attrs(&held).await?) {
            attr.iter().for_each(|attr| count.add(*ino, attr));
        }
    }
    Ok(count.owners)
}

#[derive(Default)]
struct OwnerCount {
    owners: BTreeMap<QuotaKey, DirUsage>,
    /// Inodes that can be met again: those with more names than one, or none.
    seen: HashSet<Ino>,
}

impl OwnerCount {
    fn add(&mut self, ino: Ino, attr: &Attr) {
        if !attr.is_dir() && attr.nlink != 1 && !self.seen.insert(ino) {
            return;
        }
        for owner in QuotaKey::owners(attr) {
            self.owners.entry(owner).or_default().add(DirUsage { length: 0, ..DirUsage::of(attr) });
        }
    }
}

/// Writes what owners were counted with; limits stay.
pub(crate) async fn put_owners(txn: &dyn Txn, counted: &BTreeMap<QuotaKey, DirUsage>) -> Result<(), MetaError> {
    let mut quotas: BTreeMap<QuotaKey, Quota> = BTreeMap::new();
    for kind in [QuotaKind::User, QuotaKind::Group] {
        quotas
            .extend(txn.quotas(kind).await?.into_iter().map(|quota| (quota.key, quota.with_use(DirUsage::default()))));
    }
    for (key, usage) in counted {
        let quota = quotas.entry(*key).or_insert_with(|| Quota::unlimited(*key));
        *quota = quota.with_use(*usage);
    }
    let quotas: Vec<Quota> = quotas.into_values().collect();
    txn.put_quotas(&quotas).await
}
