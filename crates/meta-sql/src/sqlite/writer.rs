//! Writes: one connection, one transaction at a time.
//!
//! SQLite has one write lock; queueing for the one connection is fair and cheap, queueing for the lock is polling.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex as SyncMutex;
use rusqlite::Connection;
use shoal_meta::MetaError;
use shoal_runtime::{clock, task};
use shoal_types::ErrorKind;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::CONNECTION_PATIENCE;
use super::connection::{Purpose, Sqlite, SqliteRow, connect, has_wal, run};
use super::patience::patiently;
use crate::address::sqlite::SqliteAddress;
use crate::args::Args;
use crate::driver::{Answer, Driver, Want};
use crate::failure::Failure;
use crate::link::{Link, TxnLink};

/// Commits between two looks at the length of the log.
const LOOK_EVERY: u32 = 64;
/// Length of the log in bytes from which its pages are copied into the database, beside the writers: what SQLite's own bound is by
/// default.
const LOG_LONG: u64 = 4 << 20;
/// Length from which writers wait for that, so that the log is begun anew at last.
const LOG_TOO_LONG: u64 = 64 << 20;

/// The connection that writes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Inner>);

struct Inner {
    address: SqliteAddress,
    /// `None` until the first transaction, and once it is closed.
    connection: Arc<Mutex<Option<Connection>>>,
    /// Where the write-ahead log is, if the database keeps one.
    log: PathBuf,
    /// It does; known once there is a connection.
    logs: AtomicBool,
    closed: AtomicBool,
    commits: AtomicU32,
    /// Pages of the log are being copied into the database.
    copying: AtomicBool,
}

impl Writer {
    /// A writer of the database at `address`; it connects with its first transaction.
    pub(crate) fn new(address: &SqliteAddress) -> Writer {
        let mut log = address.path.clone().into_os_string();
        log.push("-wal");
        Writer(Arc::new(Inner {
            address: address.clone(),
            connection: Arc::default(),
            log: log.into(),
            logs: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            commits: AtomicU32::new(0),
            copying: AtomicBool::new(false),
        }))
    }

    /// Begins a transaction. The write lock is taken at once: taking it at the first write could fail after reads that others outdated.
    pub(crate) async fn begin(&self) -> Result<SqliteTxn, Failure> {
        let turn = clock::timeout(CONNECTION_PATIENCE, self.0.connection.clone().lock_owned()).await;
        let mut turn = turn.map_err(|_| Failure::Busy)?;
        if self.0.closed.load(Ordering::Acquire) {
            return Err(Failure::Closed);
        }
        let connection = match turn.take() {
            Some(connection) => turn.insert(connection),
            None => turn.insert(self.connect()?),
        };
        let begin = |connection: &Connection| run(connection, Want::Count, "BEGIN IMMEDIATE", &[]);
        patiently(connection, self.0.address.busy_timeout, begin).await?;
        Ok(SqliteTxn { open: SyncMutex::new(Some(turn)), writer: self.clone() })
    }

