//! Records of detached trees.

use async_trait::async_trait;
use shoal_format::Ino;

use super::txn::MemTxn;
use super::view::View;
use crate::engine::{DetachedRecords, DetachedTxn};
use crate::error::MetaError;

#[async_trait]
impl<V: View> DetachedRecords for V {
    async fn detached_before(&self, before: i64, limit: usize) -> Result<Vec<Ino>, MetaError> {
        self.read(|state| {
            let mut old: Vec<(i64, Ino)> = state.detached.iter().map(|(ino, at)| (*at, *ino)).collect();
            old.retain(|(at, _)| *at < before);
            old.sort_unstable();
            old.into_iter().map(|(_, ino)| ino).take(limit).collect()
        })
    }
}

#[async_trait]
impl DetachedTxn for MemTxn {
    async fn insert_detached(&self, ino: Ino, at: i64) -> Result<(), MetaError> {
        self.state.lock().detached.insert(ino, at);
        Ok(())
    }

    async fn remove_detached(&self, ino: Ino) -> Result<bool, MetaError> {
        Ok(self.state.lock().detached.remove(&ino).is_some())
    }
}
