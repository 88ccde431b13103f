//! What a caller may do about an error; every crate's error enum maps to one of these.

use std::fmt;

/// The decision an error asks of its caller. Callers branch on this and on nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// Bytes are not what they must be: a checksum, a length or a structure is wrong.
    Corrupt,
    /// The other side cannot be reached or refuses for now; another place may have it.
    Unavailable,
    /// No answer within the time allowed.
    Timeout,
    /// Someone else changed the thing first, or it exists already.
    Conflict,
    /// The request itself is wrong and will stay wrong.
    Invalid,
    /// No room left.
    NoSpace,
    /// The caller may not do this.
    Denied,
    /// The caller gave up, or the process is stopping.
    Cancelled,
    /// A bug or an unclassified failure.
    Internal,
}

impl ErrorKind {
    /// Every kind, in declaration order; metrics use it to declare their label values.
    pub const ALL: [ErrorKind; 10] = [
        ErrorKind::NotFound,
        ErrorKind::Corrupt,
        ErrorKind::Unavailable,
        ErrorKind::Timeout,
        ErrorKind::Conflict,
        ErrorKind::Invalid,
        ErrorKind::NoSpace,
        ErrorKind::Denied,
        ErrorKind::Cancelled,
        ErrorKind::Internal,
    ];

    /// The kind's name as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not_found",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Invalid => "invalid",
            ErrorKind::NoSpace => "no_space",
            ErrorKind::Denied => "denied",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Internal => "internal",
        }
    }

    /// The kind an operating system error stands for.
    pub fn of_io(error: &std::io::Error) -> ErrorKind {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
            Io::TimedOut => ErrorKind::Timeout,
            Io::AlreadyExists => ErrorKind::Conflict,
            Io::InvalidInput => ErrorKind::Invalid,
            Io::InvalidData | Io::UnexpectedEof => ErrorKind::Corrupt,
            Io::ConnectionRefused | Io::ConnectionReset | Io::ConnectionAborted | Io::NotConnected => {
                ErrorKind::Unavailable
            }
            _ => ErrorKind::Internal,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
