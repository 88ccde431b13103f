//! Connections to a server.
//!
//! sqlx's own pool asks the server before it takes a connection back, one more round trip for each statement, and cannot
//! tell a server that is gone from a pool that is full. Here a connection comes back if its last statement ended, is
//! replaced if it turns out to be gone, and is thrown away if a caller left in the middle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use shoal_runtime::{clock, task};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::args::Args;
use crate::driver::{Answer, AnswerOf, Server, Want};
use crate::failure::Failure;
use crate::link::{Link, RowOf};
use crate::script::{Names, Script};

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
    idle: Mutex<Vec<Live<D>>>,
    /// The server took a connection once, so that it can be expected to come back.
    served: AtomicBool,
}

/// A connection.
struct Live<D: Server> {
    connection: D::Connection,
    /// What scripts have prepared on it.
    names: Names,
}

/// A connection on loan.
pub(crate) struct Lease<D: Server> {
    /// `None` only while it is given back.
    live: Option<Live<D>>,
    pool: Arc<Inner<D>>,
    permit: Option<OwnedSemaphorePermit>,
    /// A statement was begun whose end was not seen.
    busy: bool,
    /// A transaction is open.
    pub(crate) open: bool,
}

impl<D: Server> Pool<D> {
    /// A pool without connections.
    pub(crate) fn new(options: <D::Connection as Connection>::Options, limits: PoolLimits) -> Pool<D> {
        let permits = Arc::new(Semaphore::new(limits.connections_max));
        let (idle, served) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        Pool { inner: Arc::new(Inner { options, limits, permits, idle, served }) }
    }

    /// Closes every connection; those on loan when they come back.
    pub(crate) async fn close(&self) {
        self.inner.permits.close();
        let idle = std::mem::take(&mut *self.inner.idle.lock());
        for live in idle {
            // What cannot be closed in order is closed all the same.
            live.connection.close().await.ok();
        }
    }

    /// A connection, which a server that went away is waited for.
    pub(crate) async fn lease(&self, reuse: Reuse) -> Result<Lease<D>, sqlx::Error> {
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
        let live = match idle {
            Some(live) => live,
            None => Live { connection: Box::pin(connect::<D>(pool)).await?, names: Names::new() },
        };
        let pool = pool.clone();
        Ok(Lease { live: Some(live), pool, permit: Some(permit), busy: false, open: false })
    }
}

/// Which connections will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// One that is idle.
    Idle,
    /// Only a new one: an idle one turned out to be gone.
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
    /// What scripts have prepared on the connection.
    pub(crate) fn names(&self) -> &Names {
        &self.live.as_ref().expect(LEASED).names
    }

    /// Runs a statement, prepared once for each connection.
    pub(crate) async fn run(&mut self, text: &Arc<str>, args: &Args<'_>) -> Result<AnswerOf<D>, Failure> {
        let arguments = D::bind(args.values()?).map_err(sqlx::Error::Encode)?;
        let Live { connection, .. } = self.begin_statement()?;
        let done = in_time(Box::pin(D::run(connection, text, arguments))).await;
        Ok(self.end_statement(done)?)
    }

    /// Runs a statement that is not worth preparing.
    pub(crate) async fn run_once(&mut self, text: &str) -> Result<(), sqlx::Error> {
        let Live { connection, .. } = self.begin_statement()?;
        let done = in_time(Box::pin(D::run_once(connection, text))).await;
        self.end_statement(done)
    }

    /// Runs a script, after which a transaction is open; gives what each step gave. An error comes with the step that failed, if one did.
    pub(crate) async fn tell(&mut self, script: Script) -> Result<Vec<AnswerOf<D>>, (Option<usize>, sqlx::Error)> {
        let mut answers = Vec::with_capacity(script.results().len());
        let live = self.begin_statement().map_err(|error| (None, error))?;
        let done = in_time(Box::pin(D::run_script(&mut live.connection, script.sql(), &mut answers))).await;
        self.open = true;
        let done = match answers.len() == script.results().len() || done.is_err() {
            true => done,
            false => Err(sqlx::Error::Protocol("the server did not answer every statement".to_owned())),
        };
        let stopped_at = script.stopped_at(answers.len());
        let results: Vec<bool> = script.results().map(|step| step.is_some()).collect();
        let prepared = script.prepared(answers.len());
        self.live.as_mut().expect(LEASED).names.extend(prepared);
        self.end_statement(done).map_err(|error| (stopped_at, error))?;
        Ok(answers.into_iter().zip(results).filter(|(_, wanted)| *wanted).map(|(answer, _)| answer).collect())
    }

    /// The connection, for a statement. One whose caller left in the middle of the last is of no more use.
    fn begin_statement(&mut self) -> Result<&mut Live<D>, sqlx::Error> {
        if self.busy {
            return Err(sqlx::Error::Protocol("a statement was left in the middle".to_owned()));
        }
        self.busy = true;
        Ok(self.live.as_mut().expect(LEASED))
    }

    fn end_statement<T>(&mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.busy = done.as_ref().is_err_and(|error| !ended::<D>(error));
        done
    }
}

/// Why a lease has a connection.
const LEASED: &str = "a lease has its connection until it is dropped";

/// Statements come boxed: sqlx's futures are large, and callers nest them deeply.
async fn in_time<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    clock::timeout(STATEMENT_PATIENCE, statement).await.unwrap_or_else(|_| {
        let what = format!("it did not answer within {} s", STATEMENT_PATIENCE.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what)))
    })
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
        let (Some(mut live), Some(permit)) = (self.live.take(), self.permit.take()) else { return };
        let pool = self.pool.clone();
        match (self.busy, self.open, tokio::runtime::Handle::try_current()) {
            (true, ..) | (_, true, Err(_)) => {}
            (false, false, _) => pool.give_back(live, permit),
            (false, true, Ok(_)) => {
                task::spawn("meta-sql-rollback", async move {
                    if in_time(D::run_once(&mut live.connection, "ROLLBACK")).await.is_ok() {
                        pool.give_back(live, permit);
                    }
                });
            }
        }
    }
}

impl<D: Server> Inner<D> {
    fn give_back(&self, live: Live<D>, permit: OwnedSemaphorePermit) {
        if !self.permits.is_closed() {
            self.idle.lock().push(live);
        }
        drop(permit);
    }
}

/// Any connection: each statement sees the newest commit. Reads on a connection that is gone are asked again.
impl<D: Server> Link for Pool<D> {
    type Driver = D;

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<RowOf<Self>>, Failure> {
        let done = self.lease(Reuse::Idle).await?.run(text, args).await;
        match done {
            Err(Failure::Server(error)) if D::lost(&error) && matches!(want, Want::Rows | Want::Row) => {
                self.lease(Reuse::None).await?.run(text, args).await
            }
            done => done,
        }
    }
}
