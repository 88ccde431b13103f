//! One UDP socket that asks peers and answers them.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_wire::{GetHead, GetMany, GetRequest, Request, Response};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::ask::Asker;
use crate::body::{GetReply, ResponseStream};
use crate::credentials::Credentials;
use crate::error::NetError;
use crate::gossip::Gossiper;
use crate::identity::Role;
use crate::limits::{DRAIN_TIMEOUT, GOODBYE_TIMEOUT};
use crate::link::{QuicSocket, Socket};
use crate::many::ManyReply;
use crate::metrics::NetMetrics;
use crate::pool::{Dialer, Pool};
use crate::serve::Server;
use crate::service::Service;
use crate::thread::{self, Driver, Stop};
use crate::tls::Tls;
use crate::tracker::Tracker;
use crate::transport::{MtuChoice, Transports};

/// Configuration of an [`Endpoint`].
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Address to bind; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Who this process is.
    pub credentials: Credentials,
    /// How large packets to peers beyond this machine may be.
    pub mtu: MtuChoice,
    /// Longest wait for a connection. Default 2 s: a live peer answers within one lost packet and its retransmission.
    pub connect_timeout: Duration,
    /// Longest wait for an answer to begin when the request has no deadline. Default 10 s: a miss waits for the origin.
    pub answer_timeout: Duration,
    /// Longest wait for the next bytes of a body. Default 10 s.
    pub body_idle_timeout: Duration,
}

impl EndpointConfig {
    /// The defaults.
    pub fn new(listen: SocketAddr, credentials: Credentials) -> EndpointConfig {
        EndpointConfig {
            listen,
            credentials,
            mtu: MtuChoice::Auto,
            connect_timeout: Timeouts::DEFAULT.connect,
            answer_timeout: Timeouts::DEFAULT.answer,
            body_idle_timeout: Timeouts::DEFAULT.body_idle,
        }
    }
}

/// How long an endpoint waits; see [`EndpointConfig`].
struct Timeouts {
    connect: Duration,
    answer: Duration,
    body_idle: Duration,
}

impl Timeouts {
    const DEFAULT: Timeouts = Timeouts {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(10),
        body_idle: Duration::from_secs(10),
    };
}

/// One UDP socket that asks peers and answers them, driven by a thread of its own. Cheap to clone.
///
/// Every async method may be called from any tokio runtime with a timer. Dropping the last clone closes it in a hurry;
/// [`Endpoint::close`] does so in order. A service that holds a clone keeps it alive until then.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    local: SocketAddr,
    role: Role,
    socket: Arc<Socket>,
    runtime: Handle,
    asker: Arc<Asker>,
    gossiper: Gossiper,
    dialer: Arc<Dialer>,
    server: Mutex<Option<Arc<Server>>>,
    stop: Mutex<Option<oneshot::Sender<Stop>>>,
    ended: watch::Receiver<bool>,
}

/// A way to an endpoint that does not keep it alive: for a service that asks peers itself, and is kept alive by the endpoint.
#[derive(Clone)]
pub struct WeakEndpoint(Weak<Inner>);

impl WeakEndpoint {
    /// The endpoint, unless its last clone is gone.
    pub fn upgrade(&self) -> Option<Endpoint> {
        self.0.upgrade().map(Endpoint)
    }
}

impl std::fmt::Debug for WeakEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WeakEndpoint({:?})", self.upgrade())
    }
}

/// What runs an endpoint: its thread, unless it is simulated.
struct Running {
    runtime: Handle,
    local: SocketAddr,
    stop: oneshot::Sender<Stop>,
    ended: watch::Receiver<bool>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Endpoint({})", self.0.local)
    }
}

impl Endpoint {
    /// Binds the socket and starts the thread. It asks at once; it answers after [`Endpoint::serve`].
    ///
    /// Callable inside and outside of a runtime; blocks for a moment (the first in a process 60 ms). Errors: `Invalid` for a
    /// setting out of bounds; the kind of the operating system's error if the address cannot be bound.
    pub fn bind(config: EndpointConfig, registry: &Registry) -> Result<Endpoint, NetError> {
        let metrics = Arc::new(NetMetrics::register(registry));
        let transports = Arc::new(Transports::new(config.mtu, config.listen.ip())?);
        let tls = Tls::new(&config.credentials, &metrics)?;
        let Driver { quinn, runtime, local, stop, ended } =
            thread::start(config.listen, &config.credentials, &transports)?;
        tracing::debug!(addr = %local, identity = %config.credentials.identity(), "network endpoint bound");
        let driver = Running { runtime, local, stop, ended };
        let socket = Socket::Quic(QuicSocket::new(quinn, transports, tls));
        let timeouts = Timeouts {
            connect: config.connect_timeout,
            answer: config.answer_timeout,
            body_idle: config.body_idle_timeout,
        };
        let role = config.credentials.identity().role;
        metrics.certificate_expiry.set_u64(config.credentials.expires());
        Ok(Endpoint::assemble(socket, driver, role, timeouts, metrics, registry))
    }

