//! The bytes of a body off a stream, checked chunk by chunk.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use shoal_runtime::clock;
use shoal_types::checksum::crc32c;
use shoal_wire::chunk::{self, CHUNK_HEADER_BYTES, ChunkHeader};

use crate::error::NetError;
use crate::failure;
use crate::inbound::{Halt, Inbound};
use crate::wait::within;

/// How long the reader of a body waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the next bytes.
    pub idle: Duration,
    /// For all of them.
    pub deadline: Option<Instant>,
}

impl Patience {
    /// How long the next read may take.
    pub(crate) fn limit(&self) -> Duration {
        match self.deadline {
            None => self.idle,
            Some(deadline) => deadline.saturating_duration_since(clock::now()).min(self.idle),
        }
    }
}

/// Reads one body into memory of its own, in which the pieces of packets become one run of bytes: they are checked there while the
/// CPU's caches hold them, and the packets' memory is free again at once, on the thread that takes the next packets into it.
pub(crate) struct Chunks {
    peer: SocketAddr,
    patience: Patience,
    /// Bytes of the body behind the open run.
    left: u32,
    /// Bytes of the open run that have not come.
    run_left: u32,
    /// Chunks of the open run; those before `next` are verified.
    table: Vec<ChunkHeader>,
    next: usize,
    /// What came and was not taken; `verified` bytes of it are good.
    gathered: BytesMut,
    verified: usize,
    /// Bytes of the body that are verified.
    total: u64,
}

impl Chunks {
    /// A body of `len` bytes.
    pub(crate) fn new(peer: SocketAddr, len: u32, patience: Patience) -> Chunks {
        let (table, gathered) = (Vec::new(), BytesMut::new());
        Chunks { peer, patience, left: len, run_left: 0, table, next: 0, gathered, verified: 0, total: 0 }
    }

    /// True once every byte came and was verified.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.run_left == 0
    }

    /// Bytes verified.
    pub(crate) fn verified(&self) -> u64 {
        self.total
    }

    /// Takes what is verified: it lies right behind what was taken before.
    pub(crate) fn take(&mut self) -> BytesMut {
        self.gathered.split_to(std::mem::take(&mut self.verified))
    }

    /// Gathers the next piece. Not after [`Chunks::is_done`]. Not cancel-safe.
    ///
    /// Errors: a chunk that fails its checksum, a stream that ends too early or breaks.
    async fn gather(&mut self, inbound: &mut Inbound) -> Result<(), NetError> {
        if self.run_left == 0 {
            self.open_run(inbound).await?;
        }
        let piece = inbound.piece(self.run_left as usize).await.map_err(|halt| self.halted(halt))?;
        if self.gathered.capacity() == 0 {
            // Memory that no byte has come for costs nothing yet.
            self.gathered.reserve(self.left as usize + self.run_left as usize);
        }
        self.gathered.extend_from_slice(&piece);
        self.run_left -= piece.len() as u32;
        self.check()
    }

    /// [`Chunks::gather`] within its limit.
    pub(crate) async fn gather_in_time(&mut self, inbound: &mut Inbound) -> Result<(), NetError> {
        let (limit, peer) = (self.patience.limit(), self.peer);
        within(limit, self.gather(inbound)).await.unwrap_or(Err(NetError::Timeout { peer, limit }))
    }

    /// All that remains.
    pub(crate) async fn collect(&mut self, inbound: &mut Inbound) -> Result<BytesMut, NetError> {
        while !self.is_done() {
            self.gather_in_time(inbound).await?;
        }
        Ok(self.take())
    }

    async fn open_run(&mut self, inbound: &mut Inbound) -> Result<(), NetError> {
        let peer = self.peer;
        let wire = |source| NetError::Wire { peer, source };
        let header = inbound.header().await.map_err(|halt| self.halted(halt))?;
        (self.next, self.run_left) = (0, 0);
        self.table.clear();
        for _ in 0..chunk::decode_run(&header).map_err(wire)? {
            let entry: [u8; CHUNK_HEADER_BYTES] = inbound.header().await.map_err(|halt| self.halted(halt))?;
            let chunk = ChunkHeader::decode(&entry, self.left).map_err(wire)?;
            self.left -= chunk.len;
            self.run_left += chunk.len;
            self.table.push(chunk);
        }
        Ok(())
    }

    /// Checks the chunks that are whole by now.
    fn check(&mut self) -> Result<(), NetError> {
        while let Some(chunk) = self.table.get(self.next) {
            let end = self.verified + chunk.len as usize;
            let Some(bytes) = self.gathered.get(self.verified..end) else { break };
            let computed = crc32c(bytes);
            if computed != chunk.crc {
                return Err(NetError::Corrupt { peer: self.peer, sent: chunk.crc, computed });
            }
            self.next += 1;
            self.verified = end;
            self.total += u64::from(chunk.len);
        }
        Ok(())
    }

    fn halted(&self, halt: Halt) -> NetError {
        match halt {
            Halt::End => NetError::Short { peer: self.peer, missing: u64::from(self.left) + u64::from(self.run_left) },
            Halt::Broken(error) => failure::read(self.peer, error),
        }
    }
}
