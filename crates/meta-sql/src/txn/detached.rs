//! Detached trees.

use async_trait::async_trait;
use shoal_format::Ino;
use shoal_meta::{DetachedRecords, DetachedTxn, MetaError};

use crate::args::Args;
use crate::link::{Link, TxnLink};
use crate::session::{Session, or_empty};

#[async_trait]
impl<L: Link> DetachedRecords for Session<L> {
    async fn detached_before(&self, before: i64, limit: usize) -> Result<Vec<Ino>, MetaError> {
        let args = Args::default().with(before).with(i64::try_from(limit).unwrap_or(i64::MAX));
        or_empty(self.rows(&self.sql.removal.detached_before, args, |row| row.ino(0)).await)
    }
}

#[async_trait]
impl<L: TxnLink> DetachedTxn for Session<L> {
    async fn insert_detached(&self, ino: Ino, at: i64) -> Result<(), MetaError> {
        self.write(&self.sql.removal.insert_detached, Args::default().ino(ino).with(at)).await
    }

    async fn remove_detached(&self, ino: Ino) -> Result<bool, MetaError> {
        Ok(self.execute(&self.sql.removal.remove_detached, Args::default().ino(ino)).await? > 0)
    }
}
