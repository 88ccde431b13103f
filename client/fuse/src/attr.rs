//! Volume attributes as the kernel wants them, and which of its extended attributes are none.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, INodeNo};
use shoal_format::{Attr, FileType, Ino, Time};
use shoal_meta::AclKind;

/// Preferred I/O size reported by stat, in bytes: what the kernel's read-ahead asks for in one request at best.
const PREFERRED_IO_BYTES: u32 = 128 << 10;

/// The kernel's word for a file type.
pub(crate) fn kind(kind: FileType) -> fuser::FileType {
    match kind {
        FileType::Regular => fuser::FileType::RegularFile,
        FileType::Directory => fuser::FileType::Directory,
        FileType::Symlink => fuser::FileType::Symlink,
        FileType::Fifo => fuser::FileType::NamedPipe,
        FileType::BlockDevice => fuser::FileType::BlockDevice,
        FileType::CharDevice => fuser::FileType::CharDevice,
        FileType::Socket => fuser::FileType::Socket,
    }
}

fn time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nanos));
    let whole = Duration::from_secs(time.secs.unsigned_abs());
    let second = if time.secs >= 0 { UNIX_EPOCH.checked_add(whole) } else { UNIX_EPOCH.checked_sub(whole) };
    second.and_then(|second| second.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// `attr` of `ino` as a kernel attribute. Used space is the length in whole 4 KiB pages, as JuiceFS accounts it.
pub(crate) fn file_attr(ino: Ino, attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino.0),
        size: attr.length,
        blocks: attr.length.div_ceil(4096) * 8,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: attr.mode & 0o7777,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: PREFERRED_IO_BYTES,
        flags: 0,
    }
}

/// Which ACL the extended attribute `name` stands for, if any.
pub(crate) fn acl_kind(name: &OsStr) -> Option<AclKind> {
    match name.to_str() {
        Some("system.posix_acl_access") => Some(AclKind::Access),
        Some("system.posix_acl_default") => Some(AclKind::Default),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_attributes_stand_for_acls() {
        assert_eq!(acl_kind(OsStr::new("system.posix_acl_access")), Some(AclKind::Access));
        assert_eq!(acl_kind(OsStr::new("system.posix_acl_default")), Some(AclKind::Default));
        assert_eq!(acl_kind(OsStr::new("user.posix_acl_access")), None);
    }

    #[test]
    fn times_before_1970_are_kept() {
        let before = time(Time { secs: -10, nanos: 5 });
        assert_eq!(UNIX_EPOCH.duration_since(before).expect("earlier"), Duration::new(9, 999_999_995));
        // The ends of the range must not panic, whatever they become.
        let _ = (time(Time { secs: i64::MIN, nanos: 0 }), time(Time { secs: i64::MAX, nanos: u32::MAX }));
    }
}
