//! Quotas.

use async_trait::async_trait;

use super::txn::MemTxn;
use super::view::View;
use crate::engine::{QuotaRecords, QuotaTxn};
use crate::error::MetaError;
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::DirUsage;

#[async_trait]
impl<V: View> QuotaRecords for V {
    async fn quotas(&self, kind: QuotaKind) -> Result<Vec<Quota>, MetaError> {
        self.read(|state| state.quotas.values().filter(|quota| quota.key.kind() == kind).copied().collect())
    }

    async fn quota(&self, key: QuotaKey) -> Result<Option<Quota>, MetaError> {
        self.read(|state| state.quotas.get(&key).copied())
    }
}

#[async_trait]
impl QuotaTxn for MemTxn {
    async fn add_quota_usage(&self, usage: &[(QuotaKey, DirUsage)]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for (key, more) in usage {
            let known = state.quotas.contains_key(key);
            if !known && key.kind() == QuotaKind::Dir {
                continue;
            }
            let quota = state.quotas.entry(*key).or_insert_with(|| Quota::unlimited(*key));
            quota.used_space += more.space;
            quota.used_inodes += more.inodes;
        }
        Ok(())
    }

    async fn put_quotas(&self, quotas: &[Quota]) -> Result<(), MetaError> {
        self.state.lock().quotas.extend(quotas.iter().map(|quota| (quota.key, *quota)));
        Ok(())
    }
}
