//! Error kinds as errno. The one place where POSIX error numbers are chosen.

use fuser::Errno;
use shoal_types::ErrorKind;

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

#[cfg(test)]
mod tests {
    use super::*;

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
        }
    }
}
