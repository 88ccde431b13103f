//! Connections to a server, and transactions on them.
//!
//! sqlx's own pool asks the server before it takes a connection back, one more round trip for each statement, and cannot
//! tell a server that is gone from a pool that is full. Here a connection comes back if its last statement ended, is
//! replaced if it turns out to be gone, and is thrown away if a caller left in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shoal_meta::MetaError;
use shoal_runtime::{clock, task};
use shoal_types::ErrorKind;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::args::Args;
use crate::dialect::Dialect;
use crate::driver::{Answer, Driver, Server, Want};
use crate::failure::Failure;
use crate::link::{Link, RowOf, TxnLink};

/// Longest wait for a statement, the wait for other transactions' locks included: past it the server is taken for gone.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(60);

/// How long a server that was there and went away is waited for: it may be restarted, or another take over from it.
const AWAY_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries to reach it.
const AWAY_PAUSE: Duration = Duration::from_millis(100);

/// What a pool needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    /// Most connections at once.
    pub(crate) connections_max: usize,
    /// Longest wait for one of them to become free.
    pub(crate) patience: Duration,
    /// Longest wait for the server to take a new one.
    pub(crate) connect_timeout: Duration,
}

impl Default for PoolLimits {
    /// For one client among many: a server takes some hundred connections in all.
    fn default() -> PoolLimits {
        PoolLimits { connections_max: 16, patience: Duration::from_secs(30), connect_timeout: Duration::from_secs(10) }
    }
}

impl PoolLimits {
    /// Takes `max_open_conns` of a URL, 1 to 1000.
    pub(crate) fn open(&mut self, value: &str) -> Option<()> {
        self.connections_max = value.parse().ok().filter(|max| (1..=1000).contains(max))?;
        Some(())
    }
}

/// Connections to one server's database. Cheap to clone.
pub(crate) struct Pool<D: Server> {
    inner: Arc<Inner<D>>,
}

impl<D: Server> Clone for Pool<D> {
    fn clone(&self) -> Self {
        Pool { inner: self.inner.clone() }
    }
}

struct Inner<D: Server> {
    options: <D::Connection as Connection>::Options,
    limits: PoolLimits,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<D::Connection>>,
    /// The server took a connection once, so that it can be expected to come back.
    served: AtomicBool,
}

/// A connection on loan.
struct Lease<D: Server> {
    /// `None` only while it is given back.
    connection: Option<D::Connection>,
    pool: Arc<Inner<D>>,
    permit: Option<OwnedSemaphorePermit>,
    /// A statement was begun whose end was not seen.
    busy: bool,
    /// A transaction is open.
    open: bool,
}

impl<D: Server> Pool<D> {
    /// A pool without connections.
    pub(crate) fn new(options: <D::Connection as Connection>::Options, limits: PoolLimits) -> Pool<D> {
        let permits = Arc::new(Semaphore::new(limits.connections_max));
        let (idle, served) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        Pool { inner: Arc::new(Inner { options, limits, permits, idle, served }) }
    }

    /// Begins a transaction. Connections that turn out to be gone are replaced: nothing was begun on them.
    pub(crate) async fn begin(&self) -> Result<ServerTxn<D>, sqlx::Error> {
        let mut lease = self.lease(Reuse::Idle).await?;
        let mut begun = lease.run_once(D::BEGIN).await;
        if begun.as_ref().is_err_and(D::lost) {
            drop(lease);
            lease = self.lease(Reuse::None).await?;
            begun = lease.run_once(D::BEGIN).await;
        }
        begun?;
        lease.open = true;
        Ok(ServerTxn { lease: tokio::sync::Mutex::new(lease), broken: AtomicBool::new(false) })
    }

    /// Closes every connection; those on loan when they come back.
    pub(crate) async fn close(&self) {
        self.inner.permits.close();
        let idle = std::mem::take(&mut *self.inner.idle.lock());
        for connection in idle {
            // What cannot be closed in order is closed all the same.
            connection.close().await.ok();
        }
    }

