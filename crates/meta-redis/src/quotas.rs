//! Quotas: for each kind a hash of limits and two of use (spec section 21).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::Ino;
use shoal_meta::{DirUsage, MetaError, Quota, QuotaKey, QuotaKind, QuotaRecords, QuotaTxn};

use crate::commit::number;
use crate::keys::{DIR_QUOTA, DIR_QUOTA_USED};
use crate::overlay::Cell;
use crate::records::{Space, collect};
use crate::txn::Overlaid;
use crate::view::{Care, View};

/// Hashes of limits, used space and used inodes.
fn hashes(kind: QuotaKind) -> [&'static str; 3] {
    match kind {
        QuotaKind::Dir => [DIR_QUOTA, DIR_QUOTA_USED[0], DIR_QUOTA_USED[1]],
        QuotaKind::User => ["userQuota", "userQuotaUsedSpace", "userQuotaUsedInodes"],
        QuotaKind::Group => ["groupQuota", "groupQuotaUsedSpace", "groupQuotaUsedInodes"],
    }
}

fn encode(max_space: i64, max_inodes: i64) -> Bytes {
    [max_space.to_be_bytes(), max_inodes.to_be_bytes()].concat().into()
}

impl<V: View> Space<V> {
    fn quota_key(&self, kind: QuotaKind, field: &[u8]) -> Result<QuotaKey, MetaError> {
        let name = hashes(kind)[0];
        Ok(match kind {
            QuotaKind::Dir => QuotaKey::Dir(Ino(self.base().number(name, field)?)),
            QuotaKind::User => QuotaKey::User(self.base().number(name, field)?),
            QuotaKind::Group => QuotaKey::Group(self.base().number(name, field)?),
        })
    }

    /// Quotas with these limits, and their use.
    async fn with_use(&self, kind: QuotaKind, limits: Vec<(Bytes, Bytes)>) -> Result<Vec<Quota>, MetaError> {
        let (base, [_, space, inodes]) = (self.base(), hashes(kind));
        if limits.is_empty() {
            return Ok(Vec::new());
        }
        let fields: Vec<Bytes> = limits.iter().map(|(field, _)| field.clone()).collect();
        let spaces = self.0.fields(&base.keys.single(space), &fields, Care::None).await?;
        let counts = self.0.fields(&base.keys.single(inodes), &fields, Care::None).await?;
        let used = |name, text: Option<Bytes>| text.map_or(Ok(0), |text| base.number(name, &text));
        let mut quotas = Vec::with_capacity(limits.len());
        for ((field, limit), (used_space, used_inodes)) in limits.iter().zip(spaces.into_iter().zip(counts)) {
            let key = self.quota_key(kind, field)?;
            let (Some(max_space), Some(max_inodes), 16) = (limit.first_chunk(), limit.last_chunk(), limit.len()) else {
                return Err(base.damaged(format!("the quota of {key} has {} bytes", limit.len())));
            };
            quotas.push(Quota {
                key,
                max_space: i64::from_be_bytes(*max_space),
                max_inodes: i64::from_be_bytes(*max_inodes),
                used_space: used(space, used_space)?,
                used_inodes: used(inodes, used_inodes)?,
            });
        }
        quotas.sort_unstable_by_key(|quota| quota.key);
        Ok(quotas)
    }
}

#[async_trait]
impl<V: View> QuotaRecords for Space<V> {
    async fn quotas(&self, kind: QuotaKind) -> Result<Vec<Quota>, MetaError> {
        let mut limits = Vec::new();
        let key = self.base().keys.single(hashes(kind)[0]);
        self.0.scan(&key, Care::None, |field, limit| collect(&mut limits, field, limit)).await?;
        self.with_use(kind, limits).await
    }

    async fn quota(&self, key: QuotaKey) -> Result<Option<Quota>, MetaError> {
        let (hash, field) = (self.base().keys.single(hashes(key.kind())[0]), number(key.number()));
        let limit = self.field(&hash, field.clone(), Care::None).await?;
        let found = limit.map(|limit| (field, limit)).into_iter().collect();
        Ok(self.with_use(key.kind(), found).await?.pop())
    }
}

#[async_trait]
impl QuotaTxn for Space<Overlaid> {
    async fn add_quota_usage(&self, usage: &[(QuotaKey, DirUsage)]) -> Result<(), MetaError> {
        for (key, more) in usage {
            let (names, field) = (hashes(key.kind()).map(|name| self.base().keys.single(name)), number(key.number()));
            if self.field(&names[0], field.clone(), Care::Held).await?.is_none() {
                if key.kind() == QuotaKind::Dir {
                    continue;
                }
                self.0.state().put(Cell::Field(names[0].clone(), field.clone()), encode(-1, -1));
            }
            let mut state = self.0.state();
            for (name, delta) in names[1..].iter().zip([more.space, more.inodes]) {
                let cell = Cell::Field(name.clone(), field.clone());
                state.add(cell, delta).map_err(|error| self.0.no_number(error))?;
            }
        }
        Ok(())
    }

    async fn put_quotas(&self, quotas: &[Quota]) -> Result<(), MetaError> {
        let (mut state, keys) = (self.0.state(), &self.base().keys);
        for quota in quotas {
            let ([limits, space, inodes], field) = (hashes(quota.key.kind()), number(quota.key.number()));
            let values = [
                (limits, encode(quota.max_space, quota.max_inodes)),
                (space, number(quota.used_space)),
                (inodes, number(quota.used_inodes)),
            ];
            values
                .into_iter()
                .for_each(|(name, value)| state.put(Cell::Field(keys.single(name), field.clone()), value));
        }
        Ok(())
    }
}
