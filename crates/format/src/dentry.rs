//! Directory entries as Redis and KV engines store them: the name is in the key, this is the value.

use crate::attr::{FileType, Ino};
use crate::error::FormatError;
use crate::record::Reader;

/// What a name in a directory points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dentry {
    /// Type of the inode, so that listing needs no attributes.
    pub kind: FileType,
    /// The inode.
    pub ino: Ino,
}

impl Dentry {
    /// The 9-byte record.
    pub fn encode(&self) -> [u8; 9] {
        let mut out = [0; 9];
        out[0] = self.kind as u8;
        out[1..].copy_from_slice(&self.ino.0.to_be_bytes());
        out
    }

    /// Reads a 9-byte record. Errors: `Corrupt` for another length or an unknown type.
    pub fn decode(bytes: &[u8]) -> Result<Dentry, FormatError> {
        let malformed = |reason| FormatError::Record { record: "dentry", len: bytes.len(), reason };
        let mut reader = Reader::new(bytes);
        match (reader.u8(), reader.u64(), reader.left()) {
            (Some(kind), Some(ino), 0) => {
                let kind = FileType::from_u8(kind).ok_or_else(|| malformed("unknown file type"))?;
                Ok(Dentry { kind, ino: Ino(ino) })
            }
            _ => Err(malformed("not 9 bytes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_entries() {
        for (kind, ino, golden) in
            [(FileType::Regular, 3, [1, 0, 0, 0, 0, 0, 0, 0, 3]), (FileType::Directory, 2, [2, 0, 0, 0, 0, 0, 0, 0, 2])]
        {
            let dentry = Dentry { kind, ino: Ino(ino) };
            assert_eq!(dentry.encode(), golden);
            assert_eq!(Dentry::decode(&golden).unwrap(), dentry);
        }
    }

    #[test]
    fn other_lengths_and_types_are_corrupt() {
        assert!(Dentry::decode(&[1; 8]).is_err());
        assert!(Dentry::decode(&[1; 10]).is_err());
        assert!(Dentry::decode(&[0; 9]).is_err());
    }
}
