//! What can go wrong with an object store, in the words a user meets.
//!
//! Nothing of the library underneath leaves the crate: its errors become these variants, with the root cause as text.

use std::{fmt, io, time::Duration};

use shoal_types::ErrorKind;

/// One of the five things asked of an object store; a metric label and a word in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Read an object or a part of it.
    Get,
    /// Write a whole object.
    Put,
    /// Ask for length, ETag and time of an object.
    Head,
    /// Remove an object.
    Delete,
    /// One page of keys.
    List,
}

impl Op {
    /// Every operation, in declaration order (`Op as usize` is the index).
    pub const ALL: [Op; 5] = [Op::Get, Op::Put, Op::Head, Op::Delete, Op::List];

    /// The name metrics and messages use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Put => "put",
            Op::Head => "head",
            Op::Delete => "delete",
            Op::List => "list",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key in quotes; the prefix of a list may be empty and then means the bucket.
struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("the bucket") } else { write!(f, "`{}`", self.0) }
    }
}

/// A request to an object store failed. `store` is the store's [`name`](crate::ObjectStore::name).
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The bucket is there, the object is not.
    #[error("{store} has no object `{key}`")]
    NotFound {
        /// The store asked.
        store: String,
        /// The object's full key.
        key: String,
    },
    /// The bucket or directory itself is missing.
    #[error("{store} does not exist")]
    NoBucket {
        /// The store asked.
        store: String,
    },
    /// The store knows the caller and says no, or does not know the caller.
    #[error("{store} refused to {op} {what}: {reason}; check the access key and its rights on the bucket",
        what = Named(key), reason = reason.trim_end_matches('.'))]
    Denied {
        /// The store asked.
        store: String,
        /// What was asked.
        op: Op,
        /// The object's full key, or the prefix of a list.
        key: String,
        /// The store's own words.
        reason: String,
    },
    /// The object is no longer the one whose ETag the caller named.
    #[error("object `{key}` in {store} changed: it no longer has ETag {etag}")]
    Changed {
        /// The store asked.
        store: String,
        /// The object's full key.
        key: String,
        /// The ETag the caller expected.
        etag: String,
    },
    /// No connection, a broken connection, throttling or a server error: another attempt may succeed.
    #[error("{store} failed to {op} {what} for now: {reason}", what = Named(key))]
    Unavailable {
        /// The store asked.
        store: String,
        /// What was asked.
        op: Op,
        /// The object's full key, or the prefix of a list.
        key: String,
        /// The root cause.
        reason: String,
        /// When the server wants to be asked again (`Retry-After` in seconds), if it said.
        retry_after: Option<Duration>,
    },
    /// Nothing arrived in time.
    #[error("{store} kept {op} {what} waiting more than {after:?} for {phase}", what = Named(key))]
    Timeout {
        /// The store asked.
        store: String,
        /// What was asked.
        op: Op,
        /// The object's full key, or the prefix of a list.
        key: String,
        /// How long it was waited.
        after: Duration,
        /// What was waited for.
        phase: &'static str,
    },
    /// A body ended before the promised number of bytes.
    #[error("{object}: the body ended after {got} of {expected} bytes")]
    Short {
        /// Key and store.
        object: String,
        /// Bytes promised.
        expected: u64,
        /// Bytes received.
        got: u64,
    },
    /// A body went on after the promised number of bytes.
    #[error("{object}: the body is longer than the promised {expected} bytes")]
    Long {
        /// Key and store.
        object: String,
        /// Bytes promised.
        expected: u64,
    },
    /// The bytes are not those whose CRC-32C the writer recorded (volume format 3.5).
    #[error("{object} failed its checksum: stored crc32c {stored:08x}, computed {computed:08x}")]
    Checksum {
        /// Key and store.
        object: String,
        /// The checksum recorded at put.
        stored: u32,
        /// The checksum of the bytes received.
        computed: u32,
    },
    /// The server's answer contradicts the request.
    #[error("{store} answered {op} `{key}` with something else than was asked: {reason}")]
    Protocol {
        /// The store asked.
        store: String,
        /// What was asked.
        op: Op,
        /// The object's full key, or the prefix of a list.
        key: String,
        /// The contradiction.
        reason: String,
    },
    /// The range is empty or starts at or after the end of the object.
    #[error("range {start}..{end} holds no byte of object `{key}` in {store}")]
    Range {
        /// The store asked.
        store: String,
        /// The object's full key.
        key: String,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
    },
    /// More bytes than the caller wants to hold.
    #[error("{object} has {len} bytes, more than the {max} allowed here")]
    TooLarge {
        /// Key and store.
        object: String,
        /// Bytes in the body.
        len: u64,
        /// The caller's limit.
        max: u64,
    },
    /// The key cannot name an object in every kind of store.
    #[error("`{key}` cannot be an object key: {why}")]
    Key {
        /// The refused key.
        key: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The bucket setting or its credentials make no sense.
    #[error("bucket `{bucket}` of storage `{storage}` cannot be opened: {why}")]
    Location {
        /// The storage type named.
        storage: String,
        /// The bucket setting.
        bucket: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A storage type this build does not speak.
    #[error("object storage `{storage}` is not supported yet; supported are: {supported}")]
    Unsupported {
        /// The storage type named.
        storage: String,
        /// The list of known types.
        supported: String,
    },
    /// The store refuses the request for good.
    #[error("{store} rejected {op} `{key}`: {reason}")]
    Rejected {
        /// The store asked.
        store: String,
        /// What was asked.
        op: Op,
        /// The object's full key, or the prefix of a list.
        key: String,
        /// The store's own words.
        reason: String,
    },
    /// The store is full, or a quota is used up.
    #[error("{store} has no room for `{key}`: {reason}")]
    Full {
        /// The store asked.
        store: String,
        /// The object's full key.
        key: String,
        /// The store's own words.
        reason: String,
    },
    /// The operating system refused a file operation.
    #[error("{store} failed to {op} `{key}`")]
    Io {
        /// The store asked.
        store: String,
        /// What was asked.
        op: Op,
        /// The object's full key, or the prefix of a list.
        key: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A failure a test asked for ([`crate::fault`]).
    #[error("injected failure of {op} `{key}`: {kind}")]
    Injected {
        /// What was asked.
        op: Op,
        /// The object's full key, or the prefix of a list.
        key: String,
        /// The kind the test asked for.
        kind: ErrorKind,
    },
}

impl ObjectError {
    /// What a caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ObjectError::NotFound { .. } | ObjectError::NoBucket { .. } => ErrorKind::NotFound,
            ObjectError::Denied { .. } => ErrorKind::Denied,
            ObjectError::Changed { .. } => ErrorKind::Conflict,
            ObjectError::Unavailable { .. } | ObjectError::Short { .. } => ErrorKind::Unavailable,
            ObjectError::Timeout { .. } => ErrorKind::Timeout,
            ObjectError::Long { .. } | ObjectError::Checksum { .. } | ObjectError::Protocol { .. } => {
                ErrorKind::Corrupt
            }
            ObjectError::Range { .. }
            | ObjectError::TooLarge { .. }
            | ObjectError::Key { .. }
            | ObjectError::Location { .. }
            | ObjectError::Unsupported { .. }
            | ObjectError::Rejected { .. } => ErrorKind::Invalid,
            ObjectError::Full { .. } => ErrorKind::NoSpace,
            ObjectError::Io { source, .. } => ErrorKind::of_io(source),
            ObjectError::Injected { kind, .. } => *kind,
        }
    }

    /// How long the server wants to be left alone, if it said.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            ObjectError::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// True where the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
    }
}

