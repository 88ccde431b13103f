//! Answers as their handler writes them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{SendStream, WriteError};
use shoal_runtime::clock;
use shoal_types::checksum::crc32c;
use shoal_types::{Class, ErrorKind};
use shoal_wire::chunk::{ChunkHeader, HEADER_BYTES, MAX_CHUNK_BYTES};
use shoal_wire::{GetHead, Response, Status};

use crate::error::NetError;
use crate::failure;
use crate::limits::SEND_IDLE_TIMEOUT;
use crate::metrics::NetMetrics;

/// Chunks handed to the connection in one go: 1 MiB, so that checksums of the next go overlap with sending this one.
const CHUNKS_PER_WRITE: usize = 8;

/// Answers of up to this many bytes leave with the next packets, unless the path is full of larger ones.
const SMALL_ANSWER: usize = 64 << 10;

/// Writes to a peer with a bound on how long it may take nothing.
struct Outbound {
    stream: SendStream,
    peer: SocketAddr,
}

impl Outbound {
    /// Not cancel-safe: a dropped write leaves the stream in the middle of a message.
    async fn write(&mut self, parts: &mut [Bytes]) -> Result<(), NetError> {
        let peer = self.peer;
        match clock::timeout(SEND_IDLE_TIMEOUT, self.stream.write_all_chunks(parts)).await {
            Ok(written) => written.map_err(|error: WriteError| failure::write(peer, error)),
            Err(_) => Err(NetError::Timeout { peer, limit: SEND_IDLE_TIMEOUT }),
        }
    }

    fn finish(&mut self) {
        // Fails only if the peer stopped the stream or it is closed: nobody is left to tell.
        let _ = self.stream.finish();
    }

    fn reset(&mut self, status: Status) {
        let _ = self.stream.reset(status.reset_code().into());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing was sent.
    Empty,
    /// The head was sent and this many bytes are to come.
    Body(u32),
    /// A head that is not `Ok` was sent.
    Refused(Status),
    /// The stream was reset, or a write was dropped half-way.
    Broken(Status),
}

/// The answer to a get: a head, then as many bytes as it promised. An answer that is not complete when the handler returns
/// is broken off, and the peer sees `Unavailable` instead of short data.
pub struct GetSink {
    out: Outbound,
    progress: Progress,
    sent: usize,
    metrics: Arc<NetMetrics>,
}

impl GetSink {
    pub(crate) fn new(stream: SendStream, peer: SocketAddr, metrics: Arc<NetMetrics>) -> GetSink {
        GetSink { out: Outbound { stream, peer }, progress: Progress::Empty, sent: 0, metrics }
    }

    /// Sends more urgent answers of the same connection first.
    pub(crate) fn set_class(&self, class: Class) {
        // Fails only if the stream is closed.
        let _ = self.out.stream.set_priority(-(class as i32));
    }

    /// Resolves when the peer wants no answer any more, or after [`GetSink::close`] when it has all of it.
    pub(crate) fn unwanted(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.out.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    /// Sends the head. After one that is not `Ok` the answer is complete.
    ///
    /// Errors: `Internal` for a second head; `Cancelled` when the peer no longer wants the answer, `Unavailable` when the
    /// connection broke, `Timeout` when the peer takes nothing: return then. Not cancel-safe.
    pub async fn head(&mut self, head: GetHead) -> Result<(), NetError> {
        if self.progress != Progress::Empty {
            return Err(NetError::Handler { what: "a second head" });
        }
        let peer = self.out.peer;
        let frame = head.encode().map_err(|source| NetError::Wire { peer, source })?;
        self.progress = Progress::Broken(Status::Unavailable);
        self.out.write(&mut [frame]).await?;
        self.progress = match head.status {
            Status::Ok => Progress::Body(head.range.clamp(head.block_len).len()),
            status => Progress::Refused(status),
        };
        Ok(())
    }

    /// Sends the next bytes of the body without copying them; they are kept until the peer has acknowledged them. Empty `bytes`
    /// are fine. Waits while the peer is slow.
    ///
    /// Errors: `Internal` for more bytes than the head promised, otherwise as [`GetSink::head`]. Not cancel-safe.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), NetError> {
        let Progress::Body(mut left) = self.progress else {
            return Err(NetError::Handler { what: "bytes without a head that promises them" });
        };
        if bytes.len() > left as usize {
            return Err(NetError::Handler { what: "more bytes than the head promised" });
        }
        self.progress = Progress::Broken(Status::Unavailable);
        while !bytes.is_empty() {
            let batch = bytes.split_to(bytes.len().min(CHUNKS_PER_WRITE * MAX_CHUNK_BYTES as usize));
            left -= batch.len() as u32;
            self.sent += batch.len();
            self.metrics.sent_bytes.add(batch.len() as u64);
            self.write_chunks(batch).await?;
        }
        self.progress = Progress::Body(left);
        Ok(())
    }

