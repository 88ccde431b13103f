//! Answers as their caller reads them, and the tasks on the network thread that bring them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use shoal_types::ErrorKind;
use shoal_wire::{FrameHeader, FrameKind, GetHead, Response, Status, WireError};

use crate::chunks::Chunks;
use crate::error::NetError;
use crate::failure;
use crate::handoff::{Feed, Reader};
use crate::inbound::{Halt, Inbound};
use crate::metrics::NetMetrics;

/// Answer to a get.
#[derive(Debug)]
pub struct GetReply {
    /// Its head. Only after [`Status::Ok`] has the body bytes.
    pub head: GetHead,
    /// Its bytes: exactly `head.range`.
    pub body: Body,
}

/// Bytes of a block as they arrive, each chunk checked against its CRC-32C before any of it is handed out.
///
/// Dropping it before its end tells the peer to stop. Errors of every method: `Corrupt` for bytes that fail their checksum,
/// `Timeout` when no bytes came for the endpoint's `body_idle_timeout` or the request's deadline has passed, `Unavailable`
/// when the peer or the connection broke off, `Cancelled` once the endpoint is closed; the bytes before the error are good.
pub struct Body {
    reader: Reader<BytesMut>,
    /// Verified pieces taken from there.
    ready: VecDeque<BytesMut>,
    /// Bytes not yet handed out.
    remaining: u64,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes to come)", self.remaining)
    }
}

impl Body {
    /// A body of `len` bytes that come through `reader`.
    pub(crate) fn new(reader: Reader<BytesMut>, len: u32) -> Body {
        Body { reader, ready: VecDeque::new(), remaining: len.into() }
    }

    /// Bytes not yet handed out.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next verified bytes, never empty; `None` after the last.
    ///
    /// All pieces of a body lie in one piece of memory, one right behind the other: [`BytesMut::unsplit`] joins them without a copy.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<BytesMut>, NetError> {
        if self.ready.is_empty() && !self.reader.take(&mut self.ready).await? {
            return Ok(None);
        }
        let piece = self.ready.pop_front();
        self.remaining -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }

    /// All that remains, without a copy.
    pub async fn collect(mut self) -> Result<Bytes, NetError> {
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.next().await? {
            bytes.unsplit(piece);
        }
        Ok(bytes.freeze())
    }

    /// All that remains, into `buffer`: one copy. On an error what is in `buffer` is undefined.
    ///
    /// Errors: also `Invalid` if `buffer` has another length than [`Body::remaining`].
    pub async fn read_into(mut self, buffer: &mut [u8]) -> Result<(), NetError> {
        if buffer.len() as u64 != self.remaining {
            return Err(NetError::Buffer { body: self.remaining, buffer: buffer.len() as u64 });
        }
        let mut filled = 0;
        while let Some(piece) = self.next().await? {
            buffer[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
        }
        Ok(())
    }
}

/// A body's stream while it is read on the network thread. Dropped before its end, it tells the peer to stop.
pub(crate) struct Incoming {
    inbound: Inbound,
    chunks: Chunks,
    metrics: Arc<NetMetrics>,
    ended: bool,
}

impl Incoming {
    pub(crate) fn new(inbound: Inbound, chunks: Chunks, metrics: Arc<NetMetrics>) -> Incoming {
        Incoming { inbound, chunks, metrics, ended: false }
    }

    /// All of it; [`Incoming::put_away`] follows.
    pub(crate) async fn collect(&mut self) -> Result<BytesMut, NetError> {
        let collected = self.chunks.collect(&mut self.inbound).await;
        self.count(collected.as_ref().err().map(NetError::kind));
        collected
    }

    /// Lets the stream go, whose reading ended like this.
    pub(crate) fn put_away(mut self, outcome: Option<ErrorKind>) {
        self.release(outcome);
    }

    /// Puts all of it into `feed`, as it is verified, until nobody reads any more.
    pub(crate) async fn pump(mut self, mut feed: Feed<BytesMut>) {
        let unwanted = feed.unwanted();
        let pumped = tokio::select! {
            biased;
            pumped = self.try_pump(&mut feed) => pumped,
            () = unwanted => return,
        };
        self.end(pumped.as_ref().err().map(NetError::kind));
        feed.end(pumped);
    }

    async fn try_pump(&mut self, feed: &mut Feed<BytesMut>) -> Result<(), NetError> {
        while !self.chunks.is_done() {
            self.chunks.gather_in_time(&mut self.inbound).await?;
            let bytes = self.chunks.take();
            if !bytes.is_empty() {
                let weight = bytes.len();
                feed.put([bytes], weight);
                feed.room().await;
            }
        }
        Ok(())
    }

    fn end(&mut self, outcome: Option<ErrorKind>) {
        self.count(outcome);
        self.release(outcome);
    }

    fn count(&mut self, outcome: Option<ErrorKind>) {
        self.metrics.body(outcome, self.chunks.verified());
        self.ended = true;
    }

    fn release(&mut self, outcome: Option<ErrorKind>) {
        match outcome {
            None => self.inbound.end(),
            Some(kind) => self.inbound.stop(Status::from(kind)),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.ended {
            self.count(Some(ErrorKind::Cancelled));
            self.inbound.stop(Status::Unavailable);
        }
    }
}

/// Responses to a control request as they arrive. Dropping it tells the peer to stop.
///
/// It waits as long as the connection lives: a peer that died silently is noticed by the connection's idle timeout (30 s).
#[derive(Debug)]
pub struct ResponseStream {
    inbound: Inbound,
    peer: SocketAddr,
    header: Option<FrameHeader>,
}

impl ResponseStream {
    pub(crate) fn new(inbound: Inbound, peer: SocketAddr) -> ResponseStream {
        ResponseStream { inbound, peer, header: None }
    }

    /// The next response, `None` after the last. Cancel-safe.
    ///
    /// Errors: the kind of the status in a [`Response::Error`], `Unavailable` if the peer or the connection broke off.
    pub async fn next(&mut self) -> Result<Option<Response>, NetError> {
        let peer = self.peer;
        let header = match self.header {
            Some(header) => header,
            None => match self.inbound.header().await {
                Ok(bytes) => *self.header.insert(decode_header(peer, &bytes, FrameKind::Response)?),
                Err(Halt::End) if self.inbound.is_between_messages() => return Ok(None),
                Err(halt) => return Err(broken(peer, halt)),
            },
        };
        let payload = self.inbound.payload(header.len as usize).await.map_err(|halt| broken(peer, halt))?;
        self.header = None;
        match Response::decode(&payload).map_err(|source| NetError::Wire { peer, source })? {
            Response::Error { status, message } => Err(NetError::Answered { peer, status, message }),
            response => Ok(Some(response)),
        }
    }
}

/// A frame's header, which must be of `kind`.
pub(crate) fn decode_header(peer: SocketAddr, bytes: &[u8; 8], kind: FrameKind) -> Result<FrameHeader, NetError> {
    let header = FrameHeader::decode(bytes).map_err(|source| NetError::Wire { peer, source })?;
    if header.kind == kind {
        Ok(header)
    } else {
        Err(NetError::Wire { peer, source: WireError::Malformed { what: "a frame of another kind was due" } })
    }
}

/// An answer that ended or broke before it was whole.
pub(crate) fn broken(peer: SocketAddr, halt: Halt) -> NetError {
    match halt {
        Halt::End => NetError::Short { peer, missing: 1 },
        Halt::Broken(error) => failure::read(peer, error),
    }
}
