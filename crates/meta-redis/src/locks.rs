//! Locks: fields `<session>_<owner>` of a hash for each file, and for each session the keys of those hashes (spec section 17).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Ino, LockMode, RangeLock};
use shoal_meta::{LockHolder, LockRecords, LockTxn, MetaError};

use crate::overlay::Cell;
use crate::records::{Space, collect};
use crate::txn::Overlaid;
use crate::view::{Care, View};

fn field(holder: LockHolder) -> Bytes {
    Bytes::from(format!("{}_{:016X}", holder.sid, holder.owner))
}

fn parse_field(field: &[u8]) -> Option<LockHolder> {
    let (sid, owner) = std::str::from_utf8(field).ok()?.split_once('_')?;
    Some(LockHolder { sid: sid.parse().ok()?, owner: u64::from_str_radix(owner, 16).ok()? })
}

impl<V: View> Space<V> {
    /// The locks in a hash, by holder.
    async fn locks<T>(
        &self,
        key: &str,
        care: Care,
        decode: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<(LockHolder, T)>, MetaError> {
        let mut pairs = Vec::new();
        self.0.scan(key, care, |field, value| collect(&mut pairs, field, value)).await?;
        let mut locks = Vec::with_capacity(pairs.len());
        for (field, value) in pairs {
            let lock = parse_field(&field).and_then(|holder| Some((holder, decode(&value)?)));
            let wrong = || self.base().damaged(format!("{key} holds `{}`, which is no lock", field.escape_ascii()));
            locks.push(lock.ok_or_else(wrong)?);
        }
        locks.sort_unstable_by_key(|(holder, _)| *holder);
        Ok(locks)
    }

    async fn flocks_with(&self, ino: Ino, care: Care) -> Result<Vec<(LockHolder, LockMode)>, MetaError> {
        let decode = |value: &[u8]| match value {
            [letter] => LockMode::from_letter(*letter),
            _ => None,
        };
        self.locks(&self.base().keys.flocks(ino), care, decode).await
    }

    async fn plocks_with(&self, ino: Ino, care: Care) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError> {
        let decode = |value: &[u8]| RangeLock::decode_list(value).ok();
        self.locks(&self.base().keys.plocks(ino), care, decode).await
    }
}

impl Space<Overlaid> {
    /// Writes a holder's locks in a hash, and whether its session holds any there.
    async fn put_lock(&self, key: String, holder: LockHolder, locks: Option<Bytes>) -> Result<(), MetaError> {
        let cell = Cell::Field(key.clone(), field(holder));
        let holds = locks.is_some();
        match locks {
            Some(locks) => self.0.state().put(cell, locks),
            None => self.0.state().remove(cell),
        }
        let left = holds
            || self.locks(&key, Care::None, |_| Some(())).await?.iter().any(|(other, ())| other.sid == holder.sid);
        self.0.state().member(self.base().keys.locked(holder.sid), key, left);
        Ok(())
    }
}

#[async_trait]
impl<V: View> LockRecords for Space<V> {
    async fn flocks(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError> {
        self.flocks_with(ino, Care::None).await
    }

    async fn plocks(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError> {
        self.plocks_with(ino, Care::None).await
    }
}

#[async_trait]
impl LockTxn for Space<Overlaid> {
    async fn flocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError> {
        self.flocks_with(ino, Care::Exact).await
    }

    async fn plocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError> {
        self.plocks_with(ino, Care::Exact).await
    }

    async fn put_flock(&self, ino: Ino, holder: LockHolder, mode: Option<LockMode>) -> Result<(), MetaError> {
        let value = mode.map(|mode| Bytes::copy_from_slice(&[mode.letter()]));
        self.put_lock(self.base().keys.flocks(ino), holder, value).await
    }

    async fn put_plocks(&self, ino: Ino, holder: LockHolder, locks: &[RangeLock]) -> Result<(), MetaError> {
        let value = (!locks.is_empty()).then(|| Bytes::from(RangeLock::encode_list(locks)));
        self.put_lock(self.base().keys.plocks(ino), holder, value).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_written_as_real_clients_write_them() {
        // Spec section 30.
        let holder = LockHolder { sid: 1, owner: 0xA177_8E1D_631E_E937 };
        assert_eq!(field(holder), "1_A1778E1D631EE937");
        assert_eq!(parse_field(b"1_A1778E1D631EE937"), Some(holder));
        assert_eq!(field(LockHolder { sid: 12, owner: 5 }), "12_0000000000000005");
        assert_eq!(parse_field(b"1-5"), None);
    }
}
