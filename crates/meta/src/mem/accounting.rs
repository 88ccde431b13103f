//! Writes of counters and statistics.

use async_trait::async_trait;
use shoal_format::Ino;

use super::txn::MemTxn;
use crate::engine::AccountingTxn;
use crate::error::MetaError;
use crate::record::{Counter, DirUsage};

#[async_trait]
impl AccountingTxn for MemTxn {
    async fn add_counter(&self, counter: Counter, delta: i64) -> Result<(), MetaError> {
        *self.state.lock().counters.entry(counter).or_default() += delta;
        Ok(())
    }

    async fn put_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
        self.state.lock().usage.extend(usage.iter().copied());
        Ok(())
    }

    async fn forget_dir_usage(&self) -> Result<(), MetaError> {
        self.state.lock().usage.clear();
        Ok(())
    }

    async fn add_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<Vec<Ino>, MetaError> {
        let mut state = self.state.lock();
        let mut unknown = Vec::new();
        for (dir, more) in usage {
            match state.usage.get_mut(dir) {
                Some(known) => known.add(*more),
                None => unknown.push(*dir),
            }
        }
        Ok(unknown)
    }
}
