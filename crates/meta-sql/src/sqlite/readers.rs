//! Reads: any of some connections, each statement on its own.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use shoal_runtime::{clock, task};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::CONNECTION_PATIENCE;
use super::connection::{Purpose, Sqlite, SqliteRow, connect, run};
use super::patience::patiently;
use crate::address::sqlite::SqliteAddress;
use crate::args::{Args, Value};
use crate::driver::{Answer, Want};
use crate::failure::Failure;
use crate::link::Link;

/// Reading connections: SQLite reads in parallel, more than this only queue for CPUs.
const READERS_MAX: usize = 8;

/// Connections that read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Inner>);

struct Inner {
    address: SqliteAddress,
    permits: Arc<Semaphore>,
    /// The one given back last is lent first: it remembers most pages.
    idle: Mutex<Vec<Connection>>,
}

/// A connection on loan.
struct Lease {
    /// `None` only while it is given back.
    connection: Option<Connection>,
    readers: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    /// Readers of the database at `address`; the first connection is made at once.
    pub(crate) fn open(address: &SqliteAddress) -> rusqlite::Result<Readers> {
        let first = connect(address, Purpose::Read)?;
        let permits = Arc::new(Semaphore::new(READERS_MAX));
        Ok(Readers(Arc::new(Inner { address: address.clone(), permits, idle: Mutex::new(vec![first]) })))
    }

    /// Closes every connection; those on loan when they come back.
    pub(crate) fn close(&self) {
        self.0.permits.close();
        self.0.idle.lock().clear();
    }

    /// How long a lock of somebody else is waited for.
    fn busy_timeout(&self) -> Duration {
        self.0.address.busy_timeout
    }

    async fn lease(&self) -> Result<Lease, Failure> {
        let permit = match self.0.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => match clock::timeout(CONNECTION_PATIENCE, self.0.permits.clone().acquire_owned()).await {
                Ok(permit) => permit.map_err(|_| Failure::Closed)?,
                Err(_) => return Err(Failure::Busy),
            },
        };
        let idle = self.0.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.0.address, Purpose::Read)?,
        };
        Ok(Lease { connection: Some(connection), readers: self.0.clone(), _permit: permit })
    }
}

impl Lease {
    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("a lease has its connection until it is dropped")
    }

    fn run(&self, want: Want, text: &str, values: &[Value<'_>]) -> rusqlite::Result<Answer<SqliteRow>> {
        run(self.connection(), want, text, values)
    }

    /// The same connection, which waits for locks itself: on a thread of its own it may.
    fn waiting(&self, patience: Duration) -> rusqlite::Result<&Lease> {
        self.connection().busy_timeout(patience)?;
        Ok(self)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if !self.readers.permits.is_closed() && connection.busy_timeout(Duration::ZERO).is_ok() {
            self.readers.idle.lock().push(connection);
        }
    }
}

/// Each statement sees the newest commit. One for many rows may take long, so it has a thread of its own.
impl Link for Readers {
    type Driver = Sqlite;

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<SqliteRow>, Failure> {
        let values = args.values()?;
        let mut lease = self.lease().await?;
        if want != Want::Rows {
            return Ok(patiently(&mut lease, self.busy_timeout(), |lease| lease.run(want, text, values)).await?);
        }
        let (text, patience) = (text.clone(), self.busy_timeout());
        let values: Vec<Value<'static>> = values.iter().cloned().map(Value::into_owned).collect();
        Ok(task::blocking("sqlite-rows", move || lease.waiting(patience)?.run(want, &text, &values)).await?)
    }
}
