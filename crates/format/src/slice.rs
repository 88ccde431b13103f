//! Slice records: which bytes of which slice a chunk shows where, in the order they were written.

use crate::error::FormatError;
use crate::record::Reader;

/// Bytes of a file that one chunk covers.
pub const CHUNK_BYTES: u64 = 64 << 20;

/// Longest file in bytes: 2^31 chunks.
pub const MAX_FILE_BYTES: u64 = CHUNK_BYTES << 31;

/// One entry of a chunk's list: `len` bytes of slice `id` from `off` show at `pos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceRecord {
    /// Offset in the chunk of the first visible byte.
    pub pos: u32,
    /// Slice id; 0 is a hole (zeros).
    pub id: u64,
    /// Bytes in the stored slice, which define its blocks; 0 for a hole.
    pub size: u32,
    /// Offset in the slice of the first visible byte.
    pub off: u32,
    /// Visible bytes.
    pub len: u32,
}

impl SliceRecord {
    /// Bytes of one record.
    pub const BYTES: usize = 24;

    /// A fresh write: all of slice `id` shows at `pos`.
    pub fn whole(pos: u32, id: u64, size: u32) -> SliceRecord {
        SliceRecord { pos, id, size, off: 0, len: size }
    }

    /// Zeros over `len` bytes at `pos`.
    pub fn hole(pos: u32, len: u32) -> SliceRecord {
        SliceRecord { pos, id: 0, size: 0, off: 0, len }
    }

    /// The 24-byte record.
    pub fn encode(&self) -> [u8; SliceRecord::BYTES] {
        let mut out = [0; SliceRecord::BYTES];
        out[0..4].copy_from_slice(&self.pos.to_be_bytes());
        out[4..12].copy_from_slice(&self.id.to_be_bytes());
        out[12..16].copy_from_slice(&self.size.to_be_bytes());
        out[16..20].copy_from_slice(&self.off.to_be_bytes());
        out[20..24].copy_from_slice(&self.len.to_be_bytes());
        out
    }

    /// Reads one record. Errors: `Corrupt` for another length than 24 bytes.
    pub fn decode(bytes: &[u8]) -> Result<SliceRecord, FormatError> {
        let mut reader = Reader::new(bytes);
        match SliceRecord::read(&mut reader) {
            Some(record) if reader.left() == 0 => Ok(record),
            _ => Err(FormatError::Record { record: "slice", len: bytes.len(), reason: "not 24 bytes" }),
        }
    }

    /// Reads a chunk's whole list, oldest first. Errors: `Corrupt` for a length that is no multiple of 24.
    pub fn decode_list(bytes: &[u8]) -> Result<Vec<SliceRecord>, FormatError> {
        if !bytes.len().is_multiple_of(SliceRecord::BYTES) {
            return Err(FormatError::Record { record: "slice list", len: bytes.len(), reason: "not whole records" });
        }
        Ok(bytes.chunks_exact(SliceRecord::BYTES).filter_map(|raw| SliceRecord::read(&mut Reader::new(raw))).collect())
    }

    /// The list as a chunk stores it.
    pub fn encode_list(records: &[SliceRecord]) -> Vec<u8> {
        records.iter().flat_map(SliceRecord::encode).collect()
    }

    fn read(reader: &mut Reader<'_>) -> Option<SliceRecord> {
        Some(SliceRecord {
            pos: reader.u32()?,
            id: reader.u64()?,
            size: reader.u32()?,
            off: reader.u32()?,
            len: reader.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn golden_records() {
        for (golden, record) in [
            ("00000000 0000000000000001 00A00000 00000000 00A00000", SliceRecord::whole(0, 1, 10 << 20)),
            ("004C4B40 0000000000000002 00000064 00000000 00000064", SliceRecord::whole(5_000_000, 2, 100)),
            ("002DC6C0 0000000000000000 00000000 00000000 00723940", SliceRecord::hole(3_000_000, 7_485_760)),
            ("00000064 0000000000000000 00000000 00000000 000000C8", SliceRecord::hole(100, 200)),
        ] {
            assert_eq!(record.encode()[..], hex(golden));
            assert_eq!(SliceRecord::decode(&hex(golden)).unwrap(), record);
        }
    }

    #[test]
    fn lists_survive_and_partial_records_are_corrupt() {
        let list = [SliceRecord { pos: 1, id: u64::MAX, size: 3, off: 4, len: 5 }, SliceRecord::hole(9, 9)];
        let bytes = SliceRecord::encode_list(&list);
        assert_eq!(SliceRecord::decode_list(&bytes).unwrap(), list);
        assert_eq!(SliceRecord::decode_list(&[]).unwrap(), []);
        assert!(SliceRecord::decode_list(&bytes[1..]).is_err());
        assert!(SliceRecord::decode(&bytes).is_err());
    }
}
