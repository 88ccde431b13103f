//! Writes of a volume that is being loaded.

use async_trait::async_trait;
use shoal_format::AclRule;

use super::txn::MemTxn;
use crate::engine::{LoadTxn, Serial};
use crate::error::MetaError;

#[async_trait]
impl LoadTxn for MemTxn {
    async fn load_acls(&self, rules: &[(u32, AclRule)]) -> Result<(), MetaError> {
        self.state.lock().acls.extend(rules.iter().cloned());
        Ok(())
    }

    async fn raise_serial(&self, serial: Serial, last: u64) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        let known = state.serials.entry(serial).or_default();
        *known = last.max(*known);
        Ok(())
    }
}
