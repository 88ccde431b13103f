//! Asks a peer: one stream a request.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use quinn::WriteError;
use shoal_runtime::{clock, task};
use shoal_types::Class;
use shoal_wire::{FrameKind, GetHead, GetMany, GetRequest, Request, Response, WireError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::body::{Body, GetReply, Incoming, ResponseStream, broken, decode_header};
use crate::chunks::{Chunks, Patience};
use crate::error::NetError;
use crate::failure;
use crate::handoff::{self, Late};
use crate::inbound::Inbound;
use crate::limits::{PROBE_AFTER, PROBE_STEPS, PROBE_WAIT, PROBE_WAIT_MIN};
use crate::link::Connection;
use crate::many::{IncomingMany, ManyReply};
use crate::metrics::{Kind, NetMetrics};
use crate::pool::{Lease, Pool};
use crate::wait::within;

/// Asks peers over the connections of a pool. Callable from any tokio runtime.
///
/// Gets run as tasks on the network thread, next to the connections: their caller is woken for the head and then seldom. They are
/// started by one task there, which many callers wake once.
pub(crate) struct Asker {
    pub pool: Pool,
    pub metrics: Arc<NetMetrics>,
    /// Longest wait for an answer's first frame when the request has no deadline.
    pub answer_timeout: Duration,
    /// Longest wait for the next bytes of a body.
    body_idle_timeout: Duration,
    /// To the task that starts gets. Bounded by the callers: each waits for its own.
    jobs: mpsc::UnboundedSender<Job>,
    late: Arc<Late>,
}

/// One get, to its end.
type Job = BoxFuture<'static, ()>;

/// A get that is ready to be sent.
struct Question {
    frame: Bytes,
    class: Class,
    deadline: Option<Instant>,
    /// For the first frame of the answer.
    limit: Duration,
}

/// Starts what is asked for, and wakes readers that have waited long enough, until nobody asks any more.
async fn start_jobs(mut jobs: mpsc::UnboundedReceiver<Job>, late: Arc<Late>) {
    let start = async {
        while let Some(job) = jobs.recv().await {
            drop(task::spawn("net-get", job));
        }
    };
    tokio::select! {
        biased;
        () = start => {}
        () = late.run() => {}
    }
}

impl Asker {
    /// Asks over `pool`, on the network thread's `runtime`; the timeouts are those of [`crate::EndpointConfig`].
    pub(crate) fn new(
        pool: Pool,
        metrics: Arc<NetMetrics>,
        runtime: &Handle,
        answer_timeout: Duration,
        body_idle_timeout: Duration,
    ) -> Arc<Asker> {
        let ((jobs, started), late) = (mpsc::unbounded_channel(), Arc::new(Late::default()));
        drop(task::spawn_on(runtime, "net-gets", start_jobs(started, late.clone())));
        Arc::new(Asker { pool, metrics, answer_timeout, body_idle_timeout, jobs, late })
    }

    /// Asks for bytes; returns with the head.
    pub(crate) async fn get(self: &Arc<Asker>, peer: SocketAddr, request: &GetRequest) -> Result<GetReply, NetError> {
        let question = self.question(peer, Kind::Get, request.encode(), request.class, request.deadline_ms)?;
        let (asker, (mut tell, told), (feed, reader)) =
            (self.clone(), oneshot::channel(), handoff::channel(&self.late));
        self.start(async move {
            let asked = tokio::select! {
                biased;
                asked = asker.ask(peer, question) => asked,
                () = tell.closed() => return,
            };
            match asked {
                Ok((head, incoming)) => {
                    if tell.send(Ok(head)).is_ok() {
                        incoming.pump(feed).await;
                    }
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        // A job without a result was dropped with its runtime.
        let head = told.await.unwrap_or(Err(NetError::Closed))?;
        let body = Body::new(reader, head.range.len());
        Ok(GetReply { head, body })
    }

    /// Asks for bytes; returns with all of them.
    pub(crate) async fn fetch(
        self: &Arc<Asker>,
        peer: SocketAddr,
        request: &GetRequest,
    ) -> Result<(GetHead, BytesMut), NetError> {
        let question = self.question(peer, Kind::Get, request.encode(), request.class, request.deadline_ms)?;
        let (asker, (mut tell, told)) = (self.clone(), oneshot::channel());
        self.start(async move {
            let fetch = async {
                let (head, mut incoming) = asker.ask(peer, question).await?;
                let bytes = incoming.collect().await;
                Ok((head, bytes, incoming))
            };
            let fetched = tokio::select! {
                biased;
                fetched = fetch => fetched,
                () = tell.closed() => return,
            };
            match fetched {
                Ok((head, bytes, incoming)) => {
                    let outcome = bytes.as_ref().err().map(NetError::kind);
                    drop(tell.send(bytes.map(|bytes| (head, bytes))));
                    // The caller, on its way on another thread, need not wait for this.
                    incoming.put_away(outcome);
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        told.await.unwrap_or(Err(NetError::Closed))
    }

    /// Asks for ranges of many blocks; returns when the first of them is answered.
    pub(crate) async fn get_many(self: &Arc<Asker>, peer: SocketAddr, many: &GetMany) -> Result<ManyReply, NetError> {
        let question = self.question(peer, Kind::Many, many.encode(), many.class, many.deadline_ms)?;
        let (feed, reader) = handoff::channel(&self.late);
        if many.items.is_empty() {
            feed.end(Ok(()));
            return Ok(ManyReply::new(reader));
        }
        let (asker, items, (mut tell, told)) = (self.clone(), many.items.len(), oneshot::channel());
        self.start(async move {
            let asked = tokio::select! {
                biased;
                asked = asker.ask_many(peer, question) => asked,
                () = tell.closed() => return,
            };
            match asked {
                Ok((head, incoming)) => {
                    if tell.send(Ok(())).is_ok() {
                        incoming.pump(head, items, feed).await;
                    }
                }
                Err(error) => drop(tell.send(Err(error))),
            }
        });
        told.await.unwrap_or(Err(NetError::Closed))?;
        Ok(ManyReply::new(reader))
    }

    /// Has `job` run on the network thread; drops it if that has ended.
    fn start(&self, job: impl Future<Output = ()> + Send + 'static) {
        let _ = self.jobs.send(Box::pin(job));
    }

    /// One batched get up to its first head.
    async fn ask_many(&self, peer: SocketAddr, question: Question) -> Result<(Vec<u8>, IncomingMany), NetError> {
        let started = clock::now();
        let Question { frame, class, deadline, limit } = question;
        let asked = self.exchange(peer, frame, class, FrameKind::GetHead, limit).await;
        self.metrics.asked(Kind::Many, asked.as_ref().err().map(NetError::kind), clock::now() - started);
        let (head, inbound) = asked?;
        let patience = |idle| Patience { idle, deadline };
        let (answer, body) = (patience(self.answer_timeout), patience(self.body_idle_timeout));
        Ok((head, IncomingMany::new(inbound, peer, answer, body, self.metrics.clone())))
    }

    fn question(
        &self,
        peer: SocketAddr,
        kind: Kind,
        encoded: Result<Bytes, WireError>,
        class: Class,
        deadline_ms: u32,
    ) -> Result<Question, NetError> {
        let frame = encoded.map_err(|source| NetError::Wire { peer, source })?;
        // A peer that is known to be down costs no hand-over to the network thread.
        if let Some(error) = self.pool.left_alone(peer) {
            self.metrics.asked(kind, Some(error.kind()), Duration::ZERO);
            return Err(error);
        }
        let limit = match deadline_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms.into())),
        };
        let deadline = limit.map(|limit| clock::now() + limit);
        Ok(Question { frame, class, deadline, limit: limit.unwrap_or(self.answer_timeout) })
    }

    /// One get up to its head.
    async fn ask(&self, peer: SocketAddr, question: Question) -> Result<(GetHead, Incoming), NetError> {
        let started = clock::now();
        let result = self.try_ask(peer, question).await;
        let outcome = match &result {
            Ok((head, _)) => head.status.error_kind(),
            Err(error) => Some(error.kind()),
        };
        self.metrics.asked(Kind::Get, outcome, clock::now() - started);
        result
    }

    async fn try_ask(&self, peer: SocketAddr, question: Question) -> Result<(GetHead, Incoming), NetError> {
        let Question { frame, class, deadline, limit } = question;
        let (payload, inbound) = self.exchange(peer, frame, class, FrameKind::GetHead, limit).await?;
        let head = GetHead::decode(&payload).map_err(|source| NetError::Wire { peer, source })?;
        let patience = Patience { idle: self.body_idle_timeout, deadline };
        let chunks = Chunks::new(peer, head.range.len(), patience);
        Ok((head, Incoming::new(inbound, chunks, self.metrics.clone())))
    }

    /// Asks for one response.
    pub(crate) async fn call(
        &self,
        peer: SocketAddr,
        request: &Request,
        limit: Duration,
    ) -> Result<Response, NetError> {
        let started = clock::now();
        let result = self.try_call(peer, request, limit).await;
        self.metrics.asked(Kind::Call, result.as_ref().err().map(NetError::kind), clock::now() - started);
        result
    }

    async fn try_call(&self, peer: SocketAddr, request: &Request, limit: Duration) -> Result<Response, NetError> {
        let wire = |source| NetError::Wire { peer, source };
        let frame = request.encode().map_err(wire)?;
        let (payload, mut inbound) = self.exchange(peer, frame, Class::Foreground, FrameKind::Response, limit).await?;
        inbound.end();
        match Response::decode(&payload).map_err(wire)? {
            Response::Error { status, message } => Err(NetError::Answered { peer, status, message }),
            response => Ok(response),
        }
    }

    /// Asks for any number of responses; returns once the request is on its way.
    pub(crate) async fn call_stream(&self, peer: SocketAddr, request: &Request) -> Result<ResponseStream, NetError> {
        let started = clock::now();
        let result = self.try_call_stream(peer, request).await;
        self.metrics.asked(Kind::Call, result.as_ref().err().map(NetError::kind), clock::now() - started);
        result
    }

    async fn try_call_stream(&self, peer: SocketAddr, request: &Request) -> Result<ResponseStream, NetError> {
        let frame = request.encode().map_err(|source| NetError::Wire { peer, source })?;
        let limit = self.answer_timeout;
        let sent = clock::timeout(limit, async {
            let lease = self.pool.lease(peer).await?;
            match send(peer, &lease.connection, frame.clone(), Class::Foreground).await {
                Err(error) if lease.is_stale(&error) => {
                    send(peer, &self.pool.lease(peer).await?.connection, frame, Class::Foreground).await
                }
                sent => sent,
            }
        });
        let inbound = sent.await.map_err(|_| NetError::Timeout { peer, limit })??;
        Ok(ResponseStream::new(inbound, peer))
    }

    /// Sends `frame` and reads the first frame of the answer, which must be of `kind`.
    ///
    /// If a connection made for an earlier request breaks before anything came back, asks once more on a new one: every request
    /// may be repeated.
    async fn exchange(
        &self,
        peer: SocketAddr,
        frame: Bytes,
        class: Class,
        kind: FrameKind,
        limit: Duration,
    ) -> Result<(Vec<u8>, Inbound), NetError> {
        let deadline = clock::now() + limit;
        let lease = self.lease(peer, deadline).await?;
        match self.exchange_on(peer, &lease.connection, frame.clone(), class, kind, deadline).await {
            Err(error) if lease.is_stale(&error) => {
                let lease = self.lease(peer, deadline).await?;
                self.exchange_on(peer, &lease.connection, frame, class, kind, deadline).await
            }
            result => result,
        }
    }

    async fn lease(&self, peer: SocketAddr, deadline: Instant) -> Result<Lease, NetError> {
        let limit = deadline.saturating_duration_since(clock::now());
        within(limit, self.pool.lease(peer)).await.unwrap_or(Err(NetError::Timeout { peer, limit }))
    }

    /// [`Asker::exchange`] on a given connection. A peer that acknowledges nothing any more loses its connection.
    async fn exchange_on(
        &self,
        peer: SocketAddr,
        connection: &Connection,
        frame: Bytes,
        class: Class,
        kind: FrameKind,
        deadline: Instant,
    ) -> Result<(Vec<u8>, Inbound), NetError> {
        let limit = deadline.saturating_duration_since(clock::now());
        let mut answer = pin!(async {
            let mut inbound = send(peer, connection, frame, class).await?;
            let bytes = inbound.header().await.map_err(|halt| broken(peer, halt))?;
            let header = decode_header(peer, &bytes, kind)?;
            let payload = inbound.payload(header.len as usize).await.map_err(|halt| broken(peer, halt))?;
            Ok((payload, inbound))
        });
        let before_probe = (limit / 2).min(PROBE_AFTER);
        if let Some(result) = within(before_probe, answer.as_mut()).await {
            return result;
        }
        let heard = probe(connection);
        let after_probe = (limit - before_probe).min(PROBE_WAIT);
        let is_silent = || connection.stats().udp_rx.datagrams == heard;
        // Step by step: a process that was stopped for a minute has not waited for more than one of them.
        for _ in 0..PROBE_STEPS {
            if let Some(result) = within(after_probe / PROBE_STEPS, answer.as_mut()).await {
                return result;
            }
            if !is_silent() {
                break;
            }
        }
        if after_probe >= PROBE_WAIT_MIN && is_silent() {
            let error = NetError::Timeout { peer, limit: before_probe + after_probe };
            self.pool.fail(peer, connection, &error);
            return Err(error);
        }
        // It is alive, so slow: its answer may take what is left.
        let left = deadline.saturating_duration_since(clock::now());
        within(left, answer.as_mut()).await.unwrap_or(Err(NetError::Timeout { peer, limit }))
    }
}

impl Lease {
    /// True if `error` tells that the peer had gone before it was asked.
    fn is_stale(&self, error: &NetError) -> bool {
        self.reused && matches!(error, NetError::Lost { .. }) && self.connection.close_reason().is_some()
    }
}

/// Sends `frame` on a stream of its own, behind more urgent ones, and gives the stream of the answer.
async fn send(peer: SocketAddr, connection: &Connection, frame: Bytes, class: Class) -> Result<Inbound, NetError> {
    let (mut outbound, inbound) = connection.open_bi().await.map_err(|error| failure::connection(peer, error))?;
    if class != Class::Foreground {
        // Fails only if the stream is closed.
        let _ = outbound.set_priority(priority(class));
    }
    match outbound.write_chunk(frame).await {
        // A peer that stops a request in the middle has its answer ready.
        Ok(()) | Err(WriteError::Stopped(_)) => {}
        Err(error) => return Err(failure::write(peer, error)),
    }
    // Fails only if the peer stopped the stream.
    let _ = outbound.finish();
    Ok(Inbound::new(inbound))
}

/// Streams of a higher number leave first.
pub(crate) fn priority(class: Class) -> i32 {
    -(class as i32)
}

/// Makes a live peer acknowledge something; gives how many packets came before.
fn probe(connection: &Connection) -> u64 {
    let heard = connection.stats().udp_rx.datagrams;
    // Without room for it there are packets in flight already that want an acknowledgement.
    let _ = connection.send_datagram(Bytes::new());
    heard
}
