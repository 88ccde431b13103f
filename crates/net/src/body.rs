//! Answers as their caller reads them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shoal_runtime::clock;
use shoal_types::ErrorKind;
use shoal_types::checksum::Crc32c;
use shoal_wire::chunk::ChunkHeader;
use shoal_wire::{FrameHeader, FrameKind, GetHead, Response, Status, WireError};

use crate::error::NetError;
use crate::failure;
use crate::inbound::{Halt, Inbound};
use crate::metrics::NetMetrics;
use crate::wait::within;

/// Answer to a get.
#[derive(Debug)]
pub struct GetReply {
    /// Its head. Only after [`Status::Ok`] has the body bytes.
    pub head: GetHead,
    /// Its bytes: exactly `head.range`.
    pub body: Body,
}

/// How long the reader of a body waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the next bytes.
    pub idle: Duration,
    /// For all of them.
    pub deadline: Option<Instant>,
}

/// Bytes of a block as they arrive, each chunk checked against its CRC-32C before any of it is handed out.
///
/// Dropping it before its end tells the peer to stop. Errors of every method: `Corrupt` for bytes that fail their checksum,
/// `Timeout` when no bytes came for the endpoint's `body_idle_timeout` or the request's deadline has passed, `Unavailable`
/// when the peer or the connection broke off; the bytes before the error are good.
#[derive(Debug)]
pub struct Body {
    inbound: Inbound,
    peer: SocketAddr,
    patience: Patience,
    metrics: Arc<NetMetrics>,
    /// Bytes of the body that are not yet verified.
    left: u32,
    /// Bytes verified.
    received: u64,
    /// The chunk whose pieces are arriving.
    open: Option<OpenChunk>,
    /// Pieces of that chunk.
    held: VecDeque<Bytes>,
    /// Pieces of a verified chunk.
    ready: VecDeque<Bytes>,
    state: State,
}

#[derive(Debug)]
struct OpenChunk {
    header: ChunkHeader,
    crc: Crc32c,
    missing: u32,
}

#[derive(Debug)]
enum State {
    Reading,
    Done,
    Failed(NetError),
}

impl Body {
    pub(crate) fn new(
        inbound: Inbound,
        peer: SocketAddr,
        len: u32,
        patience: Patience,
        metrics: Arc<NetMetrics>,
    ) -> Body {
        let (held, ready) = (VecDeque::new(), VecDeque::new());
        let mut body = Body {
            inbound,
            peer,
            patience,
            metrics,
            left: len,
            received: 0,
            open: None,
            held,
            ready,
            state: State::Reading,
        };
        if len == 0 {
            body.finish();
        }
        body
    }

    /// Bytes not yet handed out.
    pub fn remaining(&self) -> u64 {
        let ready: usize = self.ready.iter().map(Bytes::len).sum();
        u64::from(self.left) + ready as u64
    }

    /// The next verified bytes, never empty; `None` after the last.
    ///
    /// They share the memory of the packets they came in, and so hold up to a few times their length: copy what is kept.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NetError> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            let Some(piece) = self.step().await? else { return Ok(None) };
            self.held.push_back(piece);
            if self.open.is_none() {
                std::mem::swap(&mut self.held, &mut self.ready);
            }
        }
    }

    /// All that remains, in a buffer of exactly that length.
    pub async fn collect(mut self) -> Result<Bytes, NetError> {
        let mut bytes = Vec::with_capacity(self.remaining() as usize);
        self.pump(|piece| bytes.extend_from_slice(piece)).await?;
        Ok(bytes.into())
    }

    /// All that remains, into `buffer`: one copy. On an error what is in `buffer` is undefined.
    ///
    /// Errors: also `Invalid` if `buffer` has another length than [`Body::remaining`].
    pub async fn read_into(mut self, buffer: &mut [u8]) -> Result<(), NetError> {
        if buffer.len() as u64 != self.remaining() {
            return Err(NetError::Buffer { body: self.remaining(), buffer: buffer.len() as u64 });
        }
        let mut filled = 0;
        self.pump(|piece| {
            buffer[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        })
        .await
    }

    /// Hands every remaining piece to `put`, each before its chunk is verified: for callers that give nothing on before the end.
    async fn pump(&mut self, mut put: impl FnMut(&[u8])) -> Result<(), NetError> {
        let at_hand = self.ready.drain(..).chain(self.held.drain(..));
        at_hand.for_each(|piece| put(&piece));
        while let Some(piece) = self.step().await? {
            put(&piece);
        }
        Ok(())
    }

    /// The next piece; when it is the last of its chunk, `open` is `None` and the chunk is verified. Cancel-safe.
    async fn step(&mut self) -> Result<Option<Bytes>, NetError> {
        match &self.state {
            State::Reading => {}
            State::Done => return Ok(None),
            State::Failed(error) => return Err(error.clone()),
        }
        let result = self.try_step().await;
        match &result {
            Ok(_) if self.left == 0 => self.finish(),
            Ok(_) => {}
            Err(error) => self.fail(error.clone()),
        }
        result.map(Some)
    }

    async fn try_step(&mut self) -> Result<Bytes, NetError> {
        let peer = self.peer;
        if self.open.is_none() {
            let limit = self.limit();
            let header = within(limit, self.inbound.header()).await;
            let header = self.read(limit, header)?;
            let header = ChunkHeader::decode(&header, self.left).map_err(|source| NetError::Wire { peer, source })?;
            self.open = Some(OpenChunk { header, crc: Crc32c::new(), missing: header.len });
        }
        let missing = self.open.as_ref().map_or(0, |open| open.missing);
        let limit = self.limit();
        let piece = within(limit, self.inbound.piece(missing as usize)).await;
        let piece = self.read(limit, piece)?;
        if let Some(open) = &mut self.open {
            open.crc.update(&piece);
            open.missing -= piece.len() as u32;
            if open.missing == 0 {
                let (sent, computed) = (open.header.crc, open.crc.value());
                if sent != computed {
                    return Err(NetError::Corrupt { peer, sent, computed });
                }
                self.left -= open.header.len;
                self.received += u64::from(open.header.len);
                self.open = None;
            }
        }
        Ok(piece)
    }

    /// How long the next read may take.
    fn limit(&self) -> Duration {
        match self.patience.deadline {
            None => self.patience.idle,
            Some(deadline) => deadline.saturating_duration_since(clock::now()).min(self.patience.idle),
        }
    }

    /// What a read of the stream brought.
    fn read<T>(&self, limit: Duration, got: Option<Result<T, Halt>>) -> Result<T, NetError> {
        match got {
            Some(Ok(got)) => Ok(got),
            Some(Err(halt)) => Err(self.halted(halt)),
            None => Err(NetError::Timeout { peer: self.peer, limit }),
        }
    }

    fn halted(&self, halt: Halt) -> NetError {
        match halt {
            Halt::End => {
                let came = self.open.as_ref().map_or(0, |open| open.header.len - open.missing);
                NetError::Short { peer: self.peer, missing: u64::from(self.left - came) }
            }
            Halt::Broken(error) => failure::read(self.peer, error),
        }
    }

    fn finish(&mut self) {
        self.inbound.end();
        self.state = State::Done;
        self.metrics.body(None, self.received);
    }

    fn fail(&mut self, error: NetError) {
        self.inbound.stop(Status::from(error.kind()));
        self.metrics.body(Some(error.kind()), self.received);
        self.state = State::Failed(error);
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if matches!(self.state, State::Reading) {
            self.inbound.stop(Status::Unavailable);
            self.metrics.body(Some(ErrorKind::Cancelled), self.received);
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
