//! The tier of an inode: which storage class its blocks are put with (spec sections 3.6 and 7).

use async_trait::async_trait;
use shoal_format::{Attr, Ino, Time};

use super::setattr::entry;
use super::settings::settings_for_change;
use crate::changelog::LogWriter;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::retry::Operation;

/// Bit of the tier among attributes that are set.
const TIER: u32 = 1024;

/// Writes the tier of an inode whose blocks are in it.
pub(crate) struct SetTier<'a> {
    pub(crate) at: &'a str,
    pub(crate) ino: Ino,
    pub(crate) tier: u8,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for SetTier<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let settings = settings_for_change(txn, self.at).await?;
        if self.tier != 0 && !settings.tiers.contains_key(&self.tier) {
            return Err(MetaError::invalid(format!("volume `{}` has no tier {}", settings.name, self.tier)));
        }
        let attr = txn.attrs_locked(&[self.ino]).await?.pop().flatten().ok_or_else(|| MetaError::no_inode(self.ino))?;
        let attr = Attr { tier: self.tier, ctime: self.now, ..attr };
        txn.update_attrs(&[(self.ino, attr.clone())]).await?;
        self.log.append(txn, &settings, self.now, || entry(self.ino, TIER, &attr)).await
    }
}
