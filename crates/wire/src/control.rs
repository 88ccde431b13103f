//! Control messages: what a node holds, warm-up, statistics and the ring view.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};
use shoal_types::{BlockKey, BlockSpan, NodeId, OriginId, Tier};

use crate::error::WireError;
use crate::fields::{self, MAX_KEYS};
use crate::frame::{FrameKind, MAX_CONTROL_BYTES, frame};
use crate::get::check_key;
use crate::status::Status;

/// Asks a node something other than bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// In which tier are these blocks? Answered by one [`Response::Has`].
    Has {
        /// At most [`MAX_KEYS`].
        #[serde(with = "fields::keys")]
        keys: Vec<BlockKey>,
    },
    /// Bring these blocks into the cache. Answered by [`Response::WarmProgress`] until one is the last.
    Warm {
        /// At most [`MAX_KEYS`].
        #[serde(with = "fields::keys")]
        keys: Vec<BlockKey>,
        /// The node that hands the blocks over and has them; honoured only when a node asks.
        from: Option<SocketAddr>,
    },
    /// Hand every block over to its next owner, then leave the ring and end. Answered by [`Response::DrainProgress`] until one is
    /// the last. Only a node may ask.
    Drain,
    /// Counters. Answered by one [`Response::Stat`].
    Stat,
    /// The ring view now and after every change: a stream of [`Response::View`] without end.
    Watch,
    /// The ring view now. Answered by one [`Response::View`].
    View,
}

/// Answers a [`Request`].
#[allow(clippy::large_enum_variant, reason = "a response is made once for a request and never kept in numbers")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Where each asked block is, in the order asked.
    Has {
        /// Nearest tier of the node, `None` if it does not hold the block.
        #[serde(with = "fields::tiers")]
        tiers: Vec<Option<Tier>>,
    },
    /// How far a warm-up is; counts are since its request.
    WarmProgress {
        /// Blocks dealt with, in any way.
        done: u64,
        /// Blocks that were in the cache already.
        already: u64,
        /// Blocks fetched from the origin.
        fetched: u64,
        /// Blocks that could not be fetched.
        failed: u64,
        /// Bytes fetched from the origin.
        bytes: u64,
        /// No more progress follows.
        last: bool,
        /// Why the first failed block failed; empty if none did.
        first_error: String,
    },
    /// How far a drain is.
    DrainProgress {
        /// Blocks the node held when it began.
        total: u64,
        /// Blocks dealt with, in any way.
        done: u64,
        /// Blocks another node took over.
        moved: u64,
        /// Blocks no other node took; their origin still has them.
        failed: u64,
        /// Bytes in the blocks that were taken over.
        bytes: u64,
        /// No more progress follows.
        last: bool,
        /// Why the first failed block failed; empty if none did.
        first_error: String,
    },
    /// Counters.
    Stat(NodeStat),
    /// A ring view in the cluster's own encoding.
    View(#[serde(with = "fields::blob")] Bytes),
    /// The request failed.
    Error {
        /// How.
        #[serde(with = "fields::status")]
        status: Status,
        /// A sentence for people.
        message: String,
    },
}

/// A node's counters, as `shoal status` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStat {
    /// The node.
    pub id: NodeId,
    /// Its name in its certificate.
    pub name: String,
    /// Address its peers reach it at.
    pub addr: SocketAddr,
    /// Version of its program.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Bytes of blocks in memory.
    pub ram_used: u64,
    /// Most bytes of blocks in memory.
    pub ram_limit: u64,
    /// Bytes of blocks in cache directories.
    pub nvme_used: u64,
    /// Most bytes of blocks in cache directories.
    pub nvme_limit: u64,
    /// Blocks held.
    pub blocks: u64,
    /// Blocks dropped for space since it started.
    pub evictions: u64,
    /// Reads answered by each tier, in the order of [`Tier::ALL`].
    pub reads_by_tier: [u64; 4],
    /// Bytes answered by each tier, in the order of [`Tier::ALL`].
    pub bytes_by_tier: [u64; 4],
    /// Requests sent to origins.
    pub origin_requests: u64,
    /// Epoch of its ring view.
    pub epoch: u64,
    /// Members in its ring view.
    pub members: u32,
    /// Origins it can fetch from.
    pub origins: Vec<OriginId>,
    /// Reads that ended in an error.
    pub errors: u64,
    /// Its failure domain; empty if unknown.
    pub zone: String,
    /// Its share of the ring relative to others.
    pub weight: u32,
    /// It hands its blocks over and will leave.
    pub leaving: bool,
}

impl Request {
    /// The request as a frame. Errors: `Invalid` over a bound; [`batches`] keeps keys within theirs.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        if let Request::Has { keys } | Request::Warm { keys, .. } = self {
            WireError::bound("keys in a batch", keys.len(), MAX_KEYS)?;
            keys.iter().try_for_each(check_key)?;
        }
        encode(FrameKind::Request, self)
    }

    /// Reads a payload. Errors: `Corrupt` for bytes that are no request within the bounds.
    pub fn decode(payload: &[u8]) -> Result<Request, WireError> {
        decode(payload)
    }

    /// The request's name as metrics and logs spell it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Request::Has { .. } => "has",
            Request::Warm { .. } => "warm",
            Request::Drain => "drain",
            Request::Stat => "stat",
            Request::Watch => "watch",
            Request::View => "view",
        }
    }
}

impl Response {
    /// The response as a frame. Errors: `Invalid` over a bound.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        encode(FrameKind::Response, self)
    }

    /// Reads a payload. Errors: `Corrupt` for bytes that are no response within the bounds.
    pub fn decode(payload: &[u8]) -> Result<Response, WireError> {
        decode(payload)
    }
}

/// `keys` in order, in batches that fit one request: at most [`MAX_KEYS`] and less than the bound on its bytes.
pub fn batches(keys: Vec<BlockKey>) -> impl Iterator<Item = Vec<BlockKey>> {
    let mut keys = keys.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut batch = Vec::new();
        let mut left = MAX_CONTROL_BYTES as usize - 64;
        while batch.len() < MAX_KEYS {
            let Some(key) = keys.next_if(|key| batch.is_empty() || size_bound(key) <= left) else { break };
            left = left.saturating_sub(size_bound(&key));
            batch.push(key);
        }
        (!batch.is_empty()).then_some(batch)
    })
}

/// At least as many bytes as `key` takes in a message: its texts, and its fixed fields with their longest varints.
fn size_bound(key: &BlockKey) -> usize {
    let etag = match key.span() {
        BlockSpan::Whole => 0,
        BlockSpan::Part { etag, .. } => etag.len(),
    };
    key.object().len() + etag + 48
}

fn encode<T: Serialize>(kind: FrameKind, message: &T) -> Result<Bytes, WireError> {
    frame(kind, 256, |out| {
        let writer = out.writer();
        postcard::to_io(message, writer).map_err(|_| WireError::Malformed { what: "it has no encoding" })?;
        Ok(())
    })
}

fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, WireError> {
    WireError::bound("payload bytes", payload.len(), MAX_CONTROL_BYTES as usize)?;
    let (message, rest) = postcard::take_from_bytes(payload)
        .map_err(|_| WireError::Malformed { what: "a control message does not decode" })?;
    if rest.is_empty() { Ok(message) } else { Err(WireError::Malformed { what: "bytes after its end" }) }
}
