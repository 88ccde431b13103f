//! Writes, in one transaction.

mod accounting;
mod changelog;
mod data;
mod detached;
mod load;
mod locks;
mod namespace;
mod quotas;
mod removal;
mod sessions;

use std::ops::Range;

use async_trait::async_trait;
use shoal_meta::{Foreseen, IdKind, MetaError, Txn};

use crate::args::Args;
use crate::driver::Driver;
use crate::failure::damaged;
use crate::insert::{Failed, Insert};
use crate::link::{Question, TxnLink};
use crate::meaning::Meaning;
use crate::schema::{self, FIRST_COUNTERS};
use crate::session::{Session, id_name};

impl<L: TxnLink> Session<L> {
    /// Inserts rows, one now or later; a failure of many comes back with the rows of the statement that failed.
    async fn insert<'r, T: Sync>(
        &self,
        insert: &Insert,
        rows: &'r [T],
        bind: impl Fn(&mut Args<'r>, &'r T) + Send + Sync,
        meaning: impl Fn(&T) -> Meaning + Send + Sync,
    ) -> Result<(), Failed<'r, T>> {
        insert.run(&self.link, rows, bind, meaning).await
    }
}

#[async_trait]
impl<L: TxnLink> Txn for Session<L> {
    async fn create_schema(&self) -> Result<(), MetaError> {
        let ddl = schema::ddl(L::Driver::DIALECT, &self.sql.prefix);
        self.link.run_once(&ddl).await.map_err(|error| self.failed(error))?;
        for (name, value) in FIRST_COUNTERS {
            self.write(&self.sql.first_counter, Args::default().with(*name).with(*value)).await?;
        }
        Ok(())
    }

    async fn drop_schema(&self) -> Result<(), MetaError> {
        let drops = schema::drops(L::Driver::DIALECT, &self.sql.prefix);
        self.link.run_once(&drops).await.map_err(|error| self.failed(error))
    }

    async fn put_setting(&self, json: &str) -> Result<(), MetaError> {
        self.write(&self.sql.put_setting, Args::default().with(json)).await
    }

    async fn take_ids(&self, kind: IdKind, n: u64) -> Result<Range<u64>, MetaError> {
        let name = id_name(kind);
        let args = Args::default().with(i64::try_from(n).unwrap_or(i64::MAX)).with(name);
        let next = self.count_up(&self.sql.take_ids, args).await?;
        // SQL engines store the next free id (spec section 12), so ours end where it now stands.
        let end = next.and_then(|next| u64::try_from(next).ok());
        let range = end.and_then(|end| Some(end.checked_sub(n)?..end));
        range.ok_or_else(|| damaged(&self.sql.at, &format!("counter {name} is missing or impossible")))
    }

    async fn foresee(&self, reads: &[Foreseen<'_>]) -> Result<(), MetaError> {
        let sql = &self.sql;
        let questions = reads.iter().map(|read| match *read {
            Foreseen::Held(ino) => Question::new(&sql.attr_held, Args::default().ino(ino)),
            Foreseen::Locked(ino) => Question::new(&sql.attr_locked, Args::default().ino(ino)),
            Foreseen::Entry(dir, name) => Question::new(&sql.entry, Args::default().ino(dir).with(name)),
            Foreseen::LockedEntry(dir, name) => {
                let args = Args::default().ino(dir).with(name);
                Question { answers: Some(&sql.attr_locked), ..Question::new(&sql.entry_locked, args) }
            }
            Foreseen::SliceCount(ino, index) => {
                Question::new(&sql.slices_len, Args::default().ino(ino).with(i64::from(index)))
            }
        });
        let questions: Vec<_> = questions.collect();
        self.link.foresee(&questions).await.map_err(|error| self.failed(error))
    }

    async fn write_now(&self) -> Result<(), MetaError> {
        self.link.write_now().await.map_err(|error| self.failed(error))
    }

    async fn commit(self: Box<Self>) -> Result<(), MetaError> {
        let Session { link, sql } = *self;
        link.commit(&sql.at).await
    }
}
