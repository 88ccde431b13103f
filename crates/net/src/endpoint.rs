//! One UDP socket that asks peers and answers them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::crypto::rustls::QuicServerConfig;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_wire::{GetHead, GetRequest, Request, Response};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::ask::Asker;
use crate::body::{GetReply, ResponseStream};
use crate::credentials::Credentials;
use crate::error::NetError;
use crate::gossip::Gossiper;
use crate::identity::Role;
use crate::limits::{DRAIN_TIMEOUT, GOODBYE_TIMEOUT};
use crate::metrics::NetMetrics;
use crate::pool::{Dialer, Pool};
use crate::serve::Server;
use crate::service::Service;
use crate::thread::{self, Driver, Stop};
use crate::tls::Tls;
use crate::tracker::Tracker;
use crate::transport::{MtuChoice, Transports};

/// Code and words of an endpoint that closes.
const CLOSING: (u32, &[u8]) = (0x5000, b"closing");

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
            connect_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(10),
        }
    }
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
    quinn: quinn::Endpoint,
    runtime: Handle,
    asker: Arc<Asker>,
    gossiper: Gossiper,
    dialer: Arc<Dialer>,
    server_tls: Arc<RwLock<Arc<QuicServerConfig>>>,
    server: Mutex<Option<Arc<Server>>>,
    stop: Mutex<Option<oneshot::Sender<Stop>>>,
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
        let tracker = Arc::new(Tracker::new(metrics.clone()));
        let scraped = Arc::downgrade(&tracker);
        registry.on_scrape(move || {
            if let Some(tracker) = scraped.upgrade() {
                tracker.scrape();
            }
        });
        let dialer = Arc::new(Dialer {
            quinn: quinn.clone(),
            runtime: runtime.clone(),
            tls: RwLock::new(tls.client),
            transports,
            tracker,
            metrics: metrics.clone(),
            connect_timeout: config.connect_timeout,
        });
        let asker = Arc::new(Asker {
            pool: Pool::new(dialer.clone()),
            metrics,
            answer_timeout: config.answer_timeout,
            body_idle_timeout: config.body_idle_timeout,
        });
        tracing::debug!(addr = %local, identity = %config.credentials.identity(), "network endpoint bound");
        Ok(Endpoint(Arc::new(Inner {
            local,
            role: config.credentials.identity().role,
            quinn,
            gossiper: Gossiper::new(asker.clone(), runtime.clone()),
            runtime,
            asker,
            dialer,
            server_tls: Arc::new(RwLock::new(tls.server)),
            server: Mutex::new(None),
            stop: Mutex::new(Some(stop)),
            ended,
        })))
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
        let Dialer { metrics, tracker, transports, .. } = inner.dialer.as_ref();
        let server = Arc::new(Server::new(service, metrics.clone(), tracker.clone(), transports.clone()));
        let tls = inner.server_tls.clone();
        inner.quinn.set_server_config(Some(quinn::ServerConfig::with_crypto(tls.read().clone())));
        let accept = server.clone().accept(inner.quinn.clone(), Box::new(move || tls.read().clone()));
        task::spawn_on(&inner.runtime, "net-accept", accept);
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
    pub async fn fetch(&self, peer: SocketAddr, request: GetRequest) -> Result<(GetHead, Bytes), NetError> {
        let asker = self.0.asker.clone();
        let mut task = AbortOnDrop(task::spawn_on(&self.0.runtime, "net-fetch", async move {
            let reply = asker.get(peer, &request).await?;
            Ok((reply.head, reply.body.collect().await?))
        }));
        // A task without a result was dropped with its runtime.
        (&mut task.0).await.unwrap_or(Err(NetError::Closed))
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
        *self.0.dialer.tls.write() = tls.client;
        *self.0.server_tls.write() = tls.server;
        Ok(())
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
            inner.quinn.close(CLOSING.0.into(), CLOSING.1);
            // A peer that does not acknowledge finds out by itself.
            let _ = clock::timeout(GOODBYE_TIMEOUT, inner.quinn.wait_idle()).await;
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

/// A task nobody waits for any more is dropped.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The thread ends when `stop` is dropped with the rest.
        self.quinn.close(CLOSING.0.into(), CLOSING.1);
    }
}
