//! The seam: what Shoal asks of an object store, and which keys it may ask for.

use std::{fmt, ops::Range, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{ObjectBody, ObjectError};

/// S3's limit, taken for every store.
pub const MAX_KEY_BYTES: usize = 1024;

/// A place that holds immutable objects under keys.
///
/// Keys are full keys inside the bucket (a volume's `<Name>/` included). Every implementation passes
/// `testing::conformance`. All futures are cancel-safe: dropping one gives the request up; a given-up `put` or
/// `delete` may or may not take place.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Bytes of object `key`: all of it, or those in `range`, cut at the object's end.
    ///
    /// With `if_match`, only if the object still has that ETag. Errors: `NotFound` (object or bucket); `Conflict` if
    /// the ETag differs; `Invalid` for an empty range or one that starts at or after the end; `Denied`;
    /// `Unavailable` and `Timeout` after the store's retries. The body may fail in the same ways later.
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError>;

    /// Writes object `key`, all or nothing; a reader sees the old object or the new one, never a mixture.
    ///
    /// Replaces an object that is there. Whether it outlives a loss of power is [`ObjectStore::sync`]'s business.
    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError>;

    /// Returns once everything put through this value before outlives a loss of power.
    ///
    /// At once in object stores that are a service: there a put is durable when it is answered. Errors: as `put`; what was
    /// put is then in doubt.
    async fn sync(&self) -> Result<(), ObjectError>;

    /// Length, ETag and time of object `key`. Errors: `NotFound`, `Denied`, `Unavailable`, `Timeout`.
    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError>;

    /// Removes object `key`; one that is not there counts as removed.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// The first `limit` objects whose keys start with `prefix` and come after `after`, in byte order of the keys.
    ///
    /// Fewer than `limit` means there are no more. Keys Shoal could not ask for (see [`check_key`]), and the empty
    /// marker objects some tools make for directories (`dir/`), are left out. Errors: `NotFound` if the bucket is
    /// missing; a prefix nothing starts with is an empty list.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError>;

    /// What messages call this store: kind, bucket and place, no secrets. A noun phrase in lower case.
    fn name(&self) -> String;
}

/// What a store knows about an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Length in bytes.
    pub len: u64,
    /// The ETag as the store spells it, with its quotes; compares equal only between identical bytes.
    pub etag: Option<String>,
    /// Time of the last put, by the store's clock.
    pub modified: Option<SystemTime>,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEntry {
    /// Full key.
    pub key: String,
    /// What the list said about it.
    pub meta: ObjectMeta,
}

/// Asks `store` whether it can be reached, its bucket exists and the credentials may list it: one `list` of one key.
///
/// For a caller to use once at start, before a first read fails in the middle of something. Errors: `NotFound` names
/// the missing bucket or directory; `Denied` also where the key may read but not list: such a caller reads an object
/// it knows instead.
pub async fn probe(store: &dyn ObjectStore) -> Result<(), ObjectError> {
    store.list("", None, 1).await.map(|_| ())
}

/// Refuses keys that would name different objects in different stores.
///
/// A key is 1 to [`MAX_KEY_BYTES`] bytes of `/`-joined names, none of them empty, `.` or `..`; it has no NUL and no
/// white space at either end. (The library below trims and folds such keys silently, and a file system resolves dots:
/// reading another object than the one named is worse than refusing.) Errors: `Invalid`.
pub fn check_key(key: &str) -> Result<(), ObjectError> {
    let why = if key.is_empty() {
        "it is empty"
    } else if key.len() > MAX_KEY_BYTES {
        "it is longer than 1024 bytes"
    } else if key.split('/').any(str::is_empty) {
        "a name between its slashes is empty"
    } else if key.split('/').any(|name| matches!(name, "." | "..")) {
        "`.` and `..` are not names"
    } else if key.contains('\0') {
        "it has a NUL byte"
    } else if key.trim() != key {
        "it starts or ends with white space"
    } else {
        return Ok(());
    };
    Err(ObjectError::Key { key: key.to_owned(), why })
}

/// Like [`check_key`] for the prefix of a list: it may be empty, and may end with a slash.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), ObjectError> {
    match prefix.strip_suffix('/').unwrap_or(prefix) {
        "" if prefix.is_empty() => Ok(()),
        "" => Err(ObjectError::Key { key: prefix.to_owned(), why: "a name between its slashes is empty" }),
        names => check_key(names),
    }
}

/// The part of `range` that exists in an object of `object_len` bytes: whole object without a range.
///
/// Errors: `Range` if no byte is left.
pub(crate) fn clamp(
    store: &str,
    key: &str,
    range: Option<&Range<u64>>,
    object_len: u64,
) -> Result<Range<u64>, ObjectError> {
    let Some(range) = range else {
        return Ok(0..object_len);
    };
    let end = range.end.min(object_len);
    if range.start >= end {
        return Err(no_byte(store, key, range));
    }
    Ok(range.start..end)
}

/// Refuses an empty range before anything is asked of a store.
pub(crate) fn check_range(store: &str, key: &str, range: Option<&Range<u64>>) -> Result<(), ObjectError> {
    match range {
        Some(range) if range.start >= range.end => Err(no_byte(store, key, range)),
        _ => Ok(()),
    }
}

fn no_byte(store: &str, key: &str, range: &Range<u64>) -> ObjectError {
    ObjectError::Range { store: store.to_owned(), key: key.to_owned(), start: range.start, end: range.end }
}

#[cfg(test)]
mod tests {
    use shoal_types::ErrorKind;

    use super::*;

    #[test]
    fn keys_that_stores_read_differently_are_refused() {
        for key in ["", "/a", "a/", "a//b", ".", "a/../b", "./a", " a", "a ", "a\0b", &"k".repeat(1025)] {
            assert_eq!(check_key(key).unwrap_err().kind(), ErrorKind::Invalid, "{key:?}");
        }
        for key in ["a", "vol/chunks/0/0/1_0_95600", "a b", "...", "ünï", &"k".repeat(1024)] {
            check_key(key).unwrap();
        }
    }

    #[test]
    fn prefixes_may_be_empty_or_end_with_a_slash() {
        for prefix in ["", "a", "a/", "a/b", "a/b/"] {
            check_prefix(prefix).unwrap();
        }
        for prefix in ["/", "/a", "a//", "../"] {
            assert!(check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }

    #[test]
    fn ranges_are_cut_at_the_end_of_the_object() {
        assert_eq!(clamp("s", "k", None, 0).unwrap(), 0..0);
        assert_eq!(clamp("s", "k", Some(&(2..9)), 5).unwrap(), 2..5);
        assert_eq!(clamp("s", "k", Some(&(5..9)), 5).unwrap_err().kind(), ErrorKind::Invalid);
        #[expect(clippy::reversed_empty_ranges, reason = "a reversed range must be refused, not panic")]
        let reversed = 4..2;
        assert!(check_range("s", "k", Some(&reversed)).is_err());
    }
}