    /// A connection, which a server that went away is waited for.
    async fn lease(&self, reuse: Reuse) -> Result<Lease<D>, sqlx::Error> {
        let (began, mut reuse) = (clock::now(), reuse);
        loop {
            match self.lease_once(reuse).await {
                Err(error)
                    if self.may_come_back(&error) && clock::now().saturating_duration_since(began) < AWAY_PATIENCE =>
                {
                    // What others connected meanwhile is new.
                    reuse = Reuse::Idle;
                    clock::sleep(AWAY_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    fn may_come_back(&self, error: &sqlx::Error) -> bool {
        D::lost(error) && !matches!(error, sqlx::Error::Tls(_)) && self.inner.served.load(Ordering::Relaxed)
    }

    async fn lease_once(&self, reuse: Reuse) -> Result<Lease<D>, sqlx::Error> {
        let pool = &self.inner;
        let permit = match clock::timeout(pool.limits.patience, pool.permits.clone().acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| sqlx::Error::PoolClosed)?,
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        let idle = match reuse {
            Reuse::Idle => pool.idle.lock().pop(),
            // One was gone: the others are as old, and the server was restarted or the way to it cut.
            Reuse::None => {
                let old = std::mem::take(&mut *pool.idle.lock());
                drop(old);
                None
            }
        };
        let connection = match idle {
            Some(connection) => connection,
            None => Box::pin(connect::<D>(pool)).await?,
        };
        let pool = pool.clone();
        Ok(Lease { connection: Some(connection), pool, permit: Some(permit), busy: false, open: false })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Idle,
    None,
}

async fn connect<D: Server>(pool: &Inner<D>) -> Result<D::Connection, sqlx::Error> {
    let timeout = pool.limits.connect_timeout;
    let connect = async {
        let mut connection = pool.options.connect().await?;
        if !D::GREETING.is_empty() {
            D::run_once(&mut connection, D::GREETING).await?;
        }
        pool.served.store(true, Ordering::Relaxed);
        Ok(connection)
    };
    clock::timeout(timeout, connect).await.unwrap_or_else(|_| {
        let what = format!("it did not answer a new connection within {} s", timeout.as_secs_f64());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what)))
    })
}

impl<D: Server> Lease<D> {
    async fn run(
        &mut self,
        want: Want,
        text: &Arc<str>,
        args: &Args<'_>,
    ) -> Result<Answer<<D as Driver>::Row>, Failure> {
        let arguments = D::bind(args.values()?).map_err(sqlx::Error::Encode)?;
        self.busy = true;
        let connection = self.connection.as_mut().expect("a lease has its connection until it is dropped");
        let done = in_time(Box::pin(D::run(connection, want, text, arguments))).await;
        self.busy = done.as_ref().is_err_and(|error| !ended::<D>(error));
        Ok(done?)
    }

    async fn run_once(&mut self, text: &str) -> Result<(), sqlx::Error> {
        self.busy = true;
        let connection = self.connection.as_mut().expect("a lease has its connection until it is dropped");
        let done = in_time(Box::pin(D::run_once(connection, text))).await;
        self.busy = done.as_ref().is_err_and(|error| !ended::<D>(error));
        done
    }
}

/// Statements come boxed: sqlx's futures are large, and callers nest them deeply.
async fn in_time<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    clock::timeout(STATEMENT_PATIENCE, statement).await.unwrap_or_else(|_| {
        let what = format!("it did not answer within {} s", STATEMENT_PATIENCE.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what)))
    })
}

/// True if the connection is gone.
fn lost<D: Server>(failure: &Failure) -> bool {
    matches!(failure, Failure::Server(error) if D::lost(error))
}

/// True if the server itself refused the statement and goes on serving the connection, or the statement was never sent.
fn ended<D: Server>(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => !D::ends_connection(error.as_ref()),
        sqlx::Error::Encode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::RowNotFound => true,
        _ => false,
    }
}