    /// Waits until every commit so far outlives a loss of power.
    pub(crate) async fn sync(&self) -> Result<(), MetaError> {
        let log = self.0.log.clone();
        let synced = task::blocking("sqlite-sync", move || match File::open(&log) {
            Ok(file) => file.sync_data(),
            // There is none, or its pages were copied into the database: SQLite has synced that.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        });
        synced.await.map_err(|error| MetaError::Database {
            at: self.0.address.name.clone(),
            detail: format!("its log cannot be synced: {error}"),
            kind: ErrorKind::of_io(&error),
        })
    }

    /// Closes the connection once the transaction that has it ends.
    pub(crate) async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        let connection = self.0.connection.lock().await.take();
        // The last connection to close copies the log into the database.
        task::blocking("sqlite-close", move || drop(connection)).await;
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = connect(&self.0.address, Purpose::Write)?;
        if has_wal(&connection)? {
            // A commit is appended and not synced, as with real clients; who needs it durable calls `sync`. The log is copied into the
            // database beside the writers, not by the one whose commit happens to make it long.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "wal_autocheckpoint", 0)?;
            self.0.logs.store(true, Ordering::Release);
            self.sync_directory();
        }
        Ok(connection)
    }

    /// The log's name outlives a loss of power. SQLite sees to that only when it syncs the log itself.
    fn sync_directory(&self) {
        let directory = self.0.address.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced = File::open(directory.unwrap_or(".".as_ref())).and_then(|directory| directory.sync_all());
        if let Err(error) = synced {
            tracing::warn!(at = %self.0.address.name, %error, "the database's directory cannot be synced");
        }
    }

    /// Copies pages of a long log into the database. `turn` is what the next writer waits for.
    fn tend_log(&self, turn: OwnedMutexGuard<Option<Connection>>) {
        if !(self.0.commits.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(LOOK_EVERY) {
            return;
        }
        let length = self.0.log.metadata().map_or(0, |meta| meta.len());
        if length < LOG_LONG || self.0.copying.swap(true, Ordering::AcqRel) {
            return;
        }
        let turn = (length >= LOG_TOO_LONG).then_some(turn);
        let writer = self.clone();
        drop(task::spawn("sqlite-checkpoint", async move {
            let copy = writer.clone();
            let copied = task::blocking("sqlite-checkpoint", move || copy.copy_log()).await;
            drop(turn);
            writer.0.copying.store(false, Ordering::Release);
            if let Err(error) = copied {
                tracing::warn!(at = %writer.0.address.name, %error, "the database's log stays long for now");
            }
        }));
    }

    fn copy_log(&self) -> rusqlite::Result<()> {
        let connection = connect(&self.0.address, Purpose::Write)?;
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
    }
}

/// The transaction that writes a SQLite database.
pub(crate) struct SqliteTxn {
    /// The connection, until the transaction ended. Never locked over a wait.
    open: SyncMutex<Option<OwnedMutexGuard<Option<Connection>>>>,
    writer: Writer,
}

impl SqliteTxn {
    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Failure> {
        let open = self.open.lock();
        let connection = open.as_ref().and_then(|turn| turn.as_ref()).ok_or(Failure::Closed)?;
        Ok(work(connection)?)
    }
}

impl Link for SqliteTxn {
    type Driver = Sqlite;

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<SqliteRow>, Failure> {
        let values = args.values()?;
        self.with(|connection| run(connection, want, text, values))
    }
}

impl TxnLink for SqliteTxn {
    async fn run_once(&self, texts: &[String]) -> Result<(), Failure> {
        self.with(|connection| texts.iter().try_for_each(|text| connection.execute_batch(text)))
    }

    async fn commit(self, at: &str) -> Result<(), MetaError> {
        let failed = |failure: Failure| Sqlite::failed(at, failure);
        let turn = self.open.lock().take().ok_or_else(|| failed(Failure::Closed))?;
        let patience = self.writer.0.address.busy_timeout;
        let (turn, done) = if self.writer.0.logs.load(Ordering::Acquire) {
            let done = end(&turn);
            (turn, done)
        } else {
            // Without a log it waits for readers and for the disk.
            task::blocking("sqlite-commit", move || {
                let done = end_patiently(&turn, patience);
                (turn, done)
            })
            .await
        };
        done.map_err(failed)?;
        self.writer.tend_log(turn);
        Ok(())
    }
}

impl Drop for SqliteTxn {
    fn drop(&mut self) {
        if let Some(turn) = self.open.lock().take() {
            undo(&turn);
        }
    }
}

/// Commits; what cannot be committed is undone.
fn end(turn: &OwnedMutexGuard<Option<Connection>>) -> Result<(), Failure> {
    let connection = turn.as_ref().ok_or(Failure::Closed)?;
    let done = run(connection, Want::Count, "COMMIT", &[]);
    if done.is_err() {
        undo(turn);
    }
    Ok(done.map(drop)?)
}

/// The same with SQLite waiting for other programs' locks itself.
fn end_patiently(turn: &OwnedMutexGuard<Option<Connection>>, patience: Duration) -> Result<(), Failure> {
    let connection = turn.as_ref().ok_or(Failure::Closed)?;
    connection.busy_timeout(patience)?;
    let done = end(turn);
    connection.busy_timeout(Duration::ZERO)?;
    done
}

/// Undoes what the connection's transaction did, if it is still open: some errors end it.
fn undo(turn: &OwnedMutexGuard<Option<Connection>>) {
    let Some(connection) = turn.as_ref().filter(|connection| !connection.is_autocommit()) else { return };
    if let Err(error) = run(connection, Want::Count, "ROLLBACK", &[]) {
        tracing::error!(%error, "a transaction cannot be undone; the database is as if it were locked until this program ends");
    }
}
