//! The attribute record of an inode: what Redis and KV engines store, and what SQL engines spread over columns.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::error::FormatError;
use crate::record::Reader;

/// Bits of [`Attr::flags`].
pub mod attr_flag {
    /// The file cannot change.
    pub const IMMUTABLE: u8 = 1;
    /// The file only grows.
    pub const APPEND: u8 = 2;
    /// Hidden, as Windows clients set it.
    pub const WINDOWS_HIDDEN: u8 = 4;
    /// System file, as Windows clients set it.
    pub const WINDOWS_SYSTEM: u8 = 8;
    /// Archive bit, as Windows clients set it.
    pub const WINDOWS_ARCHIVE: u8 = 16;
    /// Removed entries bypass the trash; children inherit it at creation.
    pub const SKIP_TRASH: u8 = 32;
}

/// Number of an inode. Never reused within a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ino(pub u64);

impl Ino {
    /// No inode; as a parent: "hard-linked, look at the parent records".
    pub const NONE: Ino = Ino(0);
    /// The root directory.
    pub const ROOT: Ino = Ino(1);
    /// The trash root; hourly trash directories follow it.
    pub const TRASH: Ino = Ino(0x7FFF_FFFF_1000_0000);

    /// True for the trash root and the hourly directories in it.
    pub const fn is_trash(self) -> bool {
        self.0 >= Ino::TRASH.0
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What an inode is; the number is the one that records hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FileType {
    /// Regular file.
    Regular = 1,
    /// Directory.
    Directory = 2,
    /// Symbolic link.
    Symlink = 3,
    /// Named pipe.
    Fifo = 4,
    /// Block device.
    BlockDevice = 5,
    /// Character device.
    CharDevice = 6,
    /// Unix socket.
    Socket = 7,
}

impl FileType {
    /// The type with number `n`, if there is one.
    pub const fn from_u8(n: u8) -> Option<FileType> {
        Some(match n {
            1 => FileType::Regular,
            2 => FileType::Directory,
            3 => FileType::Symlink,
            4 => FileType::Fifo,
            5 => FileType::BlockDevice,
            6 => FileType::CharDevice,
            7 => FileType::Socket,
            _ => return None,
        })
    }
}

/// A point in time as records hold it: seconds since 1970 and nanoseconds after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub secs: i64,
    /// Nanoseconds, below 10^9 in every record a real client writes.
    pub nanos: u32,
}

impl Time {
    /// The time SQL engines hold as `micros` since 1970 and `rest` nanoseconds (0..1000) after that.
    pub const fn from_micros(micros: i64, rest: u32) -> Time {
        let nanos = micros.rem_euclid(1_000_000) as u32 * 1000;
        Time { secs: micros.div_euclid(1_000_000), nanos: nanos.saturating_add(rest) }
    }

    /// The two columns SQL engines hold: microseconds since 1970 (saturating) and nanoseconds after that (0..1000).
    pub const fn to_micros(self) -> (i64, u32) {
        let micros = self.secs.saturating_mul(1_000_000).saturating_add((self.nanos / 1000) as i64);
        (micros, self.nanos % 1000)
    }

    /// The time since 1970, as a clock gives it.
    pub const fn since_epoch(duration: Duration) -> Time {
        Time { secs: duration.as_secs() as i64, nanos: duration.subsec_nanos() }
    }

