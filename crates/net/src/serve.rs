//! Answers peers: takes their connections, reads their requests, runs the handlers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Incoming, SendStream, ServerConfig};
use rustls::pki_types::CertificateDer;
use shoal_runtime::{clock, task};
use shoal_wire::{FrameHeader, FrameKind, GetRequest, Request, Response, Status, WireError};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::failure;
use crate::gossip;
use crate::identity::PeerIdentity;
use crate::inbound::Inbound;
use crate::limits::{
    GET_HANDLER_TIMEOUT, HANDSHAKE_TIMEOUT, MAX_CALLS, MAX_GETS, MAX_HANDLERS_PER_CONNECTION, MAX_HANDSHAKES,
    MAX_INBOUND, PROVE_ADDRESS_ABOVE, REQUEST_READ_TIMEOUT,
};
use crate::metrics::{Kind, NetMetrics, Refusal};
use crate::service::Service;
use crate::sink::{GetSink, ResponseSink};
use crate::tracker::{Direction, Tracker};
use crate::transport::Transports;
use crate::x509;

/// What a caller reads whose request is turned away.
const BUSY: &str = "this node has too many requests, or is stopping";

/// What every task of the answering side shares.
pub(crate) struct Server {
    service: Arc<dyn Service>,
    metrics: Arc<NetMetrics>,
    tracker: Arc<Tracker>,
    transports: Arc<Transports>,
    handshakes: Arc<Semaphore>,
    gets: Semaphore,
    calls: Semaphore,
    draining: AtomicBool,
}

/// One peer's connection, as its handlers see it.
struct Caller {
    server: Arc<Server>,
    identity: Arc<PeerIdentity>,
    addr: SocketAddr,
}

impl Server {
    pub(crate) fn new(
        service: Arc<dyn Service>,
        metrics: Arc<NetMetrics>,
        tracker: Arc<Tracker>,
        transports: Arc<Transports>,
    ) -> Server {
        Server {
            service,
            metrics,
            tracker,
            transports,
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            gets: Semaphore::new(MAX_GETS as usize),
            calls: Semaphore::new(MAX_CALLS),
            draining: AtomicBool::new(false),
        }
    }

    /// Refuses new requests, and returns when no get is being answered any more or `limit` has passed.
    pub(crate) async fn drain(&self, limit: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        // Past the limit what is still being answered breaks off, which its caller takes as such.
        let _ = clock::timeout(limit, self.gets.acquire_many(MAX_GETS)).await;
    }

    /// Takes connections until the endpoint closes.
    pub(crate) async fn accept(self: Arc<Server>, quinn: quinn::Endpoint, tls: TlsSource) {
        while let Some(incoming) = quinn.accept().await {
            let busy = MAX_HANDSHAKES - self.handshakes.available_permits();
            if busy > PROVE_ADDRESS_ABOVE && !incoming.remote_address_validated() {
                // Fails only for an address that has proved itself.
                let _ = incoming.retry();
                continue;
            }
            let permit = match self.handshakes.clone().try_acquire_owned() {
                Ok(permit) if self.tracker.inbound() < MAX_INBOUND => permit,
                _ => {
                    self.metrics.turned_away.inc();
                    incoming.refuse();
                    continue;
                }
            };
            let (server, tls) = (self.clone(), tls());
            task::spawn("net-connection", async move {
                let connection = server.handshake(incoming, tls).await;
                drop(permit);
                if let Some((connection, identity)) = connection {
                    server.connection(connection, identity).await;
                }
            });
        }
    }

    async fn handshake(&self, incoming: Incoming, tls: Arc<QuicServerConfig>) -> Option<(Connection, PeerIdentity)> {
        let peer = incoming.remote_address();
        let mut config = ServerConfig::with_crypto(tls);
        // A peer's address is its name in the pool and in logs: it stays.
        config.transport_config(self.transports.inbound(peer)).migration(false);
        let connection = async { incoming.accept_with(Arc::new(config))?.await };
        let error = match clock::timeout(HANDSHAKE_TIMEOUT, connection).await {
            Ok(Ok(connection)) => match identity(&connection) {
                Some(identity) => return Some((connection, identity)),
                None => {
                    connection.close(Status::Denied.reset_code().into(), b"no identity");
                    "no identity".to_owned()
                }
            },
            Ok(Err(error)) => {
                if failure::lacks_certificate(&error) {
                    self.metrics.refused(Refusal::NoCertificate);
                } else if failure::is_refusal(&error) {
                    self.metrics.refused(Refusal::ByPeer);
                }
                failure::connection(peer, error).to_string()
            }
            Err(elapsed) => elapsed.to_string(),
        };
        self.metrics.handshake_failures.inc();
        tracing::warn!(%peer, error, "peer's connection refused");
        None
    }

    /// Serves one connection until it ends.
    async fn connection(self: &Arc<Server>, connection: Connection, identity: PeerIdentity) {
        let identity = Arc::new(identity);
        let addr = connection.remote_address();
        let caller = Arc::new(Caller { server: self.clone(), identity: identity.clone(), addr });
        let gossip = gossip::receive(connection.clone(), identity.clone(), self.service.clone(), self.metrics.clone());
        let reason = tokio::select! {
            reason = self.tracker.watch(connection.clone(), Direction::Inbound) => reason,
            // The gossip of a dead connection ends by itself; the reason comes from the watch.
            ((), ()) = async { tokio::join!(gossip, caller.requests(&connection)) } => connection.closed().await,
        };
        tracing::debug!(peer = %identity, %addr, %reason, "connection ended");
    }
}

