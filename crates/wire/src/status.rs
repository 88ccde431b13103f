//! How a peer answered: the only place where wire codes meet [`ErrorKind`].

use shoal_types::ErrorKind;

/// Outcome of a request as the peer reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// The body follows.
    Ok = 0,
    /// The origin has no such object.
    NotFound = 1,
    /// The peer is not among the block's owners and does not hold it.
    NotOwner = 2,
    /// The peer is at a bound; another may have room.
    Busy = 3,
    /// The peer cannot serve now.
    Unavailable = 4,
    /// The bytes the peer has, or got from the origin, are not what they must be.
    Corrupt = 5,
    /// The peer, or the origin behind it, did not answer in time.
    Timeout = 6,
    /// The caller may not ask this.
    Denied = 7,
    /// The request is wrong and will stay wrong.
    Invalid = 8,
    /// A bug or an unclassified failure of the peer.
    Internal = 9,
    /// The object changed: the key names bytes that exist no more.
    Conflict = 10,
}

/// Stream error codes are this plus the status: far from the small codes other protocols use.
const RESET_BASE: u64 = 0x5300;

impl Status {
    /// Every status, in wire order.
    pub const ALL: [Status; 11] = [
        Status::Ok,
        Status::NotFound,
        Status::NotOwner,
        Status::Busy,
        Status::Unavailable,
        Status::Corrupt,
        Status::Timeout,
        Status::Denied,
        Status::Invalid,
        Status::Internal,
        Status::Conflict,
    ];

    /// The status with wire number `n`, if there is one.
    pub fn from_u8(n: u8) -> Option<Status> {
        Status::ALL.get(usize::from(n)).copied()
    }

    /// The status's name as metrics and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::NotFound => "not_found",
            Status::NotOwner => "not_owner",
            Status::Busy => "busy",
            Status::Unavailable => "unavailable",
            Status::Corrupt => "corrupt",
            Status::Timeout => "timeout",
            Status::Denied => "denied",
            Status::Invalid => "invalid",
            Status::Internal => "internal",
            Status::Conflict => "conflict",
        }
    }

    /// What the caller may do about it; `None` for [`Status::Ok`].
    pub const fn error_kind(self) -> Option<ErrorKind> {
        match self {
            Status::Ok => None,
            Status::NotFound => Some(ErrorKind::NotFound),
            Status::NotOwner | Status::Busy | Status::Unavailable => Some(ErrorKind::Unavailable),
            Status::Corrupt => Some(ErrorKind::Corrupt),
            Status::Timeout => Some(ErrorKind::Timeout),
            Status::Denied => Some(ErrorKind::Denied),
            Status::Invalid => Some(ErrorKind::Invalid),
            Status::Internal => Some(ErrorKind::Internal),
            Status::Conflict => Some(ErrorKind::Conflict),
        }
    }

    /// The code a stream is reset or stopped with when it fails with this status.
    pub const fn reset_code(self) -> u32 {
        RESET_BASE as u32 + self as u32
    }

    /// The status a stream was reset with; a code of no status is [`Status::Unavailable`], and so is "reset with Ok".
    pub fn from_reset_code(code: u64) -> Status {
        let status = code.checked_sub(RESET_BASE).and_then(|n| u8::try_from(n).ok()).and_then(Status::from_u8);
        match status {
            None | Some(Status::Ok) => Status::Unavailable,
            Some(status) => status,
        }
    }
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Status {
        match kind {
            ErrorKind::NotFound => Status::NotFound,
            ErrorKind::Corrupt => Status::Corrupt,
            // The peer gave up, is stopping or is full: another place may still have the block.
            ErrorKind::Unavailable | ErrorKind::NoSpace | ErrorKind::Cancelled => Status::Unavailable,
            ErrorKind::Timeout => Status::Timeout,
            ErrorKind::Conflict => Status::Conflict,
            ErrorKind::Invalid => Status::Invalid,
            ErrorKind::Denied => Status::Denied,
            ErrorKind::Internal => Status::Internal,
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_number_kind_and_reset_code() {
        let rows = [
            (Status::Ok, 0, None, 0x5300),
            (Status::NotFound, 1, Some(ErrorKind::NotFound), 0x5301),
            (Status::NotOwner, 2, Some(ErrorKind::Unavailable), 0x5302),
            (Status::Busy, 3, Some(ErrorKind::Unavailable), 0x5303),
            (Status::Unavailable, 4, Some(ErrorKind::Unavailable), 0x5304),
            (Status::Corrupt, 5, Some(ErrorKind::Corrupt), 0x5305),
            (Status::Timeout, 6, Some(ErrorKind::Timeout), 0x5306),
            (Status::Denied, 7, Some(ErrorKind::Denied), 0x5307),
            (Status::Invalid, 8, Some(ErrorKind::Invalid), 0x5308),
            (Status::Internal, 9, Some(ErrorKind::Internal), 0x5309),
            (Status::Conflict, 10, Some(ErrorKind::Conflict), 0x530a),
        ];
        assert_eq!(rows.len(), Status::ALL.len());
        for (status, number, kind, code) in rows {
            assert_eq!(Status::from_u8(number), Some(status));
            assert_eq!(status as u8, number);
            assert_eq!(status.error_kind(), kind, "{status}");
            assert_eq!(status.reset_code(), code, "{status}");
            if status != Status::Ok {
                assert_eq!(Status::from_reset_code(u64::from(code)), status);
            }
        }
        assert_eq!(Status::from_u8(11), None);
    }

    #[test]
    fn every_kind_has_its_status() {
        let rows = [
            (ErrorKind::NotFound, Status::NotFound),
            (ErrorKind::Corrupt, Status::Corrupt),
            (ErrorKind::Unavailable, Status::Unavailable),
            (ErrorKind::Timeout, Status::Timeout),
            (ErrorKind::Conflict, Status::Conflict),
            (ErrorKind::Invalid, Status::Invalid),
            (ErrorKind::NoSpace, Status::Unavailable),
            (ErrorKind::Denied, Status::Denied),
            (ErrorKind::Cancelled, Status::Unavailable),
            (ErrorKind::Internal, Status::Internal),
        ];
        assert_eq!(rows.map(|(kind, _)| kind), ErrorKind::ALL);
        for (kind, status) in rows {
            assert_eq!(Status::from(kind), status, "{kind}");
        }
    }

    #[test]
    fn a_reset_without_a_known_code_is_unavailable() {
        for code in [0, 0x5300, 0x530b, 0x52ff, 0x5400, u64::MAX] {
            assert_eq!(Status::from_reset_code(code), Status::Unavailable, "{code:x}");
        }
    }
}