    /// An endpoint at `addr` of a simulated network, for simulations, with the default timeouts. It has no thread: its tasks run where
    /// this is called.
    ///
    /// Panics outside a runtime. Errors: `Conflict` if a process has the address.
    #[cfg(feature = "testing")]
    pub fn simulated(
        net: &crate::sim::SimNet,
        addr: SocketAddr,
        identity: crate::PeerIdentity,
        registry: &Registry,
    ) -> Result<Endpoint, NetError> {
        let role = identity.role;
        let socket = Socket::Sim(net.bind(addr, identity)?);
        let (stop, ended) = (oneshot::channel().0, watch::channel(true).1);
        let driver = Running { runtime: Handle::current(), local: addr, stop, ended };
        let metrics = Arc::new(NetMetrics::register(registry));
        Ok(Endpoint::assemble(socket, driver, role, Timeouts::DEFAULT, metrics, registry))
    }

    fn assemble(
        socket: Socket,
        driver: Running,
        role: Role,
        timeouts: Timeouts,
        metrics: Arc<NetMetrics>,
        registry: &Registry,
    ) -> Endpoint {
        let (socket, Running { runtime, local, stop, ended }) = (Arc::new(socket), driver);
        let tracker = Arc::new(Tracker::new(metrics.clone()));
        let scraped = Arc::downgrade(&tracker);
        registry.on_scrape(move || {
            if let Some(tracker) = scraped.upgrade() {
                tracker.scrape();
            }
        });
        let dialer = Arc::new(Dialer {
            socket: socket.clone(),
            runtime: runtime.clone(),
            tracker,
            metrics: metrics.clone(),
            connect_timeout: timeouts.connect,
        });
        let pool = Pool::new(dialer.clone());
        let asker = Asker::new(pool, metrics, &runtime, timeouts.answer, timeouts.body_idle);
        Endpoint(Arc::new(Inner {
            local,
            role,
            socket,
            gossiper: Gossiper::new(asker.clone(), runtime.clone()),
            runtime,
            asker,
            dialer,
            server: Mutex::new(None),
            stop: Mutex::new(Some(stop)),
            ended,
        }))
    }

    /// A way to this endpoint that does not keep it alive.
    pub fn downgrade(&self) -> WeakEndpoint {
        WeakEndpoint(Arc::downgrade(&self.0))
    }

    /// Address the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Answers peers with `service` from now on. The first service stays; a later call changes nothing.
    pub fn serve(&self, service: Arc<dyn Service>) {
        let inner = &self.0;
        let mut slot = inner.server.lock();
        if slot.is_some() {
            return tracing::error!(addr = %inner.local, "a second service for one endpoint is ignored");
        }
        if inner.role != Role::Node {
            tracing::warn!(addr = %inner.local, "peers refuse a service whose certificate is of role client");
        }
        let Dialer { metrics, tracker, .. } = inner.dialer.as_ref();
        let server = Arc::new(Server::new(service, metrics.clone(), tracker.clone()));
        inner.socket.listen();
        task::spawn_on(&inner.runtime, "net-accept", server.clone().accept(inner.socket.clone()));
        *slot = Some(server);
    }

    /// Asks `peer` for bytes of a block; returns with the head of the answer, whatever its status. One attempt, on a pooled
    /// connection.
    ///
    /// Waits for at most the request's deadline, or `answer_timeout` without one. Errors: `Unavailable` if the peer cannot be
    /// reached, at once while it is known to be down; `Timeout`; `Denied` if one side refuses the other's certificate;
    /// `Cancelled` once the endpoint is closed. Cancel-safe: dropping it tells the peer to stop.
    pub async fn get(&self, peer: SocketAddr, request: &GetRequest) -> Result<GetReply, NetError> {
        self.0.asker.get(peer, request).await
    }

