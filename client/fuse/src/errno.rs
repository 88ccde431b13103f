//! Error kinds as errno. The one place where POSIX error numbers are chosen.

use fuser::Errno;
use shoal_meta::{MetaError, Refusal};
use shoal_types::ErrorKind;
use shoal_vfs::VfsError;

/// The errno a program sees for `error`.
pub(crate) fn errno_of(error: &VfsError) -> Errno {
    match error {
        VfsError::Meta(MetaError::Refused { why, .. }) => refused(*why),
        VfsError::Meta(MetaError::NotDirectory { .. }) => Errno::ENOTDIR,
        VfsError::Meta(MetaError::ReadOnly { .. } | MetaError::Lost { .. }) => Errno::EROFS,
        other => errno(other.kind()),
    }
}

fn refused(why: Refusal) -> Errno {
    match why {
        Refusal::NotEmpty => Errno::ENOTEMPTY,
        Refusal::IsDirectory => Errno::EISDIR,
        Refusal::Access => Errno::EACCES,
        Refusal::NotPermitted => Errno::EPERM,
        Refusal::NameTooLong => Errno::ENAMETOOLONG,
        Refusal::NoAttribute => Errno::ENODATA,
        Refusal::Quota => Errno::EDQUOT,
        Refusal::Links => Errno::EMLINK,
        Refusal::TooBig => Errno::EFBIG,
        Refusal::Unsupported => Errno::EOPNOTSUPP,
        Refusal::Locked => Errno::EAGAIN,
        Refusal::Interrupted => Errno::EINTR,
    }
}

/// The errno a program sees for `kind`.
pub(crate) fn errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Corrupt => Errno::EIO,
        ErrorKind::Unavailable => Errno::EIO,
        ErrorKind::Timeout => Errno::ETIMEDOUT,
        ErrorKind::Conflict => Errno::EEXIST,
        ErrorKind::Invalid => Errno::EINVAL,
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::Denied => Errno::EACCES,
        ErrorKind::Cancelled => Errno::EINTR,
        ErrorKind::Internal => Errno::EIO,
    }
}

/// The errno of a failed read of file bytes. The kernel has checked what the program asked, so nothing is the program's fault: a
/// block that is nowhere, or not as long as it must be, is an I/O error.
pub(crate) fn read_errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound
        | ErrorKind::Corrupt
        | ErrorKind::Unavailable
        | ErrorKind::Conflict
        | ErrorKind::Invalid
        | ErrorKind::NoSpace
        | ErrorKind::Denied
        | ErrorKind::Internal => Errno::EIO,
        ErrorKind::Timeout | ErrorKind::Cancelled => errno(kind),
    }
}

/// The errno of bytes that could not be written: a quota that is used up is told apart from a full volume.
pub(crate) fn write_errno_of(error: &VfsError) -> Errno {
    match error {
        VfsError::Write { refusal: Some(Refusal::Quota), .. } => refused(Refusal::Quota),
        other => write_errno(other.kind()),
    }
}

/// The errno of bytes that could not be written, by the write that brought them or a later flush. What the object store or the
/// database refused is no fault of the program.
fn write_errno(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NoSpace => Errno::ENOSPC,
        // Only a length that no file has.
        ErrorKind::Invalid => Errno::EFBIG,
        // Removed by another client.
        ErrorKind::NotFound => Errno::ESTALE,
        ErrorKind::Cancelled => Errno::EINTR,
        ErrorKind::Corrupt
        | ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Conflict
        | ErrorKind::Denied
        | ErrorKind::Internal => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_errno() {
        let rows = [
            (Refusal::NotEmpty, libc::ENOTEMPTY),
            (Refusal::IsDirectory, libc::EISDIR),
            (Refusal::Access, libc::EACCES),
            (Refusal::NotPermitted, libc::EPERM),
            (Refusal::NameTooLong, libc::ENAMETOOLONG),
            (Refusal::NoAttribute, libc::ENODATA),
            (Refusal::Quota, libc::EDQUOT),
            (Refusal::Links, libc::EMLINK),
            (Refusal::TooBig, libc::EFBIG),
            (Refusal::Unsupported, libc::EOPNOTSUPP),
            (Refusal::Locked, libc::EAGAIN),
            (Refusal::Interrupted, libc::EINTR),
        ];
        assert_eq!(rows.len(), Refusal::ALL.len());
        let meta = |error| i32::from(errno_of(&VfsError::Meta(error)));
        for (why, number) in rows {
            assert_eq!(meta(MetaError::Refused { why, what: String::new() }), number, "{why:?}");
        }
        let (what, at) = (String::new, String::new);
        assert_eq!(meta(MetaError::NotDirectory { what: what() }), libc::ENOTDIR);
        assert_eq!(meta(MetaError::ReadOnly { at: at() }), libc::EROFS);
        assert_eq!(meta(MetaError::Lost { at: at(), why: what() }), libc::EROFS);
        assert_eq!(meta(MetaError::Exists { parent: 1, name: what() }), libc::EEXIST);
        assert_eq!(meta(MetaError::NoSpace { what: what() }), libc::ENOSPC);
    }

    #[test]
    fn a_quota_that_is_used_up_shows_when_bytes_are_written() {
        let lost = |refusal| VfsError::Write {
            ino: shoal_format::Ino(5),
            kind: ErrorKind::NoSpace,
            refusal,
            detail: String::new(),
        };
        assert_eq!(i32::from(write_errno_of(&lost(Some(Refusal::Quota)))), libc::EDQUOT);
        assert_eq!(i32::from(write_errno_of(&lost(None))), libc::ENOSPC);
    }

    #[test]
    fn every_kind_has_its_errno() {
        let rows = [
            (ErrorKind::NotFound, libc::ENOENT),
            (ErrorKind::Corrupt, libc::EIO),
            (ErrorKind::Unavailable, libc::EIO),
            (ErrorKind::Timeout, libc::ETIMEDOUT),
            (ErrorKind::Conflict, libc::EEXIST),
            (ErrorKind::Invalid, libc::EINVAL),
            (ErrorKind::NoSpace, libc::ENOSPC),
            (ErrorKind::Denied, libc::EACCES),
            (ErrorKind::Cancelled, libc::EINTR),
            (ErrorKind::Internal, libc::EIO),
        ];
        assert_eq!(rows.len(), ErrorKind::ALL.len());
        for (kind, number) in rows {
            assert_eq!(i32::from(errno(kind)), number, "{kind}");
        }
        for kind in ErrorKind::ALL {
            let of_a_read = match kind {
                ErrorKind::Timeout => libc::ETIMEDOUT,
                ErrorKind::Cancelled => libc::EINTR,
                _ => libc::EIO,
            };
            assert_eq!(i32::from(read_errno(kind)), of_a_read, "{kind}");
            let of_a_write = match kind {
                ErrorKind::NoSpace => libc::ENOSPC,
                ErrorKind::Invalid => libc::EFBIG,
                ErrorKind::NotFound => libc::ESTALE,
                ErrorKind::Cancelled => libc::EINTR,
                _ => libc::EIO,
            };
            assert_eq!(i32::from(write_errno(kind)), of_a_write, "{kind}");
        }
    }
}