    /// The same time as the standard library's type; what it cannot hold becomes 1970.
    pub fn to_system_time(self) -> SystemTime {
        let seconds = Duration::from_secs(self.secs.unsigned_abs());
        let whole = match self.secs {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        };
        whole
            .and_then(|time| time.checked_add(Duration::from_nanos(u64::from(self.nanos))))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Attributes of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attr {
    /// Bits of [`attr_flag`].
    pub flags: u8,
    /// What the inode is.
    pub kind: FileType,
    /// The 12 permission bits, set-id and sticky included.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the contents.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Names; 2 + sub-directories for a directory.
    pub nlink: u32,
    /// Bytes; 4096 for a directory, the target's bytes for a symlink.
    pub length: u64,
    /// Device number.
    pub rdev: u32,
    /// Directory that holds the one name; [`Ino::NONE`] once there was a second name.
    pub parent: Ino,
    /// Rule id of the access ACL, 0 = none.
    pub access_acl: u32,
    /// Rule id of a directory's default ACL, 0 = none.
    pub default_acl: u32,
    /// Storage tier id, 0 = the volume's default.
    pub tier: u8,
}

/// Length of a record without ACL and tier, its zero pad included.
const PLAIN_LEN: usize = 72;

/// Permission bits of a mode.
const MODE_MASK: u16 = 0xFFF;

impl Attr {
    /// A fresh inode of `kind` with permission bits `mode` under `parent`: one name, no bytes, all times `now`.
    ///
    /// A directory gets two names and 4096 bytes, as the format counts them.
    pub fn new(kind: FileType, mode: u16, parent: Ino, now: Time) -> Attr {
        let (nlink, length) = if kind == FileType::Directory { (2, 4096) } else { (1, 0) };
        Attr {
            flags: 0,
            kind,
            mode: mode & MODE_MASK,
            uid: 0,
            gid: 0,
            atime: now,
            mtime: now,
            ctime: now,
            nlink,
            length,
            rdev: 0,
            parent,
            access_acl: 0,
            default_acl: 0,
            tier: 0,
        }
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The record as real clients write it: 72 to 81 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PLAIN_LEN + 9);
        out.push(self.flags);
        out.extend_from_slice(&((self.kind as u16) << 12 | self.mode & MODE_MASK).to_be_bytes());
        out.extend_from_slice(&self.uid.to_be_bytes());
        out.extend_from_slice(&self.gid.to_be_bytes());
        for time in [self.atime, self.mtime, self.ctime] {
            out.extend_from_slice(&time.secs.to_be_bytes());
            out.extend_from_slice(&time.nanos.to_be_bytes());
        }
        out.extend_from_slice(&self.nlink.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
        out.extend_from_slice(&self.rdev.to_be_bytes());
        out.extend_from_slice(&self.parent.0.to_be_bytes());
        if self.access_acl != 0 || self.default_acl != 0 {
            out.extend_from_slice(&self.access_acl.to_be_bytes());
            out.extend_from_slice(&self.default_acl.to_be_bytes());
        }
        if self.tier != 0 {
            out.push(self.tier);
        }
        // The writer of the format allocates one byte more than it fills.
        out.push(0);
        out
    }

    /// Reads a record of any age: without parent, without ACL, without tier.
    ///
    /// Errors: `Corrupt` for a record that is too short or of an unknown type.
    pub fn decode(bytes: &[u8]) -> Result<Attr, FormatError> {
        let malformed = |reason| FormatError::Record { record: "attribute", len: bytes.len(), reason };
        let mut reader = Reader::new(bytes);
        let (mut attr, kind) = Attr::decode_fixed(&mut reader).ok_or_else(|| malformed("too short"))?;
        attr.kind = FileType::from_u8(kind).ok_or_else(|| malformed("unknown file type"))?;
        if reader.left() >= 8 {
            attr.parent = Ino(reader.u64().unwrap_or(0));
        }
        if reader.left() >= 8 {
            attr.access_acl = reader.u32().unwrap_or(0);
            attr.default_acl = reader.u32().unwrap_or(0);
        }
        attr.tier = reader.u8().unwrap_or(0);
        Ok(attr)
    }

    /// The fields every record has, and the number of the file type.
    fn decode_fixed(reader: &mut Reader<'_>) -> Option<(Attr, u8)> {
        let flags = reader.u8()?;
        let type_and_mode = reader.u16()?;
        let time = |r: &mut Reader<'_>| Some(Time { secs: r.i64()?, nanos: r.u32()? });
        let attr = Attr {
            flags,
            kind: FileType::Regular,
            mode: type_and_mode & MODE_MASK,
            uid: reader.u32()?,
            gid: reader.u32()?,
            atime: time(reader)?,
            mtime: time(reader)?,
            ctime: time(reader)?,
            nlink: reader.u32()?,
            length: reader.u64()?,
            rdev: reader.u32()?,
            parent: Ino::NONE,
            access_acl: 0,
            default_acl: 0,
            tier: 0,
        };
        Some((attr, (type_and_mode >> 12) as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Attr {
        Attr {
            flags: 32,
            kind: FileType::Regular,
            mode: 0o4755,
            uid: 1000,
            gid: 100,
            atime: Time { secs: -1, nanos: 999_999_999 },
            mtime: Time { secs: 1_700_000_000, nanos: 1 },
            ctime: Time { secs: i64::MAX, nanos: 0 },
            nlink: 3,
            length: 1 << 57,
            rdev: 7,
            parent: Ino(9),
            access_acl: 0,
            default_acl: 0,
            tier: 0,
        }
    }

    #[test]
    fn hourly_trash_directory_matches_the_golden_record() {
        let time = [0, 0, 0, 0, 0x69, 0x21, 0xAA, 0xBB, 0x01, 0x02, 0x03, 0x04];
        let mut golden = vec![0x00, 0x21, 0x6D, 0, 0, 0, 0, 0, 0, 0, 0];
        golden.extend_from_slice(&[time, time, time].concat());
        golden.extend_from_slice(&[0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0]);
        golden.extend_from_slice(&[0x7F, 0xFF, 0xFF, 0xFF, 0x10, 0, 0, 0, 0]);
        let now = Time { secs: 0x6921_AABB, nanos: 0x0102_0304 };
        let attr = Attr::new(FileType::Directory, 0o555, Ino::TRASH, now);
        assert_eq!(attr.encode(), golden);
        assert_eq!(Attr::decode(&golden).unwrap(), attr);
    }

    #[test]
    fn every_tail_has_its_length_and_survives() {
        for (access_acl, default_acl, tier, len) in
            [(0, 0, 0, 72), (5, 0, 0, 80), (0, 6, 0, 80), (0, 0, 3, 73), (5, 6, 2, 81)]
        {
            let attr = Attr { access_acl, default_acl, tier, ..full() };
            let bytes = attr.encode();
            assert_eq!(bytes.len(), len);
            assert_eq!(bytes.last(), Some(&0));
            assert_eq!(Attr::decode(&bytes).unwrap(), attr);
        }
    }

    #[test]
    fn old_and_unpadded_records_decode() {
        let bytes = full().encode();
        assert_eq!(Attr::decode(&bytes[..63]).unwrap(), Attr { parent: Ino::NONE, ..full() });
        assert_eq!(Attr::decode(&bytes[..71]).unwrap(), full());
        let longer = [&Attr { access_acl: 1, tier: 1, ..full() }.encode()[..], &[9; 30]].concat();
        assert_eq!(Attr::decode(&longer).unwrap(), Attr { access_acl: 1, tier: 1, ..full() });
    }

    #[test]
    fn broken_records_are_corrupt() {
        let mut bytes = full().encode();
        for len in 0..63 {
            assert!(Attr::decode(&bytes[..len]).is_err(), "{len}");
        }
        for kind in [0u8, 8, 15] {
            bytes[1] = kind << 4;
            assert_eq!(Attr::decode(&bytes).unwrap_err().kind(), shoal_types::ErrorKind::Corrupt);
        }
    }

    #[test]
    fn times_convert_both_ways() {
        for time in [
            Time { secs: 0, nanos: 0 },
            Time { secs: 1_700_000_000, nanos: 123_456_789 },
            Time { secs: -1, nanos: 1 },
            Time { secs: -5, nanos: 999_999_999 },
        ] {
            let (micros, rest) = time.to_micros();
            assert_eq!(Time::from_micros(micros, rest), time);
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(Time { secs: -1, nanos: 500_000_000 }.to_system_time(), before);
        for secs in [i64::MIN, i64::MAX] {
            Time { secs, nanos: u32::MAX }.to_system_time();
            Time { secs, nanos: u32::MAX }.to_micros();
        }
    }
}
