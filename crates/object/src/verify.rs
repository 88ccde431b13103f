//! Decorator: checks whole objects against the CRC-32C their writer recorded (volume format 3.5).
//!
//! Outermost, above the resuming of bodies, so that the bytes of all attempts are under one checksum. The last chunk is
//! held back until the checksum matches: a reader never holds all bytes of a wrong object. Ranges and objects without a
//! checksum pass unchecked. Costs 0.02 CPU-s/GB and no request.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use shoal_types::checksum::Crc32c;

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore};

/// See the module.
#[derive(Debug)]
pub(crate) struct VerifyStore {
    inner: Arc<dyn ObjectStore>,
}

impl VerifyStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> VerifyStore {
        VerifyStore { inner }
    }
}

/// The body that compares itself with `stored` before its last chunk is out.
fn verified(body: ObjectBody, stored: u32) -> Result<ObjectBody, ObjectError> {
    let left = body.len;
    let computed = Crc32c::new().value();
    if left == 0 && computed != stored {
        // An object cut to nothing has no chunk to be found out by.
        return Err(ObjectError::Checksum { object: body.object().to_owned(), stored, computed });
    }
    Ok(body.layered(move |body| {
        stream::try_unfold((body, Crc32c::new(), left), move |(mut body, mut crc, left)| async move {
            let Some(chunk) = body.next().await? else {
                return Ok(None);
            };
            crc.update(&chunk);
            let left = left.saturating_sub(chunk.len() as u64);
            let computed = crc.value();
            if left == 0 && computed != stored {
                return Err(ObjectError::Checksum { object: body.object().to_owned(), stored, computed });
            }
            Ok(Some((chunk, (body, crc, left))))
        })
    }))
}

#[async_trait]
impl ObjectStore for VerifyStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let body = self.inner.get(key, range, if_match).await?;
        match body.crc32c {
            Some(stored) if body.object_len == Some(body.len) => verified(body, stored),
            _ => Ok(body),
        }
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        self.inner.put(key, data).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        self.inner.sync().await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        self.inner.list(prefix, after, limit).await
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}
