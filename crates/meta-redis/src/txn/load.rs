//! Writes of a volume that is being loaded.

use async_trait::async_trait;
use shoal_format::AclRule;
use shoal_meta::{LoadTxn, MetaError, Serial};

use super::Overlaid;
use crate::commit::number;
use crate::keys::{ACL_IDS, ACLS};
use crate::overlay::Cell;
use crate::records::Space;
use crate::view::Care;

impl Space<Overlaid> {
    /// Makes a counter at least `last`.
    async fn raise(&self, key: String, last: i64) -> Result<(), MetaError> {
        if self.number(key.clone(), Care::Exact).await? < last {
            self.0.state().put(Cell::Value(key), number(last));
        }
        Ok(())
    }
}

#[async_trait]
impl LoadTxn for Space<Overlaid> {
    async fn load_acls(&self, rules: &[(u32, AclRule)]) -> Result<(), MetaError> {
        let keys = &self.base().keys;
        for (id, rule) in rules {
            self.0.state().put(Cell::Field(keys.single(ACLS), number(id)), rule.encode());
        }
        match rules.iter().map(|(id, _)| *id).max() {
            Some(last) => self.raise(keys.single(ACL_IDS), i64::from(last)).await,
            None => Ok(()),
        }
    }

    async fn raise_serial(&self, serial: Serial, last: u64) -> Result<(), MetaError> {
        self.raise(self.base().keys.serial(serial), i64::try_from(last).unwrap_or(i64::MAX)).await
    }
}
