//! The hot pair: a request for bytes of a block, and the head of its answer.
//!
//! Request payload: `class u8, span u8 (0 whole, 1 part), deadline_ms u32, epoch u64, start u32, end u32, origin [16],
//! object text`, and for a part `offset u64, len u32, etag text`. Head payload: `status u8, tier u8, block_len u32,
//! start u32, end u32, message text`. Little-endian; a text is `len u16` and UTF-8 bytes.

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
    /// A sentence for people when the status is not `Ok`; at most [`MAX_MESSAGE_BYTES`].
    pub message: String,
}

impl GetRequest {
    /// The request as a frame. Errors: `Invalid` for an object key or entity tag over its bound.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        check_key(&self.key)?;
        frame(FrameKind::Get, 64 + self.key.object().len(), |out| {
            out.put_u8(self.class as u8);
            out.put_u8(matches!(self.key.span(), BlockSpan::Part { .. }) as u8);
            out.put_u32_le(self.deadline_ms);
            out.put_u64_le(self.epoch);
            out.put_u32_le(self.range.start);
            out.put_u32_le(self.range.end);
            out.put_slice(&self.key.origin().0);
            put_text(out, self.key.object());
            if let BlockSpan::Part { etag, offset, len } = self.key.span() {
                out.put_u64_le(*offset);
                out.put_u32_le(*len);
                put_text(out, etag);
            }
            Ok(())
        })
    }

    /// Reads a payload. Errors: `Invalid` over a bound, `Corrupt` for bytes that are no request.
    pub fn decode(payload: &[u8]) -> Result<GetRequest, WireError> {
        let mut reader = Reader::new(payload);
        let class = Class::from_u8(reader.u8()?).ok_or(WireError::Malformed { what: "unknown class" })?;
        let span = reader.u8()?;
        let deadline_ms = reader.u32()?;
        let epoch = reader.u64()?;
        let range = BlockRange { start: reader.u32()?, end: reader.u32()? };
        let origin = OriginId(reader.array()?);
        let object = reader.text("object key bytes", MAX_OBJECT_BYTES)?;
        let span = match span {
            0 => BlockSpan::Whole,
            1 => {
                let (offset, len) = (reader.u64()?, reader.u32()?);
                BlockSpan::Part { offset, len, etag: reader.text("entity tag bytes", MAX_ETAG_BYTES)?.to_owned() }
            }
            _ => return Err(WireError::Malformed { what: "unknown kind of span" }),
        };
        reader.end()?;
        check_parts(object, &span)?;
        Ok(GetRequest { key: BlockKey::new(origin, object, span), range, class, deadline_ms, epoch })
    }
}

impl GetHead {
    /// Bytes `range` of a block of `block_len` bytes follow; `range` is clamped here.
    pub fn ok(tier: Tier, block_len: u32, range: BlockRange) -> GetHead {
        GetHead { status: Status::Ok, tier, block_len, range: range.clamp(block_len), message: String::new() }
    }

    /// No bytes follow, and why.
    pub fn refusal(status: Status, message: impl Into<String>) -> GetHead {
        let range = BlockRange { start: 0, end: 0 };
        GetHead { status, tier: Tier::Origin, block_len: 0, range, message: message.into() }
    }

    /// The head as a frame. A message over its bound is cut at a character; the range is clamped to the block and is empty
    /// unless the status is `Ok`. Errors: `Invalid` for a block over [`MAX_BLOCK_BYTES`].
    pub fn encode(&self) -> Result<Bytes, WireError> {
        WireError::bound("block bytes", self.block_len as usize, MAX_BLOCK_BYTES as usize)?;
        let message = &self.message[..self.message.floor_char_boundary(MAX_MESSAGE_BYTES)];
        let range = match self.status {
            Status::Ok => self.range.clamp(self.block_len),
            _ => BlockRange { start: 0, end: 0 },
        };
        frame(FrameKind::GetHead, 24 + message.len(), |out| {
            out.put_u8(self.status as u8);
            out.put_u8(self.tier as u8);
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
        Ok(GetHead { status, tier, block_len, range, message })
    }
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

/// Writes a text whose bound was checked and is below 64 KiB.
fn put_text(out: &mut BytesMut, text: &str) {
    debug_assert!(text.len() <= usize::from(u16::MAX));
    out.put_u16_le(text.len() as u16);
    out.put_slice(text.as_bytes());
}
