//! Why bytes are no message.

use shoal_types::ErrorKind;

/// Encoding or decoding a message failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The other process is of another protocol version.
    #[error("the peer speaks wire version {theirs}, this process speaks {ours}: upgrade the older of the two")]
    Version {
        /// Version in the peer's header.
        theirs: u8,
        /// Version of this process.
        ours: u8,
    },
    /// A length is over its bound.
    #[error("{what} of {len} is over its bound of {max}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        len: u64,
        /// How large it may be.
        max: u64,
    },
    /// The bytes have no valid structure.
    #[error("malformed message: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
}

impl WireError {
    /// What a caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            WireError::Version { .. } | WireError::TooLarge { .. } => ErrorKind::Invalid,
            WireError::Malformed { .. } => ErrorKind::Corrupt,
        }
    }

    /// `Ok` if `len` is at most `max`.
    pub(crate) fn bound(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
        if len <= max { Ok(()) } else { Err(WireError::TooLarge { what, len: len as u64, max: max as u64 }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_tell_a_wrong_request_from_broken_bytes() {
        assert_eq!(WireError::Version { theirs: 9, ours: 1 }.kind(), ErrorKind::Invalid);
        assert_eq!(WireError::TooLarge { what: "x", len: 2, max: 1 }.kind(), ErrorKind::Invalid);
        assert_eq!(WireError::Malformed { what: "x" }.kind(), ErrorKind::Corrupt);
    }
}
