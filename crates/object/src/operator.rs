//! A store over an OpenDAL operator: one GET is one request, its answer's headers are read before its body.
//!
//! The operator carries no layers: retry, timeout and limits are this crate's decorators, because only they see our
//! bodies: a body that breaks midway is resumed from the byte reached (the library's retry layer repeats reads it
//! opened itself, without the ETag the first answer carried), a pause between chunks is timed by the reader's waiting
//! and not by its working, and a permit is held until the last byte. One mechanism also serves the stores that are not
//! OpenDAL's. OpenDAL types and errors end in this file and in `transport`.
//!
//! Object checksums (volume format 3.5): a put attaches `Crc32c`; a get reads it from the answer it gets anyway, at no
//! further request, and hands it on in [`ObjectBody::crc32c`] for `verify` to check.

use std::{
    error::Error as _,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use opendal::{Buffer, EntryMode, ErrorKind, Metadata, Operator};
use shoal_types::checksum::crc32c;

use crate::{
    ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore, Op,
    error::object_name,
    store::{check_key, check_prefix, check_range, clamp},
    transport::RANGE_CHECK,
};

/// The user metadata JuiceFS keeps its checksum under, as a put spells it; header names come back in lower case.
const CRC_KEY: &str = "Crc32c";
/// Most keys of one list request: S3's own limit.
const LIST_PAGE: usize = 1000;

/// Whether puts attach a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksums {
    /// As user metadata `Crc32c`.
    Attach,
    /// The bucket URL says `disable-checksum=true`.
    Omit,
}

/// An OpenDAL service as an [`ObjectStore`].
#[derive(Debug)]
pub(crate) struct OperatorStore {
    operator: Operator,
    name: Arc<str>,
    checksums: Checksums,
}

impl OperatorStore {
    /// `name` is what messages call the store.
    pub(crate) fn new(operator: Operator, name: String, checksums: Checksums) -> OperatorStore {
        OperatorStore { operator, name: name.into(), checksums }
    }

    fn failed<'a>(&'a self, op: Op, key: &'a str) -> impl Fn(opendal::Error) -> ObjectError + 'a {
        move |error| translate(&self.name, op, key, &error)
    }
}

