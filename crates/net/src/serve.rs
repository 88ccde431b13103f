//! Answers peers: takes their connections, reads their requests, runs the handlers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::{Incoming, ServerConfig};
use shoal_runtime::{clock, task};
use shoal_types::{BlockSpan, Class, MAX_BLOCK_BYTES};
use shoal_wire::{FrameHeader, FrameKind, GetMany, GetRequest, Request, Response, Status, WireError};
use tokio::sync::Semaphore;

use crate::admission::{Entry, Room, retry_after};
use crate::failure;
use crate::gossip;
use crate::identity::PeerIdentity;
use crate::inbound::Inbound;
use crate::limits::{
    GET_HANDLER_TIMEOUT, HANDSHAKE_TIMEOUT, LONG_REQUEST, MAX_CALLS, MAX_CALLS_PER_CONNECTION, MAX_GET_BYTES,
    MAX_GET_BYTES_PER_CONNECTION, MAX_GETS, MAX_GETS_PER_CONNECTION, MAX_HANDSHAKES, MAX_INBOUND, MAX_LONG_REQUESTS,
    PROVE_ADDRESS_ABOVE, REQUEST_READ_TIMEOUT,
};
use crate::link::{Connection, QuicSocket, SendStream, Socket};
use crate::metrics::{Kind, NetMetrics, Refusal};
use crate::service::Service;
use crate::sink::{BUSY, GetSink, ResponseSink};
use crate::tracker::{Direction, Tracker};
use crate::wait::within;

/// What every task of the answering side shares.
pub(crate) struct Server {
    service: Arc<dyn Service>,
    metrics: Arc<NetMetrics>,
    tracker: Arc<Tracker>,
    handshakes: Arc<Semaphore>,
    gets: Arc<Room>,
    calls: Arc<Semaphore>,
    draining: AtomicBool,
}

/// One peer's connection, as its handlers see it.
struct Caller {
    server: Arc<Server>,
    identity: Arc<PeerIdentity>,
    addr: SocketAddr,
    gets: Arc<Room>,
    calls: Arc<Semaphore>,
    long_requests: Semaphore,
}

impl Server {
    pub(crate) fn new(service: Arc<dyn Service>, metrics: Arc<NetMetrics>, tracker: Arc<Tracker>) -> Server {
        Server {
            service,
            metrics,
            tracker,
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            gets: Room::new(MAX_GETS, MAX_GET_BYTES),
            calls: Arc::new(Semaphore::new(MAX_CALLS)),
            draining: AtomicBool::new(false),
        }
    }

    /// Refuses new requests, and returns when no get is being answered any more or `limit` has passed.
    pub(crate) async fn drain(&self, limit: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        self.gets.close();
        // Past the limit what is still being answered breaks off, which its caller takes as such.
        let _ = clock::timeout(limit, self.gets.empty()).await;
    }

    /// Takes connections until the endpoint closes.
    pub(crate) async fn accept(self: Arc<Server>, socket: Arc<Socket>) {
        match socket.as_ref() {
            Socket::Quic(socket) => self.accept_quic(socket).await,
            #[cfg(feature = "testing")]
            Socket::Sim(host) => {
                let mut incoming = host.listen();
                while let Some(connection) = incoming.recv().await.map(Connection::Sim) {
                    let server = self.clone();
                    task::spawn("net-connection", async move {
                        if let Some(identity) = connection.peer_identity() {
                            server.connection(connection, identity).await;
                        }
                    });
                }
            }
        }
    }

    async fn accept_quic(self: Arc<Server>, socket: &QuicSocket) {
        while let Some(incoming) = socket.endpoint.accept().await {
            let busy = MAX_HANDSHAKES - self.handshakes.available_permits();
            if busy > PROVE_ADDRESS_ABOVE && !incoming.remote_address_validated() {
                // Fails only for an address that has proved itself.
                let _ = incoming.retry();
                continue;
            }
            let permit = match self.handshakes.clone().try_acquire_owned() {
                Ok(permit) if self.tracker.inbound() < MAX_INBOUND => permit,
                _ => {
                    self.metrics.turned_away_connections.inc();
                    incoming.refuse();
                    continue;
                }
            };
            let server = self.clone();
            let mut config = ServerConfig::with_crypto(socket.server_tls());
            // A peer's address is its name in the pool and in logs: it stays.
            config.transport_config(socket.transports.inbound(incoming.remote_address())).migration(false);
            task::spawn("net-connection", async move {
                let connection = server.handshake(incoming, config).await;
                drop(permit);
                if let Some((connection, identity)) = connection {
                    server.connection(connection, identity).await;
                }
            });
        }
    }

