//! The change log.

use async_trait::async_trait;

use super::txn::MemTxn;
use super::view::View;
use crate::engine::{ChangeLogRecords, ChangeLogTxn, LoggedChange};
use crate::error::MetaError;

#[async_trait]
impl<V: View> ChangeLogRecords for V {
    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<LoggedChange>, MetaError> {
        self.read(|state| {
            let later = state.changes.range(after.saturating_add(1)..).take(limit);
            later.map(|(version, entry)| LoggedChange { version: *version, entry: entry.clone() }).collect()
        })
    }

    async fn newest_change(&self) -> Result<u64, MetaError> {
        self.read(|state| state.changes.last_key_value().map_or(0, |(version, _)| *version))
    }
}

#[async_trait]
impl ChangeLogTxn for MemTxn {
    async fn append_change(&self, entry: &str) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        state.last_change += 1;
        let version = state.last_change;
        state.changes.insert(version, entry.to_owned());
        Ok(())
    }

    async fn remove_changes(&self, version: u64) -> Result<(), MetaError> {
        self.state.lock().changes.retain(|known, _| *known > version);
        Ok(())
    }
}
