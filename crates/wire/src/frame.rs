//! The 8 bytes in front of every message: what it is, in which version, how long.
//!
//! Layout, the same in every version for ever: `kind u8, version u8, zero u16, payload length u32`, little-endian.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::WireError;

/// Version of every message in this crate. Raised with any change of layout or meaning.
pub const VERSION: u8 = 2;

/// Largest payload of a get request or a head, in bytes: the bounded texts and less than 100 bytes of fields.
pub const MAX_GET_BYTES: u32 = 2048;

/// Largest payload of a batched get, in bytes: [`crate::MAX_ITEMS`] requests with the longest keys.
pub const MAX_GET_MANY_BYTES: u32 = 384 << 10;

/// Largest payload of a control message, in bytes: 4096 keys of common length, or a view of a large ring.
pub const MAX_CONTROL_BYTES: u32 = 4 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// [`crate::GetRequest`].
    Get = 1,
    /// [`crate::GetHead`].
    GetHead = 2,
    /// [`crate::Request`].
    Request = 3,
    /// [`crate::Response`].
    Response = 4,
    /// [`crate::GetMany`].
    GetMany = 5,
}

impl FrameKind {
    /// The kind with wire number `n`, if there is one.
    pub const fn from_u8(n: u8) -> Option<FrameKind> {
        match n {
            1 => Some(FrameKind::Get),
            2 => Some(FrameKind::GetHead),
            3 => Some(FrameKind::Request),
            4 => Some(FrameKind::Response),
            5 => Some(FrameKind::GetMany),
            _ => None,
        }
    }

    /// Largest payload of such a frame, in bytes.
    pub const fn max_bytes(self) -> u32 {
        match self {
            FrameKind::Get | FrameKind::GetHead => MAX_GET_BYTES,
            FrameKind::Request | FrameKind::Response => MAX_CONTROL_BYTES,
            FrameKind::GetMany => MAX_GET_MANY_BYTES,
        }
    }
}

/// Header of a frame whose version this process speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: FrameKind,
    /// Bytes of payload that follow, at most `kind.max_bytes()`.
    pub len: u32,
}

impl FrameHeader {
    /// Bytes of an encoded header.
    pub const BYTES: usize = 8;

    /// The kind in a header of any version: tells in which form to answer a version this process does not speak.
    pub fn peek_kind(bytes: &[u8; FrameHeader::BYTES]) -> Option<FrameKind> {
        FrameKind::from_u8(bytes[0])
    }

    /// Reads a header. Errors: `Invalid` for another version or a length over the bound, `Corrupt` for no header at all.
    pub fn decode(bytes: &[u8; FrameHeader::BYTES]) -> Result<FrameHeader, WireError> {
        let [kind, version, zero_a, zero_b, a, b, c, d] = *bytes;
        let kind = FrameKind::from_u8(kind).ok_or(WireError::Malformed { what: "unknown kind of frame" })?;
        if version != VERSION {
            return Err(WireError::Version { theirs: version, ours: VERSION });
        }
        if [zero_a, zero_b] != [0, 0] {
            return Err(WireError::Malformed { what: "reserved bytes of a header are not zero" });
        }
        let len = u32::from_le_bytes([a, b, c, d]);
        WireError::bound("payload bytes", len as usize, kind.max_bytes() as usize)?;
        Ok(FrameHeader { kind, len })
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; FrameHeader::BYTES] {
        let [a, b, c, d] = self.len.to_le_bytes();
        [self.kind as u8, VERSION, 0, 0, a, b, c, d]
    }
}

/// A whole frame of `kind` around what `fill` writes. Errors: `Invalid` if that is over the bound.
pub(crate) fn frame(
    kind: FrameKind,
    capacity: usize,
    fill: impl FnOnce(&mut BytesMut) -> Result<(), WireError>,
) -> Result<Bytes, WireError> {
    let mut out = BytesMut::with_capacity(FrameHeader::BYTES + capacity);
    out.put_bytes(0, FrameHeader::BYTES);
    fill(&mut out)?;
    let len = out.len() - FrameHeader::BYTES;
    WireError::bound("payload bytes", len, kind.max_bytes() as usize)?;
    out[..FrameHeader::BYTES].copy_from_slice(&FrameHeader { kind, len: len as u32 }.encode());
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_pinned() {
        let header = FrameHeader { kind: FrameKind::GetHead, len: 0x0000_0102 };
        assert_eq!(header.encode(), [2, 2, 0, 0, 2, 1, 0, 0]);
        assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn kinds_survive_their_numbers() {
        for n in 0..=255u8 {
            if let Some(kind) = FrameKind::from_u8(n) {
                assert_eq!(kind as u8, n);
            }
        }
    }

    #[test]
    fn another_version_is_invalid_and_still_tells_its_kind() {
        let bytes = [1, 3, 0, 0, 255, 255, 255, 255];
        let error = FrameHeader::decode(&bytes).unwrap_err();
        assert_eq!(error, WireError::Version { theirs: 3, ours: 2 });
        assert_eq!(error.kind(), shoal_types::ErrorKind::Invalid);
        assert_eq!(
            error.to_string(),
            "the peer speaks wire version 3, this process speaks 2: upgrade the older of the two"
        );
        assert_eq!(FrameHeader::peek_kind(&bytes), Some(FrameKind::Get));
    }

    #[test]
    fn lengths_over_the_bound_and_unknown_kinds_are_refused() {
        let too_long = FrameHeader { kind: FrameKind::Get, len: MAX_GET_BYTES + 1 }.encode();
        assert!(matches!(FrameHeader::decode(&too_long), Err(WireError::TooLarge { .. })));
        let at_bound = FrameHeader { kind: FrameKind::Request, len: MAX_CONTROL_BYTES }.encode();
        assert!(FrameHeader::decode(&at_bound).is_ok());
        assert!(matches!(FrameHeader::decode(&[0, 2, 0, 0, 0, 0, 0, 0]), Err(WireError::Malformed { .. })));
        assert!(matches!(FrameHeader::decode(&[1, 2, 1, 0, 0, 0, 0, 0]), Err(WireError::Malformed { .. })));
    }
}
