//! Many small ranges in one request.
//!
//! Payload: `class u8, flags u8 (2: local), zero u16, deadline_ms u32, epoch u64, count u16`, then each item as
//! `flags u8 (1: part), start u32, end u32` and its key as in a [`crate::GetRequest`]. The answer, on the same stream, is for
//! each item in order one head and, after an `Ok`, its bytes.

use bytes::{BufMut, Bytes};
use shoal_types::{BlockKey, BlockRange, BlockSpan, Class};

use crate::error::WireError;
use crate::frame::{FrameKind, frame};
use crate::get::{GetRequest, LOCAL, PART, check_key, part_flag, put_key, read_class, read_flags, read_key};
use crate::reader::Reader;

/// Most items in one [`GetMany`].
pub const MAX_ITEMS: usize = 256;

/// Most bytes wanted by one [`GetMany`].
pub const MAX_MANY_BYTES: u64 = 8 << 20;

/// "Give me these bytes of each of these blocks."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetMany {
    /// How urgent all of it is.
    pub class: Class,
    /// Milliseconds until the whole answer stops being useful; 0 = no deadline.
    pub deadline_ms: u32,
    /// Epoch of the ring view the caller chose this peer by.
    pub epoch: u64,
    /// As [`GetRequest::local`], for every item.
    pub local: bool,
    /// At most [`MAX_ITEMS`], which want at most [`MAX_MANY_BYTES`] together.
    pub items: Vec<(BlockKey, BlockRange)>,
}

impl GetMany {
    /// Foreground, without a deadline.
    pub fn new(items: Vec<(BlockKey, BlockRange)>) -> GetMany {
        GetMany { class: Class::Foreground, deadline_ms: 0, epoch: 0, local: false, items }
    }

    /// Bytes wanted at most: each range as far as its key bounds the block. "All of a block" of unknown length is 4 GiB, so it
    /// passes no bound: ask for as many bytes as the block may have.
    pub fn wanted(&self) -> u64 {
        self.items.iter().map(|(key, range)| u64::from(wanted(key, *range))).sum()
    }

    /// The item at `index` as a request of its own.
    pub fn request(&self, index: usize) -> Option<GetRequest> {
        let (key, range) = self.items.get(index)?;
        let GetMany { class, deadline_ms, epoch, local, .. } = *self;
        Some(GetRequest { key: key.clone(), range: *range, class, deadline_ms, epoch, spread: 0, local })
    }

    /// The request as a frame. Errors: `Invalid` for too many items, too many bytes, or a key over its bound.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        self.check()?;
        self.items.iter().try_for_each(|(key, _)| check_key(key))?;
        let keys: usize = self.items.iter().map(|(key, _)| key.object().len()).sum();
        frame(FrameKind::GetMany, 24 + 64 * self.items.len() + keys, |out| {
            out.put_u8(self.class as u8);
            out.put_u8(if self.local { LOCAL } else { 0 });
            out.put_u16_le(0);
            out.put_u32_le(self.deadline_ms);
            out.put_u64_le(self.epoch);
            out.put_u16_le(self.items.len() as u16);
            for (key, range) in &self.items {
                out.put_u8(part_flag(key));
                out.put_u32_le(range.start);
                out.put_u32_le(range.end);
                put_key(out, key);
            }
            Ok(())
        })
    }

    /// Reads a payload. Errors: `Invalid` over a bound, `Corrupt` for bytes that are no request.
    pub fn decode(payload: &[u8]) -> Result<GetMany, WireError> {
        let mut reader = Reader::new(payload);
        let class = read_class(&mut reader)?;
        let local = read_flags(&mut reader, LOCAL)? != 0;
        if reader.u16()? != 0 {
            return Err(WireError::Malformed { what: "reserved bytes of a batch are not zero" });
        }
        let (deadline_ms, epoch) = (reader.u32()?, reader.u64()?);
        let count = usize::from(reader.u16()?);
        WireError::bound("ranges in a batch", count, MAX_ITEMS)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let flags = read_flags(&mut reader, PART)?;
            let range = BlockRange { start: reader.u32()?, end: reader.u32()? };
            items.push((read_key(&mut reader, flags)?, range));
        }
        reader.end()?;
        let many = GetMany { class, deadline_ms, epoch, local, items };
        many.check()?;
        Ok(many)
    }

    fn check(&self) -> Result<(), WireError> {
        WireError::bound("ranges in a batch", self.items.len(), MAX_ITEMS)?;
        let wanted = usize::try_from(self.wanted()).unwrap_or(usize::MAX);
        WireError::bound("bytes wanted by a batch", wanted, MAX_MANY_BYTES as usize)
    }
}

fn wanted(key: &BlockKey, range: BlockRange) -> u32 {
    match key.span() {
        BlockSpan::Whole => range.len(),
        BlockSpan::Part { len, .. } => range.clamp(*len).len(),
    }
}