impl<D: Server> Drop for Lease<D> {
    fn drop(&mut self) {
        let (Some(mut connection), Some(permit)) = (self.connection.take(), self.permit.take()) else { return };
        let pool = self.pool.clone();
        match (self.busy, self.open, tokio::runtime::Handle::try_current()) {
            (true, ..) | (_, true, Err(_)) => {}
            (false, false, _) => pool.give_back(connection, permit),
            (false, true, Ok(_)) => {
                task::spawn("meta-sql-rollback", async move {
                    if in_time(D::run_once(&mut connection, "ROLLBACK")).await.is_ok() {
                        pool.give_back(connection, permit);
                    }
                });
            }
        }
    }
}

impl<D: Server> Inner<D> {
    fn give_back(&self, connection: D::Connection, permit: OwnedSemaphorePermit) {
        if !self.permits.is_closed() {
            self.idle.lock().push(connection);
        }
        drop(permit);
    }
}

/// Any connection: each statement sees the newest commit. Reads on a connection that is gone are asked again.
impl<D: Server> Link for Pool<D> {
    type Driver = D;

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<RowOf<Self>>, Failure> {
        let done = self.lease(Reuse::Idle).await?.run(want, text, args).await;
        match done {
            Err(error) if lost::<D>(&error) && matches!(want, Want::Rows | Want::Row) => {
                self.lease(Reuse::None).await?.run(want, text, args).await
            }
            done => done,
        }
    }
}

/// One transaction.
pub(crate) struct ServerTxn<D: Server> {
    lease: tokio::sync::Mutex<Lease<D>>,
    /// A statement failed after which the server commits nothing of the transaction.
    broken: AtomicBool,
}

impl<D: Server> Link for ServerTxn<D> {
    type Driver = D;

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<RowOf<Self>>, Failure> {
        let done = self.lease.lock().await.run(want, text, args).await;
        // PostgreSQL answers COMMIT with success after a failed statement, and undoes everything.
        if done.as_ref().is_err_and(|error| lost::<D>(error) || D::DIALECT == Dialect::Postgres) {
            self.broken.store(true, Ordering::Relaxed);
        }
        done
    }

    /// Without its connection the transaction is undone, so it may run again.
    fn failed(&self, at: &str, error: Failure) -> MetaError {
        match lost::<D>(&error) {
            true => MetaError::Contended { at: at.to_owned() },
            false => D::failed(at, error),
        }
    }
}

impl<D: Server> TxnLink for ServerTxn<D> {
    async fn run_once(&self, texts: &[String]) -> Result<(), Failure> {
        let mut lease = self.lease.lock().await;
        if D::DIALECT == Dialect::Postgres {
            // Two that create tables at once would fail in its catalogue. The number stands for "shoal".
            lease.run_once("SELECT pg_advisory_xact_lock(495623497068)").await?;
        }
        for text in texts {
            lease.run_once(text).await?;
        }
        if D::DIALECT == Dialect::MySql {
            // There, statements that create tables commit; what follows them is a transaction again.
            lease.run_once(D::BEGIN).await?;
        }
        Ok(())
    }

    async fn commit(self, at: &str) -> Result<(), MetaError> {
        let mut lease = self.lease.into_inner();
        if self.broken.into_inner() {
            return Err(MetaError::Contended { at: at.to_owned() });
        }
        match lease.run_once("COMMIT").await {
            Ok(()) => {
                lease.open = false;
                Ok(())
            }
            Err(error) if D::lost(&error) => Err(MetaError::Database {
                at: at.to_owned(),
                detail: "the connection was lost while it committed, so the change may have been made or not"
                    .to_owned(),
                kind: ErrorKind::Unavailable,
            }),
            Err(error) => Err(D::failed(at, error.into())),
        }
    }
}
