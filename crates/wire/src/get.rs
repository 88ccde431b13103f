//! The hot pair: a request for bytes of a block, and the head of its answer.
//!
//! Request payload: `class u8, flags u8 (1: part, 2: local), spread u8, deadline_ms u32, epoch u64, start u32, end u32,
//! origin [16], object text`, and for a part `offset u64, len u32, etag text`. Head payload: `status u8, tier u8, spread u8,
//! retry_ms u16, block_len u32, start u32, end u32, message text`. Little-endian; a text is `len u16` and UTF-8 bytes.

use bytes::{BufMut, Bytes, BytesMut};
use shoal_types::{BlockKey, BlockRange, BlockSpan, Class, MAX_BLOCK_BYTES, OriginId, Tier};

use crate::error::WireError;
use crate::frame::{FrameKind, frame};
use crate::reader::Reader;
use crate::status::Status;

/// Longest object key in bytes: the bound of S3 and of every store that copies it.
pub const MAX_OBJECT_BYTES: usize = 1024;
/// Longest entity tag in bytes; the stores in use send 32 to 70.
pub const MAX_ETAG_BYTES: usize = 256;
/// Longest sentence in a head, in bytes; longer ones are cut.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Most owners that the demand for one block is spread over.
pub const SPREAD_MAX: u8 = 16;

/// Bits of a request's flags.
pub(crate) const PART: u8 = 1;
pub(crate) const LOCAL: u8 = 2;

/// "Give me these bytes of that block."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRequest {
    /// The block.
    pub key: BlockKey,
    /// Bytes wanted; an end past the block means "to its end".
    pub range: BlockRange,
    /// How urgent it is.
    pub class: Class,
    /// Milliseconds until the answer stops being useful; 0 = no deadline.
    pub deadline_ms: u32,
    /// Epoch of the ring view the caller chose this peer by.
    pub epoch: u64,
    /// How many of the block's owners the caller chose among, because a peer said that the block is hot: a peer answers if
    /// it is among them. 0 is the plain rule; at most [`SPREAD_MAX`].
    pub spread: u8,
    /// Only what the peer holds, or is fetching already: it asks neither the origin nor another peer.
    pub local: bool,
}

/// First part of the answer to a [`GetRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetHead {
    /// Outcome; bytes follow only after [`Status::Ok`].
    pub status: Status,
    /// Tier the bytes come from, as the answering peer sees it.
    pub tier: Tier,
    /// Bytes in the whole stored block.
    pub block_len: u32,
    /// What the body holds: the wanted range clamped to the block. Empty unless `Ok`.
    pub range: BlockRange,
    /// Blocks of this key's group are in demand and may be read from any of their first so many owners; 0 is no hint, at most
    /// [`SPREAD_MAX`].
    pub spread: u8,
    /// With [`Status::Busy`]: milliseconds until asking again makes sense; 0 is no advice.
    pub retry_ms: u16,
    /// A sentence for people when the status is not `Ok`; at most [`MAX_MESSAGE_BYTES`].
    pub message: String,
}

impl GetRequest {
    /// Foreground, without a deadline, to an owner by the plain rule.
    pub fn new(key: BlockKey, range: BlockRange) -> GetRequest {
        GetRequest { key, range, class: Class::Foreground, deadline_ms: 0, epoch: 0, spread: 0, local: false }
    }

    /// The request as a frame. Errors: `Invalid` for an object key or entity tag over its bound.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        check_key(&self.key)?;
        check_spread(self.spread)?;
        frame(FrameKind::Get, 64 + self.key.object().len(), |out| {
            out.put_u8(self.class as u8);
            out.put_u8(part_flag(&self.key) | if self.local { LOCAL } else { 0 });
            out.put_u8(self.spread);
            out.put_u32_le(self.deadline_ms);
            out.put_u64_le(self.epoch);
            out.put_u32_le(self.range.start);
            out.put_u32_le(self.range.end);
            put_key(out, &self.key);
            Ok(())
        })
    }

    /// Reads a payload. Errors: `Invalid` over a bound, `Corrupt` for bytes that are no request.
    pub fn decode(payload: &[u8]) -> Result<GetRequest, WireError> {
        let mut reader = Reader::new(payload);
        let class = read_class(&mut reader)?;
        let flags = read_flags(&mut reader, PART | LOCAL)?;
        let spread = reader.u8()?;
        check_spread(spread)?;
        let deadline_ms = reader.u32()?;
        let epoch = reader.u64()?;
        let range = BlockRange { start: reader.u32()?, end: reader.u32()? };
        let key = read_key(&mut reader, flags)?;
        reader.end()?;
        Ok(GetRequest { key, range, class, deadline_ms, epoch, spread, local: flags & LOCAL != 0 })
    }
}

impl GetHead {
    /// Bytes `range` of a block of `block_len` bytes follow; `range` is clamped here.
    pub fn ok(tier: Tier, block_len: u32, range: BlockRange) -> GetHead {
        let range = range.clamp(block_len);
        GetHead { status: Status::Ok, tier, block_len, range, spread: 0, retry_ms: 0, message: String::new() }
    }

    /// No bytes follow, and why.
    pub fn refusal(status: Status, message: impl Into<String>) -> GetHead {
        let range = BlockRange { start: 0, end: 0 };
        GetHead { status, tier: Tier::Origin, block_len: 0, range, spread: 0, retry_ms: 0, message: message.into() }
    }

