//! One connection to each peer, made when first wanted and shared by all callers.
//!
//! Concurrent callers share one attempt. A failed attempt is remembered for a pause that doubles with each failure in a row;
//! until it is over callers fail at once, and after it they wait only a moment for the next attempt. A connection that broke
//! is replaced by the next caller.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use shoal_runtime::{clock, rng, task};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::NetError;
use crate::failure;
use crate::limits::{BACKOFF_JITTER, BACKOFF_MAX, BACKOFF_MIN, MAX_PEERS, PROBE_PATIENCE};
use crate::link::{Connection, Socket};
use crate::metrics::NetMetrics;
use crate::tracker::{Direction, Tracker};

/// Code and words of a connection this process closes because it no longer wants it.
const FORGOTTEN: (u32, &[u8]) = (0x5001, b"no longer wanted");

/// Makes connections.
pub(crate) struct Dialer {
    pub socket: Arc<Socket>,
    pub runtime: Handle,
    pub tracker: Arc<Tracker>,
    pub metrics: Arc<NetMetrics>,
    pub connect_timeout: Duration,
}

/// Connections to peers by address.
pub(crate) struct Pool {
    peers: RwLock<HashMap<SocketAddr, Arc<Peer>>>,
    dialer: Arc<Dialer>,
}

/// A connection for one request.
pub(crate) struct Lease {
    pub connection: Connection,
    /// It was made for an earlier request, so the peer may have gone since.
    pub reused: bool,
}

type Outcome = Option<Result<Connection, NetError>>;

struct Peer {
    addr: SocketAddr,
    state: Mutex<PeerState>,
}

struct PeerState {
    slot: Slot,
    /// Failures in a row.
    failures: u32,
}

enum Slot {
    Idle,
    Dialing(watch::Receiver<Outcome>),
    Ready(Connection),
    /// Not asked again before the instant.
    Failed(Instant, NetError),
}

/// What a caller does next.
enum Next {
    Use(Connection),
    Wait { outcome: watch::Receiver<Outcome>, patience: Option<Duration> },
    Fail(NetError),
}

impl Pool {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Pool {
        Pool { peers: RwLock::new(HashMap::new()), dialer }
    }

    /// A connection to `addr`, waiting for one if need be. Callable from any runtime; cancel-safe.
    pub(crate) async fn lease(&self, addr: SocketAddr) -> Result<Lease, NetError> {
        let peer = self.peer(addr);
        let (mut outcome, patience) = match peer.next(&self.dialer) {
            Next::Use(connection) => return Ok(Lease { connection, reused: true }),
            Next::Fail(error) => return Err(error),
            Next::Wait { outcome, patience } => (outcome, patience),
        };
        let settled = outcome.wait_for(Option::is_some);
        let settled = match patience {
            None => settled.await,
            Some(patience) => match clock::timeout(patience, settled).await {
                Ok(settled) => settled,
                Err(_) => return Err(backing_off(addr, "still no answer")),
            },
        };
        match settled.as_deref() {
            Ok(Some(Ok(connection))) => Ok(Lease { connection: connection.clone(), reused: false }),
            Ok(Some(Err(error))) => Err(error.clone()),
            // The attempt was dropped with its runtime.
            Ok(None) | Err(_) => Err(NetError::Closed),
        }
    }

    /// Why `addr` is left alone for now, if it is.
    pub(crate) fn left_alone(&self, addr: SocketAddr) -> Option<NetError> {
        let peer = self.peers.read().get(&addr)?.clone();
        let state = peer.state.lock();
        state.left_alone(addr)
    }

    /// The open connection to `addr`, if there is one now.
    pub(crate) fn ready(&self, addr: SocketAddr) -> Option<Connection> {
        let peer = self.peers.read().get(&addr)?.clone();
        match &peer.state.lock().slot {
            Slot::Ready(connection) if connection.close_reason().is_none() => Some(connection.clone()),
            _ => None,
        }
    }

    /// `connection` to `addr` failed with `error` and is not to be used again; the peer is left alone for a pause.
    pub(crate) fn fail(&self, addr: SocketAddr, connection: &Connection, error: &NetError) {
        let Some(peer) = self.peers.read().get(&addr).cloned() else { return };
        let mut state = peer.state.lock();
        if matches!(&state.slot, Slot::Ready(current) if current.stable_id() == connection.stable_id()) {
            connection.close(FORGOTTEN.0, FORGOTTEN.1);
            state.failed(error.clone());
        }
    }

    /// Closes the connection to `addr` and forgets its failures.
    pub(crate) fn forget(&self, addr: SocketAddr) {
        let Some(peer) = self.peers.write().remove(&addr) else { return };
        let mut state = peer.state.lock();
        if let Slot::Ready(connection) = &state.slot {
            connection.close(FORGOTTEN.0, FORGOTTEN.1);
        }
        state.slot = Slot::Idle;
    }