    /// As [`Endpoint::get`], and collects the body: all of it on the endpoint's own thread, so that a caller on another thread is
    /// woken once instead of for every packet. The bytes are empty unless the head's status is `Ok`.
    ///
    /// Errors: also those of [`crate::Body`]. Cancel-safe: dropping it tells the peer to stop.
    pub async fn fetch(&self, peer: SocketAddr, request: GetRequest) -> Result<(GetHead, BytesMut), NetError> {
        self.0.asker.fetch(peer, &request).await
    }

    /// Asks `peer` for ranges of many blocks in one request; returns when the first item is answered. The rest follows in order: an
    /// item the peer must fetch first holds back the ones after it.
    ///
    /// Waits for each head as [`Endpoint::get`]; a deadline is for all. Errors: also `Invalid` for a batch over a bound of
    /// [`GetMany`]. Cancel-safe: dropping it tells the peer to stop.
    pub async fn get_many(&self, peer: SocketAddr, many: GetMany) -> Result<ManyReply, NetError> {
        self.0.asker.get_many(peer, &many).await
    }

    /// Asks `peer` something with one answer, waiting at most `timeout`. A [`Response::Error`] becomes an error of its status'
    /// kind; otherwise as [`Endpoint::get`].
    pub async fn call(&self, peer: SocketAddr, request: &Request, timeout: Duration) -> Result<Response, NetError> {
        self.0.asker.call(peer, request, timeout).await
    }

    /// Asks `peer` something with any number of answers; returns once the request is on its way. Errors as [`Endpoint::get`].
    pub async fn call_stream(&self, peer: SocketAddr, request: &Request) -> Result<ResponseStream, NetError> {
        self.0.asker.call_stream(peer, request).await
    }

    /// Sends `data` to `peer` if that can be done without waiting or by one of a bounded number of waiting tasks, else drops
    /// it. At most 1 MiB; never blocks; nobody learns whether it arrived. Only peers that take this process for a node listen.
    pub fn gossip(&self, peer: SocketAddr, data: Bytes) {
        self.0.gossiper.send(peer, data);
    }

    /// Drops the connection to `peer` and what is known of its failures: for a peer that left the ring or came back.
    pub fn forget(&self, peer: SocketAddr) {
        self.0.asker.pool.forget(peer);
    }

    /// Uses `credentials` for connections made from now on; those that are open stay. Errors: `Invalid`.
    pub fn reload(&self, credentials: &Credentials) -> Result<(), NetError> {
        let tls = Tls::new(credentials, &self.0.dialer.metrics)?;
        self.0.socket.reload(tls);
        self.0.dialer.metrics.certificate_expiry.set_u64(credentials.expires());
        Ok(())
    }

    /// Counts an attempt to take new certificates into use.
    pub(crate) fn reloaded(&self, ok: bool) {
        let [used, refused] = &self.0.dialer.metrics.certificate_reloads;
        if ok { used.inc() } else { refused.inc() }
    }

    /// Stops answering, lets gets that are being answered end (2 s), tells every peer, and ends the thread with every task on
    /// [`Endpoint::runtime`]. Later requests fail with `Cancelled`. The port is free once the last clone is dropped. Not for
    /// tasks on that runtime to call.
    pub async fn close(&self) {
        let inner = &self.0;
        let stop = inner.stop.lock().take();
        if let Some(stop) = stop {
            let server = inner.server.lock().take();
            if let Some(server) = server {
                server.drain(DRAIN_TIMEOUT).await;
            }
            inner.socket.close();
            // A peer that does not acknowledge finds out by itself.
            let _ = clock::timeout(GOODBYE_TIMEOUT, inner.socket.wait_idle()).await;
            // Fails only if the thread has ended.
            let _ = stop.send(Stop::Goodbye);
        }
        // Fails only if the thread panicked, and then it has ended too.
        let _ = inner.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Ends the thread as a crash would: nobody is told.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn crash(&self) {
        if let Some(stop) = self.0.stop.lock().take() {
            self.0.socket.crash();
            // Fails only if the thread has ended.
            let _ = stop.send(Stop::Abrupt);
        }
        let _ = self.0.ended.clone().wait_for(|ended| *ended).await;
    }

    /// The endpoint's own runtime: a single thread that moves packets. For short tasks that talk to peers.
    pub fn runtime(&self) -> Handle {
        self.0.runtime.clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The thread ends when `stop` is dropped with the rest.
        self.socket.close();
    }
}
