//! A body's bytes: in runs of chunks, each chunk with its CRC-32C, so that every boundary crossed is checked.
//!
//! Layout of a run: `chunks u8 (1 to 64), zero [3]`, for each chunk `len u32, crc32c u32`, then the bytes of all of them;
//! little-endian. A body ends when as many bytes as its head promised were sent. The table in front keeps a run's bytes in one
//! piece from the block in memory to the packet; chunks are as large as whoever computed their checksums likes, so that
//! those of pages at rest travel as they are.

use crate::error::WireError;

/// Most bytes in one chunk: 128 KiB, small enough to check before use in cache.
pub const MAX_CHUNK_BYTES: u32 = 128 << 10;

/// Most chunks in one run: 1 MiB in pages of 16 KiB.
pub const MAX_RUN_CHUNKS: usize = 64;

/// Bytes in front of a run's table.
pub const RUN_HEADER_BYTES: usize = 4;

/// Bytes of a chunk's entry in the table.
pub const CHUNK_HEADER_BYTES: usize = 8;

/// One chunk in a run's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Bytes in the chunk: 1 to [`MAX_CHUNK_BYTES`].
    pub len: u32,
    /// CRC-32C of those bytes.
    pub crc: u32,
}

impl ChunkHeader {
    /// The entry's bytes.
    pub fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        (u64::from(self.crc) << 32 | u64::from(self.len)).to_le_bytes()
    }

    /// Reads an entry of a body that has `left` bytes to come. Errors: `Corrupt` for a length that cannot be.
    pub fn decode(bytes: &[u8; CHUNK_HEADER_BYTES], left: u32) -> Result<ChunkHeader, WireError> {
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

/// What goes in front of the table of a run of `chunks` chunks, 1 to [`MAX_RUN_CHUNKS`].
pub fn encode_run(chunks: usize) -> [u8; RUN_HEADER_BYTES] {
    debug_assert!((1..=MAX_RUN_CHUNKS).contains(&chunks));
    [chunks as u8, 0, 0, 0]
}

/// How many chunks a run has. Errors: `Corrupt` for a number out of bounds.
pub fn decode_run(bytes: &[u8; RUN_HEADER_BYTES]) -> Result<usize, WireError> {
    match *bytes {
        [chunks, 0, 0, 0] if (1..=MAX_RUN_CHUNKS).contains(&usize::from(chunks)) => Ok(chunks.into()),
        _ => Err(WireError::Malformed { what: "a run's number of chunks is out of bounds" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_pinned() {
        let header = ChunkHeader { len: 0x0001_0203, crc: 0xa0b0_c0d0 };
        assert_eq!(header.encode(), [3, 2, 1, 0, 0xd0, 0xc0, 0xb0, 0xa0]);
        assert_eq!(ChunkHeader::decode(&header.encode(), u32::MAX), Ok(header));
        assert_eq!(encode_run(64), [64, 0, 0, 0]);
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

    #[test]
    fn a_run_of_too_few_or_too_many_chunks_is_refused() {
        for chunks in 1..=MAX_RUN_CHUNKS {
            assert_eq!(decode_run(&encode_run(chunks)), Ok(chunks));
        }
        for bad in [[0, 0, 0, 0], [65, 0, 0, 0], [255, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1]] {
            assert!(decode_run(&bad).is_err(), "{bad:?}");
        }
    }
}