    /// Refuses with a head if none was sent yet, else breaks the answer off with `status`.
    pub async fn fail(&mut self, status: Status, message: impl Into<String>) {
        match self.progress {
            Progress::Empty => {
                // The caller has nothing more to do whether or not the peer hears of it.
                let _ = self.head(GetHead::refusal(status, message)).await;
            }
            Progress::Body(_) => {
                self.out.reset(status);
                self.progress = Progress::Broken(status);
            }
            Progress::Refused(_) | Progress::Broken(_) => {}
        }
    }

    /// `batch` as at most [`CHUNKS_PER_WRITE`] chunks: small headers in one allocation, and slices of `batch`.
    async fn write_chunks(&mut self, mut batch: Bytes) -> Result<(), NetError> {
        let mut headers = BytesMut::with_capacity(CHUNKS_PER_WRITE * HEADER_BYTES);
        let mut parts = [const { Bytes::new() }; 2 * CHUNKS_PER_WRITE];
        let mut used = 0;
        while !batch.is_empty() {
            let chunk = batch.split_to(batch.len().min(MAX_CHUNK_BYTES as usize));
            headers.put_slice(&ChunkHeader { len: chunk.len() as u32, crc: crc32c(&chunk) }.encode());
            parts[used] = headers.split().freeze();
            parts[used + 1] = chunk;
            used += 2;
        }
        self.out.write(&mut parts[..used]).await
    }

    /// Ends the answer after its handler returned; what is incomplete is broken off. Gives how it went.
    pub(crate) fn close(&mut self) -> Option<ErrorKind> {
        self.end();
        match self.progress {
            Progress::Body(0) => None,
            Progress::Refused(status) | Progress::Broken(status) => status.error_kind(),
            Progress::Empty | Progress::Body(_) => Some(ErrorKind::Unavailable),
        }
    }

    /// After [`GetSink::close`]: waits until the peer has a large answer, or wants it no more. A small one is on its way already.
    pub(crate) async fn delivered(&mut self) {
        if self.sent > SMALL_ANSWER {
            // Past the limit the peer is not reading, and nothing waits for it any more.
            let _ = clock::timeout(SEND_IDLE_TIMEOUT, self.unwanted()).await;
        }
    }

    fn end(&mut self) {
        match self.progress {
            Progress::Body(0) | Progress::Refused(_) => self.out.finish(),
            Progress::Empty | Progress::Body(_) => self.out.reset(Status::Unavailable),
            Progress::Broken(status) => self.out.reset(status),
        }
    }
}

impl Drop for GetSink {
    /// A handler that panicked or was dropped must not look like one that finished. Harmless after [`GetSink::close`].
    fn drop(&mut self) {
        self.end();
    }
}

/// The answer to a control request: one or more responses.
pub struct ResponseSink {
    out: Outbound,
    state: ResponseState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseState {
    /// Between two responses; the status is that of the last one if it was an error.
    Ready(Option<Status>),
    /// In the middle of one, or never finished.
    Broken,
    /// Finished.
    Closed,
}

impl ResponseSink {
    pub(crate) fn new(stream: SendStream, peer: SocketAddr) -> ResponseSink {
        ResponseSink { out: Outbound { stream, peer }, state: ResponseState::Ready(None) }
    }

    /// Resolves when the peer wants no answer any more.
    pub(crate) fn unwanted(&self) -> impl Future<Output = ()> + Send + 'static {
        let stopped = self.out.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    /// Sends one response.
    ///
    /// Errors: `Invalid` for one over its bound; `Cancelled` when the peer no longer wants the answer, `Unavailable` when the
    /// connection broke, `Timeout` when the peer takes nothing: return then. Not cancel-safe.
    pub async fn send(&mut self, response: Response) -> Result<(), NetError> {
        let ResponseState::Ready(_) = self.state else {
            return Err(NetError::Handler { what: "a response after a broken one" });
        };
        let peer = self.out.peer;
        let frame = response.encode().map_err(|source| NetError::Wire { peer, source })?;
        self.state = ResponseState::Broken;
        self.out.write(&mut [frame]).await?;
        self.state = ResponseState::Ready(match response {
            Response::Error { status, .. } => Some(status),
            _ => None,
        });
        Ok(())
    }

    /// Ends the answer after its handler returned. Gives how it went.
    pub(crate) fn close(mut self) -> Option<ErrorKind> {
        match self.state {
            ResponseState::Ready(status) => {
                self.out.finish();
                self.state = ResponseState::Closed;
                status.and_then(Status::error_kind)
            }
            ResponseState::Broken | ResponseState::Closed => Some(ErrorKind::Unavailable),
        }
    }
}

impl Drop for ResponseSink {
    /// A handler that panicked or was dropped must not look like one that finished.
    fn drop(&mut self) {
        if self.state != ResponseState::Closed {
            self.out.reset(Status::Unavailable);
        }
    }
}
