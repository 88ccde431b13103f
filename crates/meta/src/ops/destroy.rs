//! The end of a volume's metadata.

use async_trait::async_trait;

use super::settings::settings;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::retry::Operation;

/// Removes every record of the volume with this identity.
pub(crate) struct Destroy<'a> {
    pub(crate) at: &'a str,
    pub(crate) uuid: &'a str,
}

#[async_trait]
impl Operation for Destroy<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let found = settings(txn, self.at).await?;
        if found.uuid != self.uuid {
            let what = format!("{} holds volume `{}` of UUID {}, not {}", self.at, found.name, found.uuid, self.uuid);
            return Err(MetaError::Invalid { what });
        }
        txn.drop_schema().await
    }
}
