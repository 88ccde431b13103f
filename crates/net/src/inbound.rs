//! Reads frames and chunks off a stream without copying what is large.

use std::mem;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use quinn::{ReadError, RecvStream};
use shoal_wire::Status;

/// Headers of frames and of chunks are this long.
const HEADER: usize = 8;

/// Reading ended.
#[derive(Debug)]
pub(crate) enum Halt {
    /// The peer finished the stream here.
    End,
    /// The stream broke.
    Broken(ReadError),
}

/// A receiving stream and what of it was read ahead. Cancel-safe: a dropped read loses nothing.
#[derive(Debug)]
pub(crate) struct Inbound {
    stream: RecvStream,
    ahead: Bytes,
    header: [u8; HEADER],
    header_len: usize,
    payload: Vec<u8>,
}

impl Inbound {
    pub(crate) fn new(stream: RecvStream) -> Inbound {
        Inbound { stream, ahead: Bytes::new(), header: [0; HEADER], header_len: 0, payload: Vec::new() }
    }

    /// The next 8 bytes.
    pub(crate) async fn header(&mut self) -> Result<[u8; HEADER], Halt> {
        while self.header_len < HEADER {
            self.fill().await?;
            let n = self.ahead.len().min(HEADER - self.header_len);
            self.ahead.copy_to_slice(&mut self.header[self.header_len..self.header_len + n]);
            self.header_len += n;
        }
        self.header_len = 0;
        Ok(self.header)
    }

    /// True unless a header or payload was read in part.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.header_len == 0 && self.payload.is_empty()
    }

    /// The next piece of at most `max` bytes, never empty. It shares the memory of the packets it came in.
    pub(crate) async fn piece(&mut self, max: usize) -> Result<Bytes, Halt> {
        self.fill().await?;
        Ok(self.ahead.split_to(max.min(self.ahead.len())))
    }

    /// The next `len` bytes, copied. The caller has checked `len` against a bound and asks for the same after a dropped read.
    pub(crate) async fn payload(&mut self, len: usize) -> Result<Vec<u8>, Halt> {
        // Grows with what arrives: a peer that promises much and sends little costs little.
        while self.payload.len() < len {
            let piece = self.piece(len - self.payload.len()).await?;
            self.payload.extend_from_slice(&piece);
        }
        Ok(mem::take(&mut self.payload))
    }

    /// Takes note of the stream's end if it is here already, so that dropping the stream needs no word to the peer.
    pub(crate) fn end(&mut self) {
        let _ended = self.stream.read_chunk(1, true).now_or_never();
    }

    /// Tells the peer to stop sending.
    pub(crate) fn stop(&mut self, status: Status) {
        // Fails only if the stream has ended, which is as good.
        let _ = self.stream.stop(status.reset_code().into());
    }

    /// Makes `ahead` hold something.
    async fn fill(&mut self) -> Result<(), Halt> {
        while self.ahead.is_empty() {
            match self.stream.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => self.ahead = chunk.bytes,
                Ok(None) => return Err(Halt::End),
                Err(error) => return Err(Halt::Broken(error)),
            }
        }
        Ok(())
    }
}
