//! Answers as their handler writes them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::WriteError;
use shoal_runtime::clock;
use shoal_types::checksum::crc32c;
use shoal_types::{Class, ErrorKind, PageSums};
use shoal_wire::chunk::{
    CHUNK_HEADER_BYTES, ChunkHeader, MAX_CHUNK_BYTES, MAX_RUN_CHUNKS, RUN_HEADER_BYTES, encode_run,
};
use shoal_wire::{GetHead, Response, Status};

use crate::admission::Entry;
use crate::ask::priority;
use crate::error::NetError;
use crate::failure;
use crate::limits::{HELD_BYTES, SEND_IDLE_TIMEOUT};
use crate::link::SendStream;
use crate::metrics::NetMetrics;
use crate::wait::within;

/// What a caller reads whose request is turned away.
pub(crate) const BUSY: &str = "this node has too many requests, or is stopping";

/// Chunks hashed and handed to the connection in one go: 1 MiB, so that checksums of the next go overlap with sending this one.
const CHUNKS_PER_WRITE: usize = 8;

/// Answers of up to this many bytes leave with the next packets, unless the path is full of larger ones.
const SMALL_ANSWER: usize = 64 << 10;

/// Writes to a peer with a bound on how long it may take nothing.
struct Outbound {
    stream: SendStream,
    peer: SocketAddr,
    /// What is written later in one piece; `None` writes at once.
    held: Option<BytesMut>,
}

impl Outbound {
    fn new(stream: SendStream, peer: SocketAddr) -> Outbound {
        Outbound { stream, peer, held: None }
    }

    /// Not cancel-safe: a dropped write leaves the stream in the middle of a message.
    async fn write(&mut self, parts: &mut [Bytes]) -> Result<(), NetError> {
        let Some(held) = &mut self.held else { return self.write_now(parts).await };
        if parts.iter().map(Bytes::len).sum::<usize>() + held.len() > HELD_BYTES {
            self.flush().await?;
            return self.write_now(parts).await;
        }
        parts.iter().for_each(|part| held.extend_from_slice(part));
        Ok(())
    }

    /// Writes what is held. Not cancel-safe.
    async fn flush(&mut self) -> Result<(), NetError> {
        match &mut self.held {
            Some(held) if !held.is_empty() => {
                let bytes = held.split().freeze();
                self.write_now(&mut [bytes]).await
            }
            _ => Ok(()),
        }
    }

    async fn write_now(&mut self, parts: &mut [Bytes]) -> Result<(), NetError> {
        let peer = self.peer;
        match within(SEND_IDLE_TIMEOUT, self.stream.write_all_chunks(parts)).await {
            Some(written) => written.map_err(|error: WriteError| failure::write(peer, error)),
            None => Err(NetError::Timeout { peer, limit: SEND_IDLE_TIMEOUT }),
        }
    }

    fn finish(&mut self) {
        // Fails only if the peer stopped the stream or it is closed: nobody is left to tell.
        let _ = self.stream.finish();
    }

    fn reset(&mut self, status: Status) {
        let _ = self.stream.reset(status.reset_code());
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
    entries: Vec<Entry>,
    metrics: Arc<NetMetrics>,
}

impl GetSink {
    pub(crate) fn new(stream: SendStream, peer: SocketAddr, metrics: Arc<NetMetrics>) -> GetSink {
        let (out, progress) = (Outbound::new(stream, peer), Progress::Empty);
        GetSink { out, progress, sent: 0, entries: Vec::new(), metrics }
    }

    /// Sends more urgent answers of the same connection first.
    pub(crate) fn set_class(&self, class: Class) {
        if class != Class::Foreground {
            // Fails only if the stream is closed.
            let _ = self.out.stream.set_priority(priority(class));
        }
    }

    /// Keeps what the answer was admitted with until it is delivered.
    pub(crate) fn keep(&mut self, entries: Vec<Entry>) {
        self.entries = entries;
    }

    /// Several answers follow one another: the small parts of each are written in one piece.
    pub(crate) fn hold(&mut self) {
        self.out.held = Some(BytesMut::new());
    }

    /// Lets a complete answer go and begins the next of several; false if it broke. Not cancel-safe.
    pub(crate) async fn next_answer(&mut self) -> bool {
        let complete = matches!(self.progress, Progress::Body(0) | Progress::Refused(_));
        if complete {
            self.flush().await;
        }
        match self.progress {
            Progress::Body(0) | Progress::Refused(_) => {
                self.progress = Progress::Empty;
                true
            }
            Progress::Empty | Progress::Body(_) | Progress::Broken(_) => false,
        }
    }

    /// Writes what is held back. A peer that does not take it is seen when the answer ends.
    pub(crate) async fn flush(&mut self) {
        if self.out.flush().await.is_err() {
            self.progress = Progress::Broken(Status::Unavailable);
        }
    }

