//! Reads frames and runs of chunks off a stream without copying what is large.

use std::mem;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use quinn::ReadError;
use shoal_wire::Status;

use crate::link::RecvStream;

/// Longest header: that of a frame.
const HEADER: usize = 8;

/// Pieces taken off the stream at once: packets of 1452 bytes come in dozens.
const AHEAD: usize = 16;

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
    /// Pieces read ahead are `ahead[at..filled]`.
    ahead: [Bytes; AHEAD],
    at: usize,
    filled: usize,
    header: [u8; HEADER],
    header_len: usize,
    payload: Vec<u8>,
}

impl Inbound {
    pub(crate) fn new(stream: RecvStream) -> Inbound {
        let ahead = [const { Bytes::new() }; AHEAD];
        Inbound { stream, ahead, at: 0, filled: 0, header: [0; HEADER], header_len: 0, payload: Vec::new() }
    }

    /// The next `N` bytes, at most 8. The caller asks for as many after a dropped read.
    pub(crate) async fn header<const N: usize>(&mut self) -> Result<[u8; N], Halt> {
        const { assert!(N <= HEADER) };
        while self.header_len < N {
            self.fill().await?;
            let piece = &mut self.ahead[self.at];
            let n = piece.len().min(N - self.header_len);
            piece.copy_to_slice(&mut self.header[self.header_len..self.header_len + n]);
            self.header_len += n;
        }
        self.header_len = 0;
        let mut header = [0; N];
        header.copy_from_slice(&self.header[..N]);
        Ok(header)
    }

    /// True unless a header or payload was read in part.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.header_len == 0 && self.payload.is_empty()
    }

    /// The next piece of at most `max` bytes, never empty. It shares the memory of the packets it came in.
    pub(crate) async fn piece(&mut self, max: usize) -> Result<Bytes, Halt> {
        self.fill().await?;
        let piece = &mut self.ahead[self.at];
        if piece.len() <= max { Ok(mem::take(piece)) } else { Ok(piece.split_to(max)) }
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
        let _ended = self.stream.read_chunk(1).now_or_never();
    }

    /// Tells the peer to stop sending.
    pub(crate) fn stop(&mut self, status: Status) {
        // Fails only if the stream has ended, which is as good.
        let _ = self.stream.stop(status.reset_code());
    }

    /// Makes `ahead[at]` hold something.
    async fn fill(&mut self) -> Result<(), Halt> {
        loop {
            while self.at < self.filled {
                if !self.ahead[self.at].is_empty() {
                    return Ok(());
                }
                // What is left of it would hold its packet.
                self.ahead[self.at] = Bytes::new();
                self.at += 1;
            }
            (self.at, self.filled) = (0, 0);
            match self.stream.read_chunks(&mut self.ahead).await {
                Ok(Some(pieces)) => self.filled = pieces,
                Ok(None) => return Err(Halt::End),
                Err(error) => return Err(Halt::Broken(error)),
            }
        }
    }
}
