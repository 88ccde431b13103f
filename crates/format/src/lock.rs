//! Locks of files as they are stored (spec section 17).

use crate::error::FormatError;
use crate::record::Reader;

/// Whether others may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockMode {
    /// They may, if theirs is shared too.
    Shared,
    /// They may not.
    Exclusive,
}

impl LockMode {
    /// The letter that stands for a whole-file lock of this mode.
    pub const fn letter(self) -> u8 {
        match self {
            LockMode::Shared => b'R',
            LockMode::Exclusive => b'W',
        }
    }

    /// The mode of a whole-file lock's letter; `None` for any other byte.
    pub const fn from_letter(letter: u8) -> Option<LockMode> {
        match letter {
            b'R' => Some(LockMode::Shared),
            b'W' => Some(LockMode::Exclusive),
            _ => None,
        }
    }
}

/// A lock of a range of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RangeLock {
    /// Whether others may hold it too.
    pub mode: LockMode,
    /// Process that took it, as its own client numbers processes.
    pub pid: u32,
    /// First byte.
    pub start: u64,
    /// Last byte; [`RangeLock::END`] for the end of the file, wherever it is.
    pub end: u64,
}

impl RangeLock {
    /// Last byte of a range without an end. Real clients may write all ones for it, which reads as this.
    pub const END: u64 = i64::MAX as u64;

    /// Bytes of one record.
    pub const BYTES: usize = 24;

    /// `F_RDLCK` and `F_WRLCK` of Linux; 2 is `F_UNLCK`, no lock at all.
    const SHARED: u32 = 0;
    const EXCLUSIVE: u32 = 1;
    const NONE: u32 = 2;

    /// The records of one owner's locks, one after the other.
    pub fn encode_list(locks: &[RangeLock]) -> Vec<u8> {
        let mut out = Vec::with_capacity(locks.len() * RangeLock::BYTES);
        for lock in locks {
            let kind = match lock.mode {
                LockMode::Shared => RangeLock::SHARED,
                LockMode::Exclusive => RangeLock::EXCLUSIVE,
            };
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&lock.pid.to_be_bytes());
            out.extend_from_slice(&lock.start.to_be_bytes());
            out.extend_from_slice(&lock.end.to_be_bytes());
        }
        out
    }

    /// Reads [`RangeLock::encode_list`]. Errors: `Corrupt` for a length that is no multiple of 24, and for unknown kinds of locks.
    pub fn decode_list(bytes: &[u8]) -> Result<Vec<RangeLock>, FormatError> {
        let wrong = |reason| FormatError::Record { record: "POSIX locks", len: bytes.len(), reason };
        let mut reader = Reader::new(bytes);
        let mut locks = Vec::with_capacity(bytes.len() / RangeLock::BYTES);
        while reader.left() > 0 {
            let (kind, mut lock) = RangeLock::read(&mut reader).ok_or_else(|| wrong("not whole records"))?;
            lock.mode = match kind {
                RangeLock::SHARED => LockMode::Shared,
                RangeLock::EXCLUSIVE => LockMode::Exclusive,
                RangeLock::NONE => continue,
                _ => return Err(wrong("an unknown kind of lock")),
            };
            locks.push(lock);
        }
        Ok(locks)
    }

    fn read(reader: &mut Reader<'_>) -> Option<(u32, RangeLock)> {
        let (kind, pid, start, end) = (reader.u32()?, reader.u32()?, reader.u64()?, reader.u64()?);
        Some((kind, RangeLock { mode: LockMode::Shared, pid, start, end: end.min(RangeLock::END) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by the real client for ten bytes at 5.
    const GOLDEN: [u8; 24] = [0, 0, 0, 1, 0, 0, 0x45, 0xAE, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 14];

    #[test]
    fn golden_record() {
        let lock = RangeLock { mode: LockMode::Exclusive, pid: 0x45AE, start: 5, end: 14 };
        assert_eq!(RangeLock::encode_list(&[lock]), GOLDEN);
        assert_eq!(RangeLock::decode_list(&GOLDEN).unwrap(), [lock]);
        let shared = RangeLock { mode: LockMode::Shared, start: 100, end: RangeLock::END, ..lock };
        assert_eq!(RangeLock::decode_list(&RangeLock::encode_list(&[lock, shared])).unwrap(), [lock, shared]);
    }

    #[test]
    fn foreign_ends_and_kinds() {
        let mut all_ones = GOLDEN;
        all_ones[16..].fill(0xFF);
        assert_eq!(RangeLock::decode_list(&all_ones).unwrap()[0].end, RangeLock::END);
        let with_kind = |kind: u8| {
            let mut bytes = GOLDEN;
            bytes[3] = kind;
            RangeLock::decode_list(&bytes)
        };
        assert_eq!(with_kind(2).unwrap(), []);
        assert!(with_kind(3).is_err());
        assert!(RangeLock::decode_list(&GOLDEN[..23]).is_err());
        assert_eq!(RangeLock::decode_list(&[]).unwrap(), []);
    }

    #[test]
    fn letters() {
        for mode in [LockMode::Shared, LockMode::Exclusive] {
            assert_eq!(LockMode::from_letter(mode.letter()), Some(mode));
        }
        assert_eq!(LockMode::from_letter(b'r'), None);
    }
}
