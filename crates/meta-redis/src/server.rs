//! Requests to the server over a few connections, which carry many requests at once and are replaced when they break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError};
use shoal_meta::MetaError;
use shoal_runtime::clock;
use shoal_types::ErrorKind;

use crate::address::Address;
use crate::connect::Dialer;
use crate::failure::{After, after, failed, unknown_outcome, unreachable};

/// How long a server is asked again that loads its data, and one is looked for that went away or takes over from another: twice what
/// sentinels wait by default before they act.
const NOT_NOW_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries of that.
const NOT_NOW_PAUSE: Duration = Duration::from_millis(100);

/// The server that has the volume.
pub(crate) struct Server {
    dialer: Dialer,
    slots: Vec<Slot>,
    next: AtomicUsize,
    closed: AtomicBool,
}

/// Place of one connection.
#[derive(Default)]
struct Slot {
    live: Mutex<Option<Live>>,
    /// Held while a connection is made; holds how the last attempt failed and when it ended.
    dialing: tokio::sync::Mutex<Option<(Instant, String, ErrorKind)>>,
}

/// What is asked.
#[derive(Clone, Copy)]
enum Request<'a> {
    Read(&'a Pipeline),
    Write(&'a Cmd),
}

impl Request<'_> {
    async fn send<T: FromRedisValue>(self, live: &Live) -> Result<T, RedisError> {
        let mut connection = live.connection.clone();
        match self {
            Request::Read(request) => request.query_async(&mut connection).await,
            Request::Write(command) => command.query_async(&mut connection).await,
        }
    }
}

/// A connection that worked when it was last used.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    /// Tells it from its successors.
    identity: Arc<()>,
}

impl Server {
    /// Connects to the server at `address`.
    pub(crate) async fn connect(address: Address) -> Result<Server, MetaError> {
        let dialer = Dialer::new(address).await?;
        let slots = (0..dialer.connections()).map(|_| Slot::default()).collect();
        let server = Server { dialer, slots, next: AtomicUsize::new(0), closed: AtomicBool::new(false) };
        server.live(0).await?;
        Ok(server)
    }

    /// What messages call the database.
    pub(crate) fn at(&self) -> &str {
        self.dialer.at()
    }

    /// What every key begins with.
    pub(crate) fn prefix(&self) -> String {
        self.dialer.prefix()
    }

    /// The slot whose turn it is.
    pub(crate) fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len()
    }

    /// Reads: asked again once where the connection broke.
    pub(crate) async fn read<T: FromRedisValue>(&self, slot: usize, request: &Pipeline) -> Result<T, MetaError> {
        self.ask(slot, Request::Read(request)).await
    }

    /// Writes: asked again only where it is sure that nothing was done.
    pub(crate) async fn write<T: FromRedisValue>(&self, slot: usize, command: &Cmd) -> Result<T, MetaError> {
        self.ask(slot, Request::Write(command)).await
    }

    /// Asks, and again as long as the server says that it cannot answer now, or that another one has the volume.
    async fn ask<T: FromRedisValue>(&self, slot: usize, request: Request<'_>) -> Result<T, MetaError> {
        let (start, mut was_lost, mut was_elsewhere) = (clock::now(), false, false);
        let is_late = || clock::now().saturating_duration_since(start) >= NOT_NOW_PATIENCE;
        loop {
            let live = match self.live(slot).await {
                Ok(live) => live,
                // It was there, so it is started again, or another takes over.
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) && !is_late() => {
                    clock::sleep(NOT_NOW_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let error = match request.send(&live).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match (after(&error), &request) {
                (After::Refused, _) => return Err(failed(self.at(), &error)),
                (After::NotNow, _) if !is_late() => clock::sleep(NOT_NOW_PAUSE).await,
                (After::NotNow, _) => return Err(failed(self.at(), &error)),
                (After::Elsewhere, _) => {
                    self.replace(slot, &live);
                    if is_late() || (was_elsewhere && !self.dialer.may_move()) {
                        return Err(failed(self.at(), &error));
                    }
                    if was_elsewhere {
                        clock::sleep(NOT_NOW_PAUSE).await;
                    }
                    was_elsewhere = true;
                }
                (After::Lost, Request::Read(_)) => {
                    self.replace(slot, &live);
                    if was_lost || error.is_timeout() {
                        return Err(failed(self.at(), &error));
                    }
                    was_lost = true;
                }
                (After::Lost, Request::Write(_)) => {
                    self.replace(slot, &live);
                    return Err(unknown_outcome(self.at(), &error));
                }
            }
        }
    }

    /// Lets go of every connection; later requests fail.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.slots.iter().for_each(|slot| *slot.live.lock() = None);
    }

    /// The slot's connection, made if there is none. Who waits while another tries shares the outcome.
    async fn live(&self, slot: usize) -> Result<Live, MetaError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(unreachable(self.at(), "it is closed", ErrorKind::Cancelled));
        }
        let (slot, asked) = (&self.slots[slot], clock::now());
        if let Some(live) = slot.live.lock().clone() {
            return Ok(live);
        }
        let mut last_failure = slot.dialing.lock().await;
        if let Some(live) = slot.live.lock().clone() {
            return Ok(live);
        }
        if let Some((_, detail, kind)) = last_failure.as_ref().filter(|(ended, ..)| *ended > asked) {
            return Err(unreachable(self.at(), detail.clone(), *kind));
        }
        match self.dialer.dial().await {
            Ok(connection) => {
                let live = Live { connection, identity: Arc::new(()) };
                *slot.live.lock() = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                if let MetaError::Database { detail, kind, .. } = &error {
                    *last_failure = Some((clock::now(), detail.clone(), *kind));
                }
                Err(error)
            }
        }
    }

    /// Forgets a broken connection, and the others: the server was restarted or the way to it cut.
    fn replace(&self, slot: usize, broken: &Live) {
        let is_broken = |live: &Live| Arc::ptr_eq(&live.identity, &broken.identity);
        let was_current = self.slots[slot].live.lock().as_ref().is_some_and(is_broken);
        if was_current {
            self.slots.iter().for_each(|slot| *slot.live.lock() = None);
        }
    }
}
