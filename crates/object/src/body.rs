//! The bytes of one GET, as a stream that keeps its promise: exactly `len` bytes, or an error.
//!
//! Every store and decorator hands out this one type, so a truncated body cannot pass as short data anywhere above.

use std::{fmt, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};

use crate::ObjectError;

/// No chunk handed out is larger; larger ones of a store are cut without copying. 1 MiB is what a FUSE request and
/// a few network frames hold, and bounds what one reader of a body keeps alive at a time.
pub const MAX_CHUNK_BYTES: usize = 1 << 20;

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, ObjectError>> + Send>>;

/// The bytes an object store delivers for one GET.
///
/// Dropping it early ends the request and is never an error.
pub struct ObjectBody {
    /// Bytes this body will deliver; [`next`](ObjectBody::next) fails rather than deliver fewer or more.
    pub len: u64,
    /// Length of the whole object, where the store said it.
    pub object_len: Option<u64>,
    /// The object's ETag, as the store spells it (with quotes), where it has one.
    pub etag: Option<String>,
    /// CRC-32C of the whole object as its writer recorded it (volume format 3.5); set only on bodies that are whole.
    pub crc32c: Option<u32>,
    /// Key and store, for messages.
    object: String,
    chunks: Option<Chunks>,
    /// Rest of a chunk that was larger than [`MAX_CHUNK_BYTES`].
    rest: Bytes,
    /// Bytes taken from `chunks`, those in `rest` included.
    taken: u64,
}

impl ObjectBody {
    /// A body of `len` bytes made of `chunks`; `object` names it in messages ("object `k` in ...").
    pub fn from_stream(
        object: impl Into<String>,
        len: u64,
        chunks: impl Stream<Item = Result<Bytes, ObjectError>> + Send + 'static,
    ) -> ObjectBody {
        ObjectBody {
            len,
            object_len: None,
            etag: None,
            crc32c: None,
            object: object.into(),
            chunks: Some(Box::pin(chunks)),
            rest: Bytes::new(),
            taken: 0,
        }
    }

    /// A body that is already in memory.
    pub fn from_bytes(object: impl Into<String>, bytes: Bytes) -> ObjectBody {
        let len = bytes.len() as u64;
        ObjectBody::from_stream(object, len, futures::stream::iter([Ok(bytes)]))
    }

    /// The same body with its chunks passed through a decorator: `wrap` gets the inner body and yields the new chunks.
    pub fn layered<S>(self, wrap: impl FnOnce(ObjectBody) -> S) -> ObjectBody
    where
        S: Stream<Item = Result<Bytes, ObjectError>> + Send + 'static,
    {
        let (len, object_len, crc32c) = (self.len, self.object_len, self.crc32c);
        let (etag, object) = (self.etag.clone(), self.object.clone());
        let outer = ObjectBody::from_stream(object, len, wrap(self));
        ObjectBody { object_len, etag, crc32c, ..outer }
    }

