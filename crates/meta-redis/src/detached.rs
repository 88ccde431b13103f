//! Trees without a name.

use async_trait::async_trait;
use shoal_format::Ino;
use shoal_meta::{DetachedRecords, DetachedTxn, MetaError};

use crate::commit::number;
use crate::keys::DETACHED;
use crate::records::Space;
use crate::txn::Overlaid;
use crate::view::View;

#[async_trait]
impl<V: View> DetachedRecords for Space<V> {
    async fn detached_before(&self, before: i64, limit: usize) -> Result<Vec<Ino>, MetaError> {
        let ranked = self.0.ranked(&self.base().keys.single(DETACHED), before, limit).await?;
        ranked.iter().map(|(ino, _)| self.base().number(DETACHED, ino).map(Ino)).collect()
    }
}

#[async_trait]
impl DetachedTxn for Space<Overlaid> {
    async fn insert_detached(&self, ino: Ino, at: i64) -> Result<(), MetaError> {
        self.0.state().rank(self.base().keys.single(DETACHED), number(ino), Some(at));
        Ok(())
    }

    async fn remove_detached(&self, ino: Ino) -> Result<bool, MetaError> {
        let key = self.base().keys.single(DETACHED);
        let found = self.0.score(&key, number(ino)).await?.is_some();
        if found {
            self.0.state().rank(key, number(ino), None);
        }
        Ok(found)
    }
}
