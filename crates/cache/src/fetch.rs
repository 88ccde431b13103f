//! One block, or a part of it, from the nearest place that gives it: owner, next replica, origin.
//!
//! A place that breaks off is not begun again: stored bytes are the same everywhere, so the next place continues from the byte
//! reached. A place is believed only as far as lengths, checksums and the codec can tell; the origin has the last word.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_cluster::Member;
use shoal_format::BlockCodec;
use shoal_object::ObjectStore;
use shoal_runtime::{clock, task};
use shoal_types::{BlockKey, BlockRange, Class, ErrorKind, Tier};
use shoal_wire::{GetHead, GetRequest, Status};

use crate::error::CacheError;
use crate::flight::{Flight, join};
use crate::metrics::{Meter, SkipReason};
use crate::nodes::{Nodes, Skip};
use crate::origin;

/// A block as a client names it: which one, and how to turn its stored bytes into plain ones.
#[derive(Debug, Clone)]
pub struct Block {
    /// The block.
    pub key: BlockKey,
    /// Plain bytes in it.
    pub plain_len: u32,
    /// How it is stored.
    pub codec: BlockCodec,
}

/// The places below a client's memory.
#[derive(Debug)]
pub(crate) struct Fetcher {
    pub(crate) nodes: Option<Nodes>,
    pub(crate) origin: Arc<dyn ObjectStore>,
    /// Longest silence of the origin.
    pub(crate) origin_timeout: Duration,
    pub(crate) meter: Arc<Meter>,
}

/// Answers of the origin that break off and are continued, for one fetch, beyond what the object store itself retries. Only an
/// answer that gave bytes is continued.
const RESUMES_MAX: u32 = 4;

/// Answers of at most this many bytes are collected on the network's own thread: one wake-up of this one instead of one for every
/// packet (measured: p50 of a 4 KiB answer 37 us instead of 46). A larger one streams, so that readers have its first bytes early.
const SMALL_ANSWER: u32 = 128 << 10;

/// Stored bytes of one block as they come in, from whichever place.
struct Intake<'a> {
    key: &'a BlockKey,
    /// Stored bytes in the block; unknown for an encoded block until a place has told.
    block_len: Option<u32>,
    /// One past the last byte wanted; `None` wants all.
    end: Option<u32>,
    /// The first byte wanted.
    start: u32,
    /// The next byte to come.
    at: u32,
    to: Sink<'a>,
    /// Where the last bytes came from.
    tier: Tier,
    from_node: bool,
}

enum Sink<'a> {
    /// Stored bytes are plain bytes: readers may have them at once.
    Readers(&'a Flight),
    /// They mean nothing until all of them are decoded.
    Held(Vec<Bytes>),
}

impl Fetcher {
    /// Brings plain bytes `span` of `block` to `flight`, to its end; an encoded block always comes whole.
    ///
    /// Errors: `NotFound`, `Corrupt`, and what else the origin says: it is asked when every owner has failed, so an error is
    /// the origin's. The flight is left for the caller to fail.
    pub(crate) async fn fetch(
        &self,
        class: Class,
        block: &Block,
        span: BlockRange,
        flight: &Flight,
    ) -> Result<Bytes, CacheError> {
        if !block.codec.is_identity() {
            return self.fetch_encoded(class, block, flight).await;
        }
        flight.announce(span.len());
        let mut intake = Intake {
            key: &block.key,
            block_len: Some(block.plain_len),
            end: Some(span.end),
            start: span.start,
            at: span.start,
            to: Sink::Readers(flight),
            tier: Tier::Origin,
            from_node: false,
        };
        self.gather(class, &mut intake).await?;
        Ok(flight.assemble())
    }

    async fn fetch_encoded(&self, class: Class, block: &Block, flight: &Flight) -> Result<Bytes, CacheError> {
        let mut intake = Intake::encoded(&block.key);
        self.gather(class, &mut intake).await?;
        let plain = match decode(block, intake.joined()).await {
            Err(error) if intake.from_node => {
                // Checksums on the way were right, so a node has the wrong bytes; only the origin can tell.
                self.meter.skipped(SkipReason::Corrupt);
                tracing::warn!(key = %block.key, %error, "a node gave bytes that do not decode; asking the origin");
                self.finish_at_origin(&mut intake).await?;
                decode(block, intake.joined()).await?
            }
            result => result?,
        };
        flight.land(plain.clone(), intake.tier);
        Ok(plain)
    }

    async fn gather(&self, class: Class, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        if let Some(nodes) = &self.nodes {
            let (owners, epoch) = nodes.owners(intake.key);
            for node in &owners {
                if !nodes.may_ask(node) {
                    self.meter.skipped(SkipReason::BackOff);
                    continue;
                }
                let asked = clock::now();
                let result = from_node(nodes, node, epoch, class, intake).await;
                nodes.note(node, asked, &result);
                let Err(skip) = result else { return Ok(()) };
                self.meter.skipped(skip.reason);
                tracing::debug!(node = %node.name, key = %intake.key, reason = skip.reason.as_str(), "node passed over");
                if skip.reason == SkipReason::Corrupt {
                    intake.rewind();
                }
                if skip.reason == SkipReason::NotFound {
                    // It has just asked the origin; another node would ask again.
                    break;
                }
            }
        }
        self.finish_at_origin(intake).await
    }

    /// The rest from the origin; an answer that breaks off after some bytes is continued.
    async fn finish_at_origin(&self, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        intake.drop_unproven();
        for _ in 0..RESUMES_MAX {
            let before = intake.at;
            match self.ask_origin(intake).await {
                Err(error) if intake.at > before && may_pass(error.kind()) => {
                    tracing::debug!(key = %intake.key, %error, at = intake.at, "the origin broke off; continuing");
                }
                result => return result,
            }
        }
        self.ask_origin(intake).await
    }

