//! Where a statement runs: on any connection, or on that of a transaction.

use std::sync::Arc;

use shoal_meta::MetaError;
use sqlx::Sqlite;
use sqlx::sqlite::SqlitePool;
use tokio::sync::Mutex;

use crate::args::Args;
use crate::driver::{Answer, Driver, Want};

/// The rows of a link's driver.
pub(crate) type RowOf<L> = <<L as Link>::Driver as sqlx::Database>::Row;

/// Runs statements.
pub(crate) trait Link: Send + Sync + Sized {
    /// The database's driver.
    type Driver: Driver;

    /// Runs a statement.
    fn run(
        &self,
        want: Want,
        text: &Arc<str>,
        args: &Args<'_>,
    ) -> impl Future<Output = Result<Answer<RowOf<Self>>, sqlx::Error>> + Send;

    /// The error a caller sees for one of [`Link::run`] on database `at`.
    fn failed(&self, at: &str, error: sqlx::Error) -> MetaError {
        Self::Driver::failed(at, error)
    }
}

/// Runs the statements of one transaction; dropped, it undoes them.
pub(crate) trait TxnLink: Link {
    /// Runs statements that are not worth preparing: those that create the schema.
    fn run_once(&self, texts: &[String]) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// Makes the writes visible and durable.
    fn commit(self, at: &str) -> impl Future<Output = Result<(), MetaError>> + Send;
}

/// Binds a statement's arguments.
pub(crate) fn bind<D: Driver>(args: &Args<'_>) -> Result<D::Arguments, sqlx::Error> {
    D::bind(args.values()?).map_err(sqlx::Error::Encode)
}

/// Any connection of a pool: each statement sees the newest commit.
impl Link for SqlitePool {
    type Driver = Sqlite;

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<RowOf<Self>>, sqlx::Error> {
        let arguments = bind::<Sqlite>(args)?;
        let mut connection = self.acquire().await?;
        Sqlite::run(&mut connection, want, text, arguments).await
    }
}

/// The one connection that writes a SQLite database.
pub(crate) struct SqliteTxn(pub(crate) Mutex<sqlx::Transaction<'static, Sqlite>>);

impl Link for SqliteTxn {
    type Driver = Sqlite;

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<RowOf<Self>>, sqlx::Error> {
        let arguments = bind::<Sqlite>(args)?;
        Sqlite::run(&mut **self.0.lock().await, want, text, arguments).await
    }
}

impl TxnLink for SqliteTxn {
    async fn run_once(&self, texts: &[String]) -> Result<(), sqlx::Error> {
        let mut txn = self.0.lock().await;
        for text in texts {
            Sqlite::run_once(&mut **txn, text).await?;
        }
        Ok(())
    }

    async fn commit(self, at: &str) -> Result<(), MetaError> {
        self.0.into_inner().commit().await.map_err(|error| Sqlite::failed(at, error))
    }
}
