//! The change log: versions are the numbers the database gives its rows.

use async_trait::async_trait;
use shoal_meta::{ChangeLogRecords, ChangeLogTxn, LoggedChange, MetaError};

use crate::args::Args;
use crate::link::{Link, TxnLink};
use crate::session::{Session, or_empty};

#[async_trait]
impl<L: Link> ChangeLogRecords for Session<L> {
    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<LoggedChange>, MetaError> {
        let args = Args::default().id(after).with(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.rows(&self.sql.changes, args, |row| {
            Ok(LoggedChange { version: row.number(0, "id")?, entry: row.text(1)? })
        });
        or_empty(rows.await)
    }

    async fn newest_change(&self) -> Result<u64, MetaError> {
        let newest = self.row(&self.sql.newest_change, Args::default(), |row| row.nullable(0)).await;
        Ok(or_empty(newest)?.flatten().and_then(|id| u64::try_from(id).ok()).unwrap_or(0))
    }
}

#[async_trait]
impl<L: TxnLink> ChangeLogTxn for Session<L> {
    async fn append_change(&self, entry: &str) -> Result<(), MetaError> {
        self.write(&self.sql.append_change, Args::default().with(entry)).await
    }

    async fn remove_changes(&self, version: u64) -> Result<(), MetaError> {
        self.write(&self.sql.remove_changes, Args::default().id(version)).await
    }
}