    async fn handshake(&self, incoming: Incoming, config: ServerConfig) -> Option<(Connection, PeerIdentity)> {
        let peer = incoming.remote_address();
        let connection = async { incoming.accept_with(Arc::new(config))?.await.map(Connection::Quic) };
        let error = match clock::timeout(HANDSHAKE_TIMEOUT, connection).await {
            Ok(Ok(connection)) => match connection.peer_identity() {
                Some(identity) => return Some((connection, identity)),
                None => {
                    connection.close(Status::Denied.reset_code(), b"no identity");
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
        let caller = Arc::new(Caller {
            server: self.clone(),
            identity: identity.clone(),
            addr,
            gets: Room::new(MAX_GETS_PER_CONNECTION, MAX_GET_BYTES_PER_CONNECTION),
            calls: Arc::new(Semaphore::new(MAX_CALLS_PER_CONNECTION)),
            long_requests: Semaphore::new(MAX_LONG_REQUESTS),
        });
        let gossip = gossip::receive(connection.clone(), identity.clone(), self.service.clone(), self.metrics.clone());
        let reason = tokio::select! {
            biased;
            reason = self.tracker.watch(connection.clone(), Direction::Inbound) => reason,
            // The gossip of a dead connection ends by itself; the reason comes from the watch.
            ((), ()) = async { tokio::join!(gossip, caller.requests(&connection)) } => connection.closed().await,
        };
        tracing::debug!(peer = %identity, %addr, %reason, "connection ended");
    }
}

impl Caller {
    /// Starts a task for every request until the connection ends. The peer's streams are bounded, and each request is admitted or
    /// turned away as soon as it is read: one that waited unread could be more urgent than those being answered.
    async fn requests(self: &Arc<Caller>, connection: &Connection) {
        while let Ok((outbound, inbound)) = connection.accept_bi().await {
            let caller = self.clone();
            task::spawn("net-request", async move { caller.request(outbound, Inbound::new(inbound)).await });
        }
    }

    async fn request(&self, outbound: SendStream, mut inbound: Inbound) {
        match within(REQUEST_READ_TIMEOUT, read_request(&mut inbound, &self.long_requests)).await {
            Some(Ok(Asked::Get(request))) => self.get(outbound, request).await,
            Some(Ok(Asked::GetMany(many))) => self.get_many(outbound, many).await,
            Some(Ok(Asked::Call(request))) => self.call(outbound, request).await,
            Some(Err(Unreadable { kind, error })) => self.refuse(outbound, kind, &error).await,
            None => drop(GetSink::new(outbound, self.addr, self.server.metrics.clone())),
        }
    }

    /// Room for a get of `class` that asks for at most `bytes` bytes.
    fn admit(&self, class: Class, bytes: u64) -> Option<Vec<Entry>> {
        let bytes = bytes.min(MAX_GET_BYTES_PER_CONNECTION);
        let here = self.gets.enter(class, bytes);
        let entries = here.and_then(|here| Some(vec![here, self.server.gets.enter(class, bytes)?]));
        if entries.is_none() {
            self.server.metrics.turned_away_get(class);
        }
        entries
    }

    async fn get(&self, outbound: SendStream, request: GetRequest) {
        let server = &self.server;
        let mut sink = GetSink::new(outbound, self.addr, server.metrics.clone());
        sink.set_class(request.class);
        match self.admit(request.class, asks_for(&request)) {
            Some(entries) => {
                sink.keep(entries);
                let (limit, unwanted) = (handler_limit(request.deadline_ms), sink.unwanted());
                let handler = server.service.get(&self.identity, request, &mut sink);
                let ended = tokio::select! {
                    biased;
                    ended = within(limit, handler) => ended.is_some(),
                    () = unwanted => true,
                };
                if !ended {
                    sink.fail(Status::Timeout, LATE).await;
                }
            }
            None => sink.busy(retry_after(request.class)).await,
        }
        server.metrics.served(Kind::Get, sink.close());
        // A node that stops waits for what its peers have yet to receive.
        sink.delivered().await;
    }

    /// One get after the other, on one stream.
    async fn get_many(&self, outbound: SendStream, many: GetMany) {
        let server = &self.server;
        let mut sink = GetSink::new(outbound, self.addr, server.metrics.clone());
        sink.set_class(many.class);
        sink.hold();
        match self.admit(many.class, many.wanted()) {
            Some(entries) => {
                sink.keep(entries);
                let unwanted = sink.unwanted();
                tokio::select! {
                    biased;
                    () = self.answer_many(&many, &mut sink) => {}
                    () = unwanted => {}
                }
            }
            None => {
                let retry = retry_after(many.class);
                for index in 0..many.items.len() {
                    if index == 0 || sink.next_answer().await {
                        sink.busy(retry).await;
                    }
                }
            }
        }
        sink.flush().await;
        server.metrics.served(Kind::Many, sink.close());
        sink.delivered().await;
    }

    async fn answer_many(&self, many: &GetMany, sink: &mut GetSink) {
        let deadline = clock::now() + handler_limit(many.deadline_ms);
        let mut index = 0;
        while let Some(request) = many.request(index) {
            if index > 0 && !sink.next_answer().await {
                return;
            }
            let left = deadline.saturating_duration_since(clock::now());
            let ended = within(left, self.server.service.get(&self.identity, request, sink)).await;
            if ended.is_none() {
                sink.fail(Status::Timeout, LATE).await;
            }
            index += 1;
        }
    }

    async fn call(&self, outbound: SendStream, request: Request) {
        let server = &self.server;
        let mut sink = ResponseSink::new(outbound, self.addr);
        let permits = [&self.calls, &server.calls].map(|calls| calls.try_acquire().ok());
        if let [Some(_here), Some(_there)] = &permits
            && !server.draining.load(Ordering::Relaxed)
        {
            let unwanted = sink.unwanted();
            tokio::select! {
                biased;
                () = server.service.call(&self.identity, request, &mut sink) => {}
                () = unwanted => {}
            }
        } else {
            server.metrics.turned_away_calls.inc();
            let (status, message) = (Status::Busy, BUSY.to_owned());
            // The caller sees a broken stream instead, which means the same.
            let _ = sink.send(Response::Error { status, message }).await;
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
            Some(FrameKind::Get | FrameKind::GetMany | FrameKind::GetHead | FrameKind::Response) | None => {
                let mut sink = GetSink::new(outbound, self.addr, metrics.clone());
                sink.fail(status, message).await;
                metrics.served(Kind::Get, sink.close());
            }
        }
    }
}

/// What a caller reads whose get took too long.
const LATE: &str = "the request's deadline has passed";

/// Bytes a get may ask for, as far as it tells.
fn asks_for(request: &GetRequest) -> u64 {
    let block = match request.key.span() {
        BlockSpan::Whole => MAX_BLOCK_BYTES,
        BlockSpan::Part { len, .. } => *len,
    };
    request.range.clamp(block).len().into()
}

/// How long a request is worked on.
fn handler_limit(deadline_ms: u32) -> Duration {
    match deadline_ms {
        0 => GET_HANDLER_TIMEOUT,
        ms => Duration::from_millis(ms.into()),
    }
}

enum Asked {
    Get(GetRequest),
    GetMany(GetMany),
    Call(Request),
}

/// Bytes that are no request, and what they were meant to be as far as they tell.
struct Unreadable {
    kind: Option<FrameKind>,
    error: WireError,
}

/// Reads a request; long ones a few at a time.
async fn read_request(inbound: &mut Inbound, long: &Semaphore) -> Result<Asked, Unreadable> {
    const CUT: WireError = WireError::Malformed { what: "the request ends too early" };
    let bytes = inbound.header().await.map_err(|_| Unreadable { kind: None, error: CUT })?;
    let kind = FrameHeader::peek_kind(&bytes);
    let unreadable = |error| Unreadable { kind, error };
    let header = FrameHeader::decode(&bytes).map_err(unreadable)?;
    if !matches!(header.kind, FrameKind::Get | FrameKind::GetMany | FrameKind::Request) {
        return Err(unreadable(WireError::Malformed { what: "an answer instead of a request" }));
    }
    // Never closed, so only a short request has no permit.
    let _permit = if header.len > LONG_REQUEST { long.acquire().await.ok() } else { None };
    let payload = inbound.payload(header.len as usize).await.map_err(|_| unreadable(CUT))?;
    inbound.end();
    match header.kind {
        FrameKind::Get => GetRequest::decode(&payload).map(Asked::Get).map_err(unreadable),
        FrameKind::GetMany => GetMany::decode(&payload).map(Asked::GetMany).map_err(unreadable),
        _ => Request::decode(&payload).map(Asked::Call).map_err(unreadable),
    }
}