/// How messages name one object: key and store.
pub(crate) fn object_name(key: &str, store: &str) -> String {
    format!("object `{key}` in {store}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn op_index_matches_all() {
        for (index, op) in Op::ALL.iter().enumerate() {
            assert_eq!(*op as usize, index);
        }
    }

    #[test]
    fn a_refused_list_names_the_bucket_and_ends_its_sentence_once() {
        let (store, key, reason) = ("s3 bucket b".into(), String::new(), "the key is unknown.".into());
        let error = ObjectError::Denied { store, op: Op::List, key, reason };
        let text = "s3 bucket b refused to list the bucket: the key is unknown; check the access key and its rights on the bucket";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn only_unavailable_and_timeout_are_transient() {
        for kind in ErrorKind::ALL {
            let error = ObjectError::Injected { op: Op::Get, key: "k".into(), kind };
            assert_eq!(error.kind(), kind);
            assert_eq!(error.is_transient(), matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout));
        }
    }

    #[test]
    fn a_short_body_is_worth_another_attempt_and_a_wrong_one_is_not() {
        let short = ObjectError::Short { object: "o".into(), expected: 2, got: 1 };
        let wrong = ObjectError::Checksum { object: "o".into(), stored: 1, computed: 2 };
        assert_eq!(short.kind(), ErrorKind::Unavailable);
        assert_eq!(wrong.kind(), ErrorKind::Corrupt);
    }
}
