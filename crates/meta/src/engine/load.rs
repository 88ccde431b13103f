//! Writes that only a volume that is being loaded needs: records with the numbers they had in another database.

use async_trait::async_trait;
use shoal_format::AclRule;

use super::sessions::Serial;
use crate::error::MetaError;

/// Writes records that otherwise come to be one by one.
#[async_trait]
pub trait LoadTxn: Send + Sync {
    /// Shared ACL rules with their ids, none of which is taken; ids given out later are greater.
    async fn load_acls(&self, rules: &[(u32, AclRule)]) -> Result<(), MetaError>;
    /// Makes every number of a kind that is given out later greater than `last`.
    async fn raise_serial(&self, serial: Serial, last: u64) -> Result<(), MetaError>;
}
