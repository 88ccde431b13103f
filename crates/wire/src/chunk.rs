//! Chunks of a body: each with its length and CRC-32C in front, so that every boundary crossed is checked.
//!
//! Layout: `len u32, crc32c u32`, little-endian, then `len` bytes. A body ends when as many bytes as its head promised were
//! sent.

use crate::error::WireError;

/// Most bytes in one chunk: 128 KiB, large enough to make the header free, small enough to check before use in cache.
pub const MAX_CHUNK_BYTES: u32 = 128 << 10;

/// Bytes of a chunk's header.
pub const HEADER_BYTES: usize = 8;

/// Header of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Bytes in the chunk: 1 to [`MAX_CHUNK_BYTES`].
    pub len: u32,
    /// CRC-32C of those bytes.
    pub crc: u32,
}

impl ChunkHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        (u64::from(self.crc) << 32 | u64::from(self.len)).to_le_bytes()
    }

    /// Reads a header of a body that has `left` bytes to come. Errors: `Corrupt` for a length that cannot be.
    pub fn decode(bytes: &[u8; HEADER_BYTES], left: u32) -> Result<ChunkHeader, WireError> {
        let fields = u64::from_le_bytes(*bytes);
        let (len, crc) = (fields as u32, (fields >> 32) as u32);
        if len == 0 || len > MAX_CHUNK_BYTES {
            return Err(WireError::Malformed { what: "a chunk's length is out of bounds" });
        }
        if len > left {
            return Err(WireError::Malformed { what: "a chunk passes the end of its body" });
        }
        Ok(ChunkHeader { len, crc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_pinned() {
        let header = ChunkHeader { len: 0x0001_0203, crc: 0xa0b0_c0d0 };
        assert_eq!(header.encode(), [3, 2, 1, 0, 0xd0, 0xc0, 0xb0, 0xa0]);
        assert_eq!(ChunkHeader::decode(&header.encode(), u32::MAX), Ok(header));
    }

    #[test]
    fn impossible_lengths_are_refused() {
        for (len, left, good) in [
            (0, 10, false),
            (10, 10, true),
            (11, 10, false),
            (MAX_CHUNK_BYTES, u32::MAX, true),
            (MAX_CHUNK_BYTES + 1, u32::MAX, false),
            (u32::MAX, u32::MAX, false),
        ] {
            let bytes = ChunkHeader { len, crc: 0 }.encode();
            assert_eq!(ChunkHeader::decode(&bytes, left).is_ok(), good, "{len} of {left}");
        }
    }
}