    /// Key and store, for messages.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The next bytes: never empty, at most [`MAX_CHUNK_BYTES`]; `None` once all `len` bytes were delivered.
    ///
    /// Errors: those of the store; `Unavailable` if the body ends early, also on every call after an error.
    /// Cancel-safe: a dropped future loses no bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        loop {
            if !self.rest.is_empty() {
                let cut = self.rest.len().min(MAX_CHUNK_BYTES);
                return Ok(Some(self.rest.split_to(cut)));
            }
            if self.taken == self.len {
                self.chunks = None;
                return Ok(None);
            }
            let Some(chunks) = self.chunks.as_mut() else {
                return Err(self.short());
            };
            match chunks.next().await {
                Some(Ok(chunk)) => self.take(chunk)?,
                Some(Err(error)) => {
                    self.chunks = None;
                    return Err(error);
                }
                None => {
                    self.chunks = None;
                    return Err(self.short());
                }
            }
        }
    }

    /// All the bytes in one piece; copies only where the body came in several chunks.
    ///
    /// Errors: `Invalid` without reading anything if the body has more than `max` bytes; those of
    /// [`next`](ObjectBody::next).
    pub async fn collect(mut self, max: usize) -> Result<Bytes, ObjectError> {
        let len = match usize::try_from(self.len) {
            Ok(len) if len <= max => len,
            _ => return Err(ObjectError::TooLarge { object: self.object, len: self.len, max: max as u64 }),
        };
        let Some(first) = self.next().await? else {
            return Ok(Bytes::new());
        };
        if first.len() == len {
            return Ok(first);
        }
        // The promised length comes from a server: reserve what is plausible at once, and grow for the rest.
        let mut all = BytesMut::with_capacity(len.min(64 * MAX_CHUNK_BYTES));
        all.extend_from_slice(&first);
        while let Some(chunk) = self.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    fn take(&mut self, chunk: Bytes) -> Result<(), ObjectError> {
        self.taken += chunk.len() as u64;
        if self.taken > self.len {
            // Falls back to "ended early" on later calls.
            self.taken -= chunk.len() as u64;
            self.chunks = None;
            return Err(ObjectError::Long { object: self.object.clone(), expected: self.len });
        }
        if self.taken == self.len {
            // Nothing more is wanted: permits and timers held by the stream go back now.
            self.chunks = None;
        }
        self.rest = chunk;
        Ok(())
    }

    fn short(&self) -> ObjectError {
        ObjectError::Short { object: self.object.clone(), expected: self.len, got: self.taken }
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBody")
            .field("object", &self.object)
            .field("len", &self.len)
            .field("object_len", &self.object_len)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use shoal_types::ErrorKind;

    use super::*;

    fn body(len: u64, chunks: Vec<&'static [u8]>) -> ObjectBody {
        ObjectBody::from_stream("object `k`", len, stream::iter(chunks.into_iter().map(|c| Ok(Bytes::from_static(c)))))
    }

    #[tokio::test]
    async fn delivers_exactly_the_promised_bytes() {
        let mut b = body(5, vec![b"ab", b"", b"cde"]);
        assert_eq!(b.next().await.unwrap().unwrap(), "ab");
        assert_eq!(b.next().await.unwrap().unwrap(), "cde");
        assert!(b.next().await.unwrap().is_none());
        assert!(b.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn an_early_end_is_an_error_and_stays_one() {
        let mut b = body(5, vec![b"ab"]);
        assert_eq!(b.next().await.unwrap().unwrap(), "ab");
        for _ in 0..2 {
            assert_eq!(b.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }

    #[tokio::test]
    async fn too_many_bytes_are_an_error_and_are_not_delivered() {
        let mut b = body(3, vec![b"abcd"]);
        assert_eq!(b.next().await.unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(b.next().await.is_err());
    }

    #[tokio::test]
    async fn a_failed_body_never_ends_well() {
        let failing = stream::iter([
            Ok(Bytes::from_static(b"a")),
            Err(ObjectError::Key { key: "k".into(), why: "test" }),
            Ok(Bytes::from_static(b"bc")),
        ]);
        let mut b = ObjectBody::from_stream("o", 3, failing);
        assert!(b.next().await.is_ok());
        assert_eq!(b.next().await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(b.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn large_chunks_are_cut_without_copying() {
        let big = Bytes::from(vec![7u8; MAX_CHUNK_BYTES * 2 + 1]);
        let start = big.as_ptr();
        let mut b = ObjectBody::from_bytes("o", big.clone());
        let first = b.next().await.unwrap().unwrap();
        assert_eq!((first.len(), first.as_ptr()), (MAX_CHUNK_BYTES, start));
        assert_eq!(b.next().await.unwrap().unwrap().len(), MAX_CHUNK_BYTES);
        assert_eq!(b.next().await.unwrap().unwrap().len(), 1);
        assert!(b.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn collect_refuses_before_reading_and_joins_otherwise() {
        assert_eq!(body(5, vec![b"abcde"]).collect(4).await.unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(body(5, vec![b"abc", b"de"]).collect(5).await.unwrap(), "abcde");
        assert_eq!(body(0, vec![]).collect(0).await.unwrap(), "");
    }
}