#[async_trait]
impl ObjectStore for OperatorStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        check_key(key)?;
        check_range(&self.name, key, range.as_ref())?;
        let failed = |error: opendal::Error| match (error.kind(), if_match) {
            (ErrorKind::ConditionNotMatch, Some(etag)) => {
                ObjectError::Changed { store: self.name(), key: key.to_owned(), etag: etag.to_owned() }
            }
            (ErrorKind::RangeNotSatisfied, _) => {
                let (start, end) = range.clone().map_or((0, 0), |range| (range.start, range.end));
                ObjectError::Range { store: self.name(), key: key.to_owned(), start, end }
            }
            _ => translate(&self.name, Op::Get, key, &error),
        };
        let mut reader = self.operator.reader_with(key);
        if let Some(etag) = if_match {
            reader = reader.if_match(etag);
        }
        let reader = reader.await.map_err(&failed)?;
        let stream = match range.clone() {
            // Servers read the end as a signed number, and refuse larger ones.
            Some(range) if range.end > i64::MAX as u64 => reader.into_stream(range.start..).await,
            Some(range) => reader.into_stream(range).await,
            None => reader.into_stream(..).await,
        };
        let mut stream = stream.map_err(&failed)?;
        // Sends the request; the body is not read yet.
        let metadata = stream.metadata().await.map_err(&failed)?;
        let etag = metadata.etag().map(quoted);
        // Some servers ignore If-Match (rclone, Garage); the answer's ETag tells all the same.
        if let (Some(wanted), Some(got)) = (if_match, &etag)
            && quoted(wanted) != *got
        {
            return Err(ObjectError::Changed { store: self.name(), key: key.to_owned(), etag: wanted.to_owned() });
        }
        let span = clamp(&self.name, key, range.as_ref(), metadata.content_length())?;

        let (store, name) = (self.name.clone(), key.to_owned());
        let chunks = stream.map(move |chunk| match chunk {
            Ok(buffer) => Ok(buffer.to_bytes()),
            Err(error) => Err(translate(&store, Op::Get, &name, &error)),
        });
        let len = span.end - span.start;
        let mut body = ObjectBody::from_stream(object_name(key, &self.name), len, chunks);
        body.object_len = Some(metadata.content_length());
        body.etag = etag;
        if len == metadata.content_length() {
            body.crc32c = recorded_crc(&metadata);
        }
        Ok(body)
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        check_key(key)?;
        let checksum = crc32c(&data).to_string();
        let mut write = self.operator.write_with(key, Buffer::from(data));
        if self.checksums == Checksums::Attach {
            write = write.user_metadata([(CRC_KEY.to_owned(), checksum)]);
        }
        write.await.map(|_| ()).map_err(self.failed(Op::Put, key))
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        check_key(key)?;
        let metadata = self.operator.stat(key).await.map_err(self.failed(Op::Head, key))?;
        Ok(object_meta(&metadata))
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        check_key(key)?;
        match self.operator.delete(key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(self.failed(Op::Delete, key)),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        check_prefix(prefix)?;
        let failed = self.failed(Op::List, prefix);
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let mut lister = self.operator.lister_with(prefix).recursive(true).limit(limit.min(LIST_PAGE));
        if let Some(after) = after {
            lister = lister.start_after(after);
        }
        let mut lister = lister.await.map_err(&failed)?;
        while let Some(entry) = lister.try_next().await.map_err(&failed)? {
            let (key, metadata) = entry.into_parts();
            let repeated = after.is_some_and(|after| key.as_str() <= after);
            if metadata.mode() != EntryMode::FILE || repeated || check_key(&key).is_err() {
                continue;
            }
            found.push(ObjectEntry { key, meta: object_meta(&metadata) });
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

fn object_meta(metadata: &Metadata) -> ObjectMeta {
    ObjectMeta {
        len: metadata.content_length(),
        etag: metadata.etag().map(quoted),
        modified: metadata.last_modified().map(SystemTime::from),
    }
}

/// An ETag with its quotes: some servers leave them out in lists.
fn quoted(etag: &str) -> String {
    if etag.starts_with(['"', 'W']) { etag.to_owned() } else { format!("\"{etag}\"") }
}

/// The checksum in an answer's metadata; one that is not a decimal number counts as absent, as in JuiceFS.
fn recorded_crc(metadata: &Metadata) -> Option<u32> {
    let mut pairs = metadata.user_metadata()?.into_iter();
    pairs.find(|(name, _)| name.eq_ignore_ascii_case(CRC_KEY)).and_then(|(_, value)| value.parse().ok())
}

/// The library's error in our words; see the table in the tests.
fn translate(store: &str, op: Op, key: &str, error: &opendal::Error) -> ObjectError {
    let (code, reason) = reason(error);
    let retry_after = retry_after(error);
    let (store, key) = (store.to_owned(), key.to_owned());
    match (error.kind(), code) {
        (_, "NoSuchBucket") => ObjectError::NoBucket { store },
        (_, "QuotaExceeded" | "XMinioStorageFull" | "EntityTooLarge" | "InsufficientStorage") => {
            ObjectError::Full { store, key, reason }
        }
        (_, "ExpiredToken" | "InvalidToken" | "AuthorizationHeaderMalformed" | "RequestTimeTooSkewed") => {
            ObjectError::Denied { store, op, key, reason }
        }
        (ErrorKind::NotFound, _) => ObjectError::NotFound { store, key },
        (ErrorKind::PermissionDenied, _) => ObjectError::Denied { store, op, key, reason },
        (ErrorKind::RateLimited, _) => ObjectError::Unavailable { store, op, key, reason, retry_after },
        (ErrorKind::Conflict, _) if error.is_temporary() => {
            ObjectError::Unavailable { store, op, key, reason, retry_after }
        }
        (ErrorKind::Unexpected, _) if error.to_string().contains(RANGE_CHECK) => {
            ObjectError::Protocol { store, op, key, reason }
        }
        // The chain of environment, profile files and instance metadata ended without an answer.
        (ErrorKind::Unexpected, _) if error.to_string().contains("reqsign") => {
            let reason = format!("{reason} (no key in the setting, the environment, a profile or the instance)");
            ObjectError::Denied { store, op, key, reason }
        }
        (ErrorKind::Unexpected, _) if error.is_temporary() => {
            ObjectError::Unavailable { store, op, key, reason, retry_after }
        }
        // A body the library counted short of its range: the connection broke off.
        (ErrorKind::Unexpected, _) if error.message().contains("too little data") => {
            ObjectError::Unavailable { store, op, key, reason, retry_after }
        }
        _ => ObjectError::Rejected { store, op, key, reason },
    }
}

/// S3's error code, empty where there is none, and a reason a person can read: S3's message, else the root cause.
fn reason(error: &opendal::Error) -> (&str, String) {
    // The library puts the parsed XML answer into its message in Rust's debug form.
    let message = error.message();
    if let Some(code) = quoted_field(message, "code") {
        let words = quoted_field(message, "message").unwrap_or_default();
        let reason = if words.is_empty() { code.to_owned() } else { format!("{code}: {words}") };
        return (code, reason);
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let root = if error.source().is_some() { format!("{message}: {cause}") } else { message.to_owned() };
    // HEAD answers have no body to take words from.
    let reason = if root.trim().is_empty() { format!("{:?} without a message", error.kind()) } else { root };
    ("", reason)
}

/// `Retry-After` of the answer, in seconds; the library keeps the answer's headers in the error's context, as Rust prints them. A
/// date in their place, which no object store sends, is not read.
fn retry_after(error: &opendal::Error) -> Option<Duration> {
    const NAME: &str = "\"retry-after\": \"";
    let text = error.to_string();
    let seconds = text.split_once(NAME)?.1.split('"').next()?;
    Some(Duration::from_secs(seconds.trim().parse().ok()?))
}

/// The value of `name: "..."` in a debug-printed struct, up to the next quote.
fn quoted_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let text = text.strip_prefix("S3Error ")?;
    let at = text.find(&format!("{name}: \""))? + name.len() + 3;
    text[at..].split('"').next().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use opendal::Error;
    use shoal_types::ErrorKind as Kind;

    use super::*;

    fn s3(kind: ErrorKind, code: &str) -> Error {
        let text = format!("S3Error {{ code: \"{code}\", message: \"the words\", resource: \"\", request_id: \"7\" }}");
        Error::new(kind, text)
    }

    #[test]
    fn every_answer_has_its_kind() {
        let rows = [
            (s3(ErrorKind::NotFound, "NoSuchKey"), Kind::NotFound),
            (s3(ErrorKind::ConfigInvalid, "NoSuchBucket"), Kind::NotFound),
            (s3(ErrorKind::PermissionDenied, "SignatureDoesNotMatch"), Kind::Denied),
            (s3(ErrorKind::PermissionDenied, "InvalidAccessKeyId"), Kind::Denied),
            (s3(ErrorKind::Unexpected, "ExpiredToken"), Kind::Denied),
            (s3(ErrorKind::RateLimited, "SlowDown").set_temporary(), Kind::Unavailable),
            (s3(ErrorKind::Unexpected, "InternalError").set_temporary(), Kind::Unavailable),
            (s3(ErrorKind::Conflict, "OperationAborted").set_temporary(), Kind::Unavailable),
            (s3(ErrorKind::Unexpected, "XMinioStorageFull"), Kind::NoSpace),
            (s3(ErrorKind::Unexpected, "InvalidArgument"), Kind::Invalid),
            (Error::new(ErrorKind::PermissionDenied, ""), Kind::Denied),
            (Error::new(ErrorKind::Unexpected, "send http request").set_temporary(), Kind::Unavailable),
            (Error::new(ErrorKind::Unexpected, "reader got too little data"), Kind::Unavailable),
            (Error::new(ErrorKind::Unexpected, "x").with_operation(RANGE_CHECK), Kind::Corrupt),
            (Error::new(ErrorKind::Unexpected, "signing http request").with_operation("reqsign::Sign"), Kind::Denied),
        ];
        for (error, kind) in rows {
            let got = translate("s", Op::Get, "k", &error);
            assert_eq!(got.kind(), kind, "{error} became {got}");
        }
    }

    #[test]
    fn the_reason_is_the_servers_words_or_the_root_cause() {
        assert_eq!(reason(&s3(ErrorKind::RateLimited, "SlowDown")), ("SlowDown", "SlowDown: the words".to_owned()));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Error::new(ErrorKind::Unexpected, "send http request").set_source(refused);
        assert_eq!(reason(&error).1, "send http request: connection refused");
        assert!(!reason(&Error::new(ErrorKind::PermissionDenied, "")).1.is_empty());
    }
}