    fn peer(&self, addr: SocketAddr) -> Arc<Peer> {
        if let Some(peer) = self.peers.read().get(&addr) {
            return peer.clone();
        }
        let mut peers = self.peers.write();
        if peers.len() >= MAX_PEERS {
            peers.retain(|_, peer| matches!(peer.state.lock().slot, Slot::Dialing(_) | Slot::Ready(_)));
        }
        let state = Mutex::new(PeerState { slot: Slot::Idle, failures: 0 });
        peers.entry(addr).or_insert_with(|| Arc::new(Peer { addr, state })).clone()
    }
}

impl Peer {
    fn next(self: &Arc<Peer>, dialer: &Arc<Dialer>) -> Next {
        let mut state = self.state.lock();
        if let Some(error) = state.left_alone(self.addr) {
            return Next::Fail(error);
        }
        match &state.slot {
            Slot::Ready(connection) => match connection.close_reason() {
                None => return Next::Use(connection.clone()),
                Some(reason) => {
                    // A peer that refuses this certificate does so after the connection seemed made: do not insist.
                    let error = failure::connection(self.addr, reason);
                    if matches!(error, NetError::Refused { .. }) {
                        state.failed(error.clone());
                        return Next::Fail(error);
                    }
                }
            },
            Slot::Dialing(outcome) => {
                return Next::Wait { outcome: outcome.clone(), patience: state.patience() };
            }
            Slot::Idle | Slot::Failed(..) => {}
        }
        let (announce, outcome) = watch::channel(None);
        state.slot = Slot::Dialing(outcome.clone());
        task::spawn_on(&dialer.runtime, "net-dial", self.clone().dial(dialer.clone(), announce));
        Next::Wait { outcome, patience: state.patience() }
    }

    /// One attempt, to its end whatever its callers do; then watches over the connection.
    async fn dial(self: Arc<Peer>, dialer: Arc<Dialer>, announce: watch::Sender<Outcome>) {
        let result = dialer.connect(self.addr).await;
        let connection = {
            let mut state = self.state.lock();
            let current = matches!(&state.slot, Slot::Dialing(outcome) if outcome.same_channel(&announce.subscribe()));
            let result = match result {
                Ok(connection) if !current => {
                    connection.close(FORGOTTEN.0, FORGOTTEN.1);
                    Err(backing_off(self.addr, "forgotten while connecting"))
                }
                result => result,
            };
            match &result {
                Ok(connection) => {
                    state.failures = 0;
                    state.slot = Slot::Ready(connection.clone());
                }
                Err(error) if current => state.failed(error.clone()),
                Err(_) => {}
            }
            announce.send_replace(Some(result.clone()));
            result.ok()
        };
        drop(announce);
        if let Some(connection) = connection {
            let reason = dialer.tracker.watch(connection.clone(), Direction::Outbound).await;
            tracing::debug!(peer = %self.addr, %reason, "connection ended");
        }
    }
}

impl PeerState {
    fn left_alone(&self, addr: SocketAddr) -> Option<NetError> {
        match &self.slot {
            Slot::Failed(until, error) if clock::now() < *until => Some(match error {
                NetError::Refused { .. } => error.clone(),
                error => backing_off(addr, &error.to_string()),
            }),
            Slot::Idle | Slot::Dialing(_) | Slot::Ready(_) | Slot::Failed(..) => None,
        }
    }

    fn failed(&mut self, error: NetError) {
        self.failures = self.failures.saturating_add(1);
        let pause = BACKOFF_MIN.saturating_mul(1 << (self.failures - 1).min(16)).min(BACKOFF_MAX);
        self.slot = Slot::Failed(clock::now() + rng::jitter(pause, BACKOFF_JITTER), error);
    }

    fn patience(&self) -> Option<Duration> {
        (self.failures > 0).then_some(PROBE_PATIENCE)
    }
}

impl Dialer {
    /// Runs on the endpoint's runtime.
    async fn connect(&self, peer: SocketAddr) -> Result<Connection, NetError> {
        let limit = self.connect_timeout;
        let connecting = clock::timeout(limit, self.socket.connect(peer));
        let result = connecting.await.unwrap_or(Err(NetError::ConnectTimeout { peer, limit }));
        result.inspect_err(|error| {
            self.metrics.handshake_failures.inc();
            tracing::debug!(%peer, %error, "cannot connect");
        })
    }
}

fn backing_off(peer: SocketAddr, reason: &str) -> NetError {
    NetError::BackingOff { peer, reason: reason.to_owned() }
}