    /// Resolves when the peer wants no answer any more, or after [`GetSink::close`] when it has all of it.
    pub(crate) fn unwanted(&self) -> impl Future<Output = ()> + Send + 'static {
        self.out.stream.stopped()
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
        let len = head.range.clamp(head.block_len).len();
        if self.out.held.is_none() {
            self.entries.iter_mut().for_each(|entry| entry.shrink_to(len.into()));
        }
        self.progress = Progress::Broken(Status::Unavailable);
        self.out.write(&mut [frame]).await?;
        self.progress = match head.status {
            Status::Ok => Progress::Body(len),
            status => Progress::Refused(status),
        };
        Ok(())
    }

    /// Sends the next bytes of the body without copying them; they are kept until the peer has acknowledged them. Empty `bytes`
    /// are fine. Waits while the peer is slow.
    ///
    /// Errors: `Internal` for more bytes than the head promised, otherwise as [`GetSink::head`]. Not cancel-safe.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), NetError> {
        let left = self.promised(bytes.len())?;
        while !bytes.is_empty() {
            let batch = bytes.split_to(bytes.len().min(CHUNKS_PER_WRITE * MAX_CHUNK_BYTES as usize));
            let mut table = [ChunkHeader { len: 0, crc: 0 }; CHUNKS_PER_WRITE];
            let mut used = 0;
            for chunk in batch.chunks(MAX_CHUNK_BYTES as usize) {
                table[used] = ChunkHeader { len: chunk.len() as u32, crc: crc32c(chunk) };
                used += 1;
            }
            self.write_run(&table[..used], batch).await?;
        }
        self.progress = Progress::Body(left);
        Ok(())
    }

    /// As [`GetSink::send`] for bytes whose checksums are known and not computed again: those of a store. Where they tell nothing,
    /// as about a part of a page, the bytes are hashed. A wrong checksum is for the peer to see.
    pub async fn send_summed(&mut self, mut bytes: Bytes, sums: &PageSums) -> Result<(), NetError> {
        let left = self.promised(bytes.len())?;
        let mut at = 0;
        while !bytes.is_empty() {
            let run = bytes.split_to(bytes.len().min(MAX_RUN_CHUNKS * MAX_CHUNK_BYTES as usize));
            let mut table = Vec::with_capacity(run.len().div_ceil(MAX_CHUNK_BYTES as usize));
            for chunk in run.chunks(MAX_CHUNK_BYTES as usize) {
                let len = chunk.len() as u32;
                table.push(ChunkHeader { len, crc: sums.crc_of(at..at + len).unwrap_or_else(|| crc32c(chunk)) });
                at += len;
            }
            self.write_run(&table, run).await?;
        }
        self.progress = Progress::Body(left);
        Ok(())
    }

    /// Refuses with a head if none was sent yet, else breaks the answer off with `status`.
    pub async fn fail(&mut self, status: Status, message: impl Into<String>) {
        self.refuse(GetHead::refusal(status, message)).await;
    }

    /// Refuses for want of room, with the advice to come again after `retry`.
    pub(crate) async fn busy(&mut self, retry: Duration) {
        let retry_ms = u16::try_from(retry.as_millis()).unwrap_or(u16::MAX);
        self.refuse(GetHead { retry_ms, ..GetHead::refusal(Status::Busy, BUSY) }).await;
    }

    async fn refuse(&mut self, head: GetHead) {
        let status = head.status;
        match self.progress {
            Progress::Empty => {
                // The caller has nothing more to do whether or not the peer hears of it.
                let _ = self.head(head).await;
            }
            Progress::Body(_) => {
                self.out.reset(status);
                self.progress = Progress::Broken(status);
            }
            Progress::Refused(_) | Progress::Broken(_) => {}
        }
    }

    /// What is left of the body behind the next `len` bytes; until they are written the answer counts as broken.
    fn promised(&mut self, len: usize) -> Result<u32, NetError> {
        let Progress::Body(left) = self.progress else {
            return Err(NetError::Handler { what: "bytes without a head that promises them" });
        };
        if len > left as usize {
            return Err(NetError::Handler { what: "more bytes than the head promised" });
        }
        self.progress = Progress::Broken(Status::Unavailable);
        Ok(left - len as u32)
    }

    /// `bytes` as the run of `table`: two pieces, of which the large one is not copied.
    async fn write_run(&mut self, table: &[ChunkHeader], bytes: Bytes) -> Result<(), NetError> {
        self.sent += bytes.len();
        self.metrics.sent_bytes.add(bytes.len() as u64);
        let mut front = BytesMut::with_capacity(RUN_HEADER_BYTES + table.len() * CHUNK_HEADER_BYTES);
        front.put_slice(&encode_run(table.len()));
        table.iter().for_each(|chunk| front.put_slice(&chunk.encode()));
        self.out.write(&mut [front.freeze(), bytes]).await
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
        ResponseSink { out: Outbound::new(stream, peer), state: ResponseState::Ready(None) }
    }

    /// Resolves when the peer wants no answer any more.
    pub(crate) fn unwanted(&self) -> impl Future<Output = ()> + Send + 'static {
        self.out.stream.stopped()
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