    async fn ask_origin(&self, intake: &mut Intake<'_>) -> Result<(), CacheError> {
        let wanted = intake.wanted();
        let all = wanted.start == 0 && intake.end.is_none_or(|end| intake.block_len == Some(end));
        self.meter.origin_request();
        let range = (!all).then_some(wanted);
        let mut body = origin::open(self.origin.as_ref(), intake.key, range, self.origin_timeout).await?;
        if let Some(block_len) = body.block_len() {
            intake.accept(block_len)?;
        }
        while let Some(bytes) = body.next().await? {
            intake.push(bytes, Tier::Origin);
        }
        Ok(())
    }
}

/// The rest from one node.
async fn from_node(
    nodes: &Nodes,
    node: &Member,
    epoch: u64,
    class: Class,
    intake: &mut Intake<'_>,
) -> Result<(), Skip> {
    let wanted = intake.wanted();
    // No deadline: the fetch is for everyone who waits or will; silence is what ends it.
    let request = GetRequest { key: intake.key.clone(), range: wanted, class, deadline_ms: 0, epoch };
    if wanted.len() <= SMALL_ANSWER {
        let (head, bytes) = nodes.patient(nodes.peers.endpoint.fetch(node.addr, request)).await?;
        believe(&head, wanted, intake)?;
        intake.take(bytes)?;
        return if intake.wanted().is_empty() { Ok(()) } else { Err(Skip::corrupt()) };
    }
    let reply = nodes.patient(nodes.peers.endpoint.get(node.addr, &request)).await?;
    believe(&reply.head, wanted, intake)?;
    let mut body = reply.body;
    while let Some(bytes) = nodes.patient(body.next()).await? {
        intake.take(bytes)?;
    }
    if intake.wanted().is_empty() { Ok(()) } else { Err(Skip::corrupt()) }
}

/// An answer is followed only if it is one, and of the range asked for.
fn believe(head: &GetHead, wanted: BlockRange, intake: &mut Intake<'_>) -> Result<(), Skip> {
    if head.status != Status::Ok {
        return Err(Skip::answered(head.status));
    }
    if intake.accept(head.block_len).is_err() || head.range != wanted.clamp(head.block_len) {
        return Err(Skip::corrupt());
    }
    Ok(())
}

/// True for failures that another attempt may not meet and that say nothing against the bytes before them.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)
}

/// Plain bytes of a stored block, worked out on a thread that may block: decoding costs milliseconds.
async fn decode(block: &Block, stored: Bytes) -> Result<Bytes, CacheError> {
    let (codec, plain_len) = (block.codec.clone(), block.plain_len);
    let decoded = task::blocking("decode", move || codec.decode(stored, plain_len)).await;
    let plain = decoded.map_err(|source| CacheError::Decode { key: block.key.clone(), source: source.into() })?;
    if plain.len() != plain_len as usize {
        let (want, got) = (u64::from(plain_len), plain.len() as u64);
        return Err(CacheError::Length { key: block.key.clone(), want, got });
    }
    Ok(plain)
}

impl<'a> Intake<'a> {
    fn encoded(key: &'a BlockKey) -> Intake<'a> {
        let to = Sink::Held(Vec::new());
        Intake { key, block_len: None, end: None, start: 0, at: 0, to, tier: Tier::Origin, from_node: false }
    }

    /// What is still to come.
    fn wanted(&self) -> BlockRange {
        BlockRange { start: self.at, end: self.end.or(self.block_len).unwrap_or(u32::MAX) }
    }

    /// A place says how long the block is; every place must say the same. Errors: `Corrupt`.
    fn accept(&mut self, block_len: u32) -> Result<(), CacheError> {
        match self.block_len {
            Some(known) if known != block_len => {
                Err(CacheError::Length { key: self.key.clone(), want: known.into(), got: block_len.into() })
            }
            _ => {
                self.block_len = Some(block_len);
                Ok(())
            }
        }
    }

    fn push(&mut self, bytes: Bytes, tier: Tier) {
        self.at += bytes.len() as u32;
        self.tier = tier;
        match &mut self.to {
            Sink::Readers(flight) => flight.copy(&bytes, tier),
            Sink::Held(pieces) => pieces.push(bytes),
        }
    }

    /// Bytes of a node's answer, refused if they are more than was asked for.
    fn take(&mut self, bytes: Bytes) -> Result<(), Skip> {
        if bytes.len() > self.wanted().len() as usize {
            return Err(Skip::corrupt());
        }
        self.from_node = true;
        self.push(bytes, Tier::Peer);
        Ok(())
    }

    /// Forgets the bytes that came: an object's own checksum is known to be wrong only at its end, and speaks of all of them.
    fn rewind(&mut self) {
        self.at = self.start;
        self.from_node = false;
        match &mut self.to {
            Sink::Readers(flight) => flight.rewind(),
            Sink::Held(pieces) => pieces.clear(),
        }
    }

    /// Forgets what nodes said and gave of a block whose length only its object tells: the origin is asked for all of it.
    fn drop_unproven(&mut self) {
        if matches!(self.to, Sink::Held(_)) && self.from_node {
            self.rewind();
            self.block_len = None;
        }
    }

    fn joined(&mut self) -> Bytes {
        match &mut self.to {
            Sink::Readers(_) => Bytes::new(),
            Sink::Held(pieces) => join(&std::mem::take(pieces)),
        }
    }
}
