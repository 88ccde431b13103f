//! Asks a peer: one stream a request.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, WriteError};
use shoal_runtime::clock;
use shoal_wire::{FrameKind, GetHead, GetRequest, Request, Response};

use crate::body::{Body, GetReply, Patience, ResponseStream, broken, decode_header};
use crate::error::NetError;
use crate::failure;
use crate::inbound::Inbound;
use crate::limits::{PROBE_AFTER, PROBE_WAIT, PROBE_WAIT_MIN};
use crate::metrics::{Kind, NetMetrics};
use crate::pool::{Lease, Pool};
use crate::wait::within;

/// Asks peers over the connections of a pool. Callable from any tokio runtime.
pub(crate) struct Asker {
    pub pool: Pool,
    pub metrics: Arc<NetMetrics>,
    /// Longest wait for an answer's first frame when the request has no deadline.
    pub answer_timeout: Duration,
    /// Longest wait for the next bytes of a body.
    pub body_idle_timeout: Duration,
}

impl Asker {
    /// Asks for bytes; returns with the head.
    pub(crate) async fn get(&self, peer: SocketAddr, request: &GetRequest) -> Result<GetReply, NetError> {
        let started = clock::now();
        let result = self.try_get(peer, request, started).await;
        let outcome = match &result {
            Ok(reply) => reply.head.status.error_kind(),
            Err(error) => Some(error.kind()),
        };
        self.metrics.asked(Kind::Get, outcome, clock::now() - started);
        result
    }

    async fn try_get(&self, peer: SocketAddr, request: &GetRequest, now: Instant) -> Result<GetReply, NetError> {
        let wire = |source| NetError::Wire { peer, source };
        let frame = request.encode().map_err(wire)?;
        let deadline = match request.deadline_ms {
            0 => None,
            ms => Some(now + Duration::from_millis(ms.into())),
        };
        let limit = deadline.map_or(self.answer_timeout, |deadline| deadline - now);
        let (payload, inbound) = self.exchange(peer, frame, FrameKind::GetHead, limit).await?;
        let head = GetHead::decode(&payload).map_err(wire)?;
        let patience = Patience { idle: self.body_idle_timeout, deadline };
        let body = Body::new(inbound, peer, head.range.len(), patience, self.metrics.clone());
        Ok(GetReply { head, body })
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
        let (payload, mut inbound) = self.exchange(peer, frame, FrameKind::Response, limit).await?;
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
            match send(peer, &lease.connection, frame.clone()).await {
                Err(error) if lease.is_stale(&error) => {
                    send(peer, &self.pool.lease(peer).await?.connection, frame).await
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
        kind: FrameKind,
        limit: Duration,
    ) -> Result<(Vec<u8>, Inbound), NetError> {
        let deadline = clock::now() + limit;
        let lease = self.lease(peer, deadline).await?;
        match self.exchange_on(peer, &lease.connection, frame.clone(), kind, deadline).await {
            Err(error) if lease.is_stale(&error) => {
                let lease = self.lease(peer, deadline).await?;
                self.exchange_on(peer, &lease.connection, frame, kind, deadline).await
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
        kind: FrameKind,
        deadline: Instant,
    ) -> Result<(Vec<u8>, Inbound), NetError> {
        let limit = deadline.saturating_duration_since(clock::now());
        let mut answer = pin!(async {
            let mut inbound = send(peer, connection, frame).await?;
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
        if let Some(result) = within(after_probe, answer.as_mut()).await {
            return result;
        }
        if after_probe >= PROBE_WAIT_MIN && connection.stats().udp_rx.datagrams == heard {
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

/// Sends `frame` on a stream of its own and gives the stream of the answer.
async fn send(peer: SocketAddr, connection: &Connection, frame: Bytes) -> Result<Inbound, NetError> {
    let (mut outbound, inbound) = connection.open_bi().await.map_err(|error| failure::connection(peer, error))?;
    match outbound.write_chunk(frame).await {
        // A peer that stops a request in the middle has its answer ready.
        Ok(()) | Err(WriteError::Stopped(_)) => {}
        Err(error) => return Err(failure::write(peer, error)),
    }
    // Fails only if the peer stopped the stream.
    let _ = outbound.finish();
    Ok(Inbound::new(inbound))
}

/// Makes a live peer acknowledge something; gives how many packets came before.
fn probe(connection: &Connection) -> u64 {
    let heard = connection.stats().udp_rx.datagrams;
    // Without room for it there are packets in flight already that want an acknowledgement.
    let _ = connection.send_datagram(Bytes::new());
    heard
}