/// Where the TLS of the next connection comes from: it may be replaced while serving.
pub(crate) type TlsSource = Box<dyn Fn() -> Arc<QuicServerConfig> + Send + Sync>;

fn identity(connection: &Connection) -> Option<PeerIdentity> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    x509::identity(chain.first()?).ok()
}

impl Caller {
    /// Starts a task for every request until the connection ends.
    async fn requests(self: &Arc<Caller>, connection: &Connection) {
        let slots = Arc::new(Semaphore::new(MAX_HANDLERS_PER_CONNECTION));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Ok((outbound, inbound)) = connection.accept_bi().await else { return };
            let caller = self.clone();
            task::spawn("net-request", async move {
                caller.request(outbound, Inbound::new(inbound)).await;
                drop(slot);
            });
        }
    }

    async fn request(&self, outbound: SendStream, mut inbound: Inbound) {
        match clock::timeout(REQUEST_READ_TIMEOUT, read_request(&mut inbound)).await {
            Ok(Ok(Asked::Get(request))) => self.get(outbound, request).await,
            Ok(Ok(Asked::Call(request))) => self.call(outbound, request).await,
            Ok(Err(Unreadable { kind, error })) => self.refuse(outbound, kind, &error).await,
            Err(_) => drop(GetSink::new(outbound, self.addr, self.server.metrics.clone())),
        }
    }

    async fn get(&self, outbound: SendStream, request: GetRequest) {
        let server = &self.server;
        let mut sink = GetSink::new(outbound, self.addr, server.metrics.clone());
        sink.set_class(request.class);
        let limit = match request.deadline_ms {
            0 => GET_HANDLER_TIMEOUT,
            ms => Duration::from_millis(ms.into()),
        };
        let permit = server.permit(&server.gets);
        match &permit {
            Some(_) => {
                let unwanted = sink.unwanted();
                let handler = server.service.get(&self.identity, request, &mut sink);
                let ended = tokio::select! {
                    biased;
                    ended = clock::timeout(limit, handler) => ended.is_ok(),
                    () = unwanted => true,
                };
                if !ended {
                    sink.fail(Status::Timeout, "the request's deadline has passed").await;
                }
            }
            None => sink.fail(Status::Busy, BUSY).await,
        }
        server.metrics.served(Kind::Get, sink.close());
        // A node that stops waits for what its peers have yet to receive.
        sink.delivered().await;
        drop(permit);
    }

    async fn call(&self, outbound: SendStream, request: Request) {
        let server = &self.server;
        let mut sink = ResponseSink::new(outbound, self.addr);
        match server.permit(&server.calls) {
            Some(_permit) => {
                let unwanted = sink.unwanted();
                tokio::select! {
                    biased;
                    () = server.service.call(&self.identity, request, &mut sink) => {}
                    () = unwanted => {}
                }
            }
            None => {
                let (status, message) = (Status::Busy, BUSY.to_owned());
                // The caller sees a broken stream instead, which means the same.
                let _ = sink.send(Response::Error { status, message }).await;
            }
        }
        server.metrics.served(Kind::Call, sink.close());
    }

    /// Answers what is no request of this version in the form its sender may understand.
    async fn refuse(&self, outbound: SendStream, kind: Option<FrameKind>, error: &WireError) {
        let metrics = &self.server.metrics;
        let (status, message) = (Status::from(error.kind()), error.to_string());
        tracing::debug!(peer = %self.identity, %error, "request refused");
        match kind {
            Some(FrameKind::Request) => {
                let mut sink = ResponseSink::new(outbound, self.addr);
                // The caller sees a broken stream instead.
                let _ = sink.send(Response::Error { status, message }).await;
                metrics.served(Kind::Call, sink.close());
            }
            Some(FrameKind::Get) | Some(FrameKind::GetHead | FrameKind::Response) | None => {
                let mut sink = GetSink::new(outbound, self.addr, metrics.clone());
                sink.fail(status, message).await;
                metrics.served(Kind::Get, sink.close());
            }
        }
    }
}

impl Server {
    /// Room for one more request, unless this node is stopping.
    fn permit<'a>(&self, room: &'a Semaphore) -> Option<SemaphorePermit<'a>> {
        let permit = room.try_acquire().ok().filter(|_| !self.draining.load(Ordering::Relaxed));
        if permit.is_none() {
            self.metrics.turned_away.inc();
        }
        permit
    }
}

enum Asked {
    Get(GetRequest),
    Call(Request),
}

/// Bytes that are no request, and what they were meant to be as far as they tell.
struct Unreadable {
    kind: Option<FrameKind>,
    error: WireError,
}

async fn read_request(inbound: &mut Inbound) -> Result<Asked, Unreadable> {
    const CUT: WireError = WireError::Malformed { what: "the request ends too early" };
    let bytes = inbound.header().await.map_err(|_| Unreadable { kind: None, error: CUT })?;
    let kind = FrameHeader::peek_kind(&bytes);
    let unreadable = |error| Unreadable { kind, error };
    let header = FrameHeader::decode(&bytes).map_err(unreadable)?;
    if !matches!(header.kind, FrameKind::Get | FrameKind::Request) {
        return Err(unreadable(WireError::Malformed { what: "an answer instead of a request" }));
    }
    let payload = inbound.payload(header.len as usize).await.map_err(|_| unreadable(CUT))?;
    inbound.end();
    match header.kind {
        FrameKind::Get => GetRequest::decode(&payload).map(Asked::Get).map_err(unreadable),
        _ => Request::decode(&payload).map(Asked::Call).map_err(unreadable),
    }
}
