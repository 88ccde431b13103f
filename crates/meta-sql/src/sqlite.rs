//! A SQLite database: a pool of readers, one writer.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shoal_meta::{Accounting, Engine, MetaError, Records, Txn};
use shoal_types::ErrorKind;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, Sqlite};
use tokio::sync::Mutex;

use crate::OpenMode;
use crate::address::sqlite::{Journal, SqliteAddress};
use crate::driver::Driver;
use crate::link::SqliteTxn;
use crate::schema::NODE_COLUMNS;
use crate::session::Session;
use crate::statements::Statements;

/// Reading connections, each with a thread of its own: SQLite reads in parallel, more threads than this only queue for CPUs.
const READERS_MAX: u32 = 8;
/// SQLite has one write lock; queueing for the one connection is fair and cheap, queueing for the lock is polling.
const WRITERS_MAX: u32 = 1;
/// Longest wait for a connection.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(30);
/// Prepared statements a connection keeps: all of ours.
const STATEMENT_CACHE: usize = 160;

/// Metadata in a SQLite file.
pub(crate) struct SqliteEngine {
    readers: Session<SqlitePool>,
    /// `None` if opened for reading.
    writer: Option<SqlitePool>,
}

impl std::fmt::Debug for SqliteEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SqliteEngine").field(&self.readers.sql.at).finish()
    }
}

impl SqliteEngine {
    /// Opens the database at `address`. Creates nothing unless `mode` says so.
    pub(crate) async fn open(address: &SqliteAddress, mode: OpenMode) -> Result<SqliteEngine, MetaError> {
        let at = &address.name;
        match (check_file(address).await?, mode) {
            (Presence::Missing, OpenMode::ReadOnly | OpenMode::ReadWrite) => {
                return Err(MetaError::NoDatabase { at: address.path.display().to_string() });
            }
            (Presence::Missing, OpenMode::Create) | (Presence::Present, _) => {}
        }
        let writer = match mode {
            OpenMode::ReadOnly => None,
            OpenMode::ReadWrite => Some(pool(WRITERS_MAX).connect_lazy_with(options(address))),
            OpenMode::Create => {
                let options = options(address).create_if_missing(true).journal_mode(journal_mode(address.journal));
                Some(pool(WRITERS_MAX).connect_with(options).await.map_err(|error| Sqlite::failed(at, error))?)
            }
        };
        let readers = pool(READERS_MAX).connect_with(options(address).read_only(true)).await;
        let readers = readers.map_err(|error| Sqlite::failed(at, error))?;
        let columns = match (node_columns(&readers, address).await?, mode) {
            (columns, _) if !columns.is_empty() => columns,
            (_, OpenMode::Create) => NODE_COLUMNS.iter().map(ToString::to_string).collect(),
            (_, OpenMode::ReadOnly | OpenMode::ReadWrite) => return Err(MetaError::NoVolume { at: at.clone() }),
        };
        let sql = Arc::new(Statements::new::<Sqlite>(at, &address.table_prefix, &columns));
        Ok(SqliteEngine { readers: Session { link: readers, sql }, writer })
    }
}

enum Presence {
    Missing,
    Present,
}

async fn check_file(address: &SqliteAddress) -> Result<Presence, MetaError> {
    let failure = |path: &Path, error: io::Error| MetaError::Database {
        at: address.name.clone(),
        detail: format!("{}: {error}", path.display()),
        kind: ErrorKind::of_io(&error),
    };
    match tokio::fs::metadata(&address.path).await {
        Ok(meta) if meta.is_file() => Ok(Presence::Present),
        Ok(_) => Err(MetaError::Invalid { what: format!("{} is no database file", address.path.display()) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Presence::Missing),
        Err(error) => Err(failure(&address.path, error)),
    }
}

fn options(address: &SqliteAddress) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&address.path)
        .busy_timeout(address.busy_timeout)
        .statement_cache_capacity(STATEMENT_CACHE)
        .foreign_keys(false)
        .thread_name(|id| format!("shoal-sqlite-{id}"))
        .disable_statement_logging()
}

fn journal_mode(journal: Journal) -> SqliteJournalMode {
    match journal {
        Journal::Wal => SqliteJournalMode::Wal,
        Journal::Delete => SqliteJournalMode::Delete,
        Journal::Truncate => SqliteJournalMode::Truncate,
        Journal::Persist => SqliteJournalMode::Persist,
    }
}

fn pool(max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(max)
        .acquire_timeout(CONNECTION_PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Columns of the attribute table; none where there is no such table.
async fn node_columns(readers: &SqlitePool, address: &SqliteAddress) -> Result<Vec<String>, MetaError> {
    let text = format!("SELECT name FROM pragma_table_info('{}node')", address.table_prefix);
    let rows = sqlx::query(AssertSqlSafe(text)).persistent(false).fetch_all(readers).await;
    let rows = rows.map_err(|error| Sqlite::failed(&address.name, error))?;
    rows.iter().map(|row| row.try_get(0).map_err(|error| Sqlite::failed(&address.name, error))).collect()
}

#[async_trait]
impl Engine for SqliteEngine {
    fn name(&self) -> &str {
        &self.readers.sql.at
    }

    fn records(&self) -> &dyn Records {
        &self.readers
    }

    fn accounting(&self) -> Accounting {
        Accounting::InTransaction
    }

    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError> {
        let at = self.name();
        let writer = self.writer.as_ref().ok_or_else(|| MetaError::ReadOnly { at: at.to_owned() })?;
        // The write lock is taken at once: taking it at the first write could fail after reads that others outdated.
        let txn = writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| Sqlite::failed(at, error))?;
        Ok(Box::new(Session { link: SqliteTxn(Mutex::new(txn)), sql: self.readers.sql.clone() }))
    }

    async fn close(&self) {
        self.readers.link.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }
}