    /// The head as a frame. A message over its bound is cut at a character; the range is clamped to the block and is empty
    /// unless the status is `Ok`. Errors: `Invalid` for a block over [`MAX_BLOCK_BYTES`].
    pub fn encode(&self) -> Result<Bytes, WireError> {
        WireError::bound("block bytes", self.block_len as usize, MAX_BLOCK_BYTES as usize)?;
        check_spread(self.spread)?;
        let message = &self.message[..self.message.floor_char_boundary(MAX_MESSAGE_BYTES)];
        let range = match self.status {
            Status::Ok => self.range.clamp(self.block_len),
            _ => BlockRange { start: 0, end: 0 },
        };
        frame(FrameKind::GetHead, 24 + message.len(), |out| {
            out.put_u8(self.status as u8);
            out.put_u8(self.tier as u8);
            out.put_u8(self.spread);
            out.put_u16_le(self.retry_ms);
            out.put_u32_le(self.block_len);
            out.put_u32_le(range.start);
            out.put_u32_le(range.end);
            put_text(out, message);
            Ok(())
        })
    }

    /// Reads a payload. The range lies in the block, and the block in [`MAX_BLOCK_BYTES`]: safe to allocate for.
    ///
    /// Errors: `Invalid` over a bound, `Corrupt` for bytes that are no head.
    pub fn decode(payload: &[u8]) -> Result<GetHead, WireError> {
        let mut reader = Reader::new(payload);
        let status = Status::from_u8(reader.u8()?).ok_or(WireError::Malformed { what: "unknown status" })?;
        let tier = Tier::from_u8(reader.u8()?).ok_or(WireError::Malformed { what: "unknown tier" })?;
        let spread = reader.u8()?;
        check_spread(spread)?;
        let retry_ms = reader.u16()?;
        let block_len = reader.u32()?;
        let range = BlockRange { start: reader.u32()?, end: reader.u32()? };
        let message = reader.text("message bytes", MAX_MESSAGE_BYTES)?.to_owned();
        reader.end()?;
        WireError::bound("block bytes", block_len as usize, MAX_BLOCK_BYTES as usize)?;
        if range.start > range.end || range.end > block_len {
            return Err(WireError::Malformed { what: "a head's range is not in its block" });
        }
        if status != Status::Ok && !range.is_empty() {
            return Err(WireError::Malformed { what: "a refusal promises bytes" });
        }
        Ok(GetHead { status, tier, block_len, range, spread, retry_ms, message })
    }
}

fn check_spread(spread: u8) -> Result<(), WireError> {
    WireError::bound("owners to spread over", spread.into(), SPREAD_MAX.into())
}

/// `Ok` if every part of `key` is within its bound.
pub(crate) fn check_key(key: &BlockKey) -> Result<(), WireError> {
    check_parts(key.object(), key.span())
}

/// As [`check_key`], for a key that is still in parts.
pub(crate) fn check_parts(object: &str, span: &BlockSpan) -> Result<(), WireError> {
    WireError::bound("object key bytes", object.len(), MAX_OBJECT_BYTES)?;
    match span {
        BlockSpan::Whole => Ok(()),
        BlockSpan::Part { etag, len, .. } => {
            WireError::bound("entity tag bytes", etag.len(), MAX_ETAG_BYTES)?;
            WireError::bound("block bytes", *len as usize, MAX_BLOCK_BYTES as usize)
        }
    }
}

/// The flag that says which form a key has.
pub(crate) fn part_flag(key: &BlockKey) -> u8 {
    if matches!(key.span(), BlockSpan::Part { .. }) { PART } else { 0 }
}

/// Writes a key whose bounds were checked; [`part_flag`] goes before.
pub(crate) fn put_key(out: &mut BytesMut, key: &BlockKey) {
    out.put_slice(&key.origin().0);
    put_text(out, key.object());
    if let BlockSpan::Part { etag, offset, len } = key.span() {
        out.put_u64_le(*offset);
        out.put_u32_le(*len);
        put_text(out, etag);
    }
}

/// Reads a key behind `flags`, within its bounds.
pub(crate) fn read_key(reader: &mut Reader<'_>, flags: u8) -> Result<BlockKey, WireError> {
    let origin = OriginId(reader.array()?);
    let object = reader.text("object key bytes", MAX_OBJECT_BYTES)?;
    let span = if flags & PART == 0 {
        BlockSpan::Whole
    } else {
        let (offset, len) = (reader.u64()?, reader.u32()?);
        BlockSpan::Part { offset, len, etag: reader.text("entity tag bytes", MAX_ETAG_BYTES)?.to_owned() }
    };
    check_parts(object, &span)?;
    Ok(BlockKey::new(origin, object, span))
}

pub(crate) fn read_class(reader: &mut Reader<'_>) -> Result<Class, WireError> {
    Class::from_u8(reader.u8()?).ok_or(WireError::Malformed { what: "unknown class" })
}

/// Flags of which only those in `known` may be set.
pub(crate) fn read_flags(reader: &mut Reader<'_>, known: u8) -> Result<u8, WireError> {
    let flags = reader.u8()?;
    if flags & !known == 0 { Ok(flags) } else { Err(WireError::Malformed { what: "unknown flags of a request" }) }
}

/// Writes a text whose bound was checked and is below 64 KiB.
fn put_text(out: &mut BytesMut, text: &str) {
    debug_assert!(text.len() <= usize::from(u16::MAX));
    out.put_u16_le(text.len() as u16);
    out.put_slice(text.as_bytes());
}
