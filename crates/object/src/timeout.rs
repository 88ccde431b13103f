//! Decorator: no attempt waits for ever. Time until the head of an answer, and time between chunks of its body.
//!
//! Only waiting is timed: a reader that takes its time between chunks costs the store nothing here. A request that timed
//! out is dropped, which closes its connection.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use shoal_runtime::clock;

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectOptions, ObjectStore, Op};

/// See the module.
#[derive(Debug)]
pub(crate) struct TimeoutStore {
    inner: Arc<dyn ObjectStore>,
    get: Duration,
    put: Duration,
    idle: Duration,
}

impl TimeoutStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, options: &ObjectOptions) -> TimeoutStore {
        TimeoutStore { inner, get: options.get_timeout, put: options.put_timeout, idle: options.idle_timeout }
    }

    async fn within<T>(
        &self,
        op: Op,
        key: &str,
        after: Duration,
        request: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        match clock::timeout(after, request).await {
            Ok(answer) => answer,
            Err(_) => {
                let phase = if op == Op::Put { "its end" } else { "an answer" };
                Err(ObjectError::Timeout { store: self.name(), op, key: key.to_owned(), after, phase })
            }
        }
    }
}

#[async_trait]
impl ObjectStore for TimeoutStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let body = self.within(Op::Get, key, self.get, self.inner.get(key, range, if_match)).await?;
        let (after, store, key) = (self.idle, self.name(), key.to_owned());
        Ok(body.layered(move |body| {
            stream::try_unfold((body, store, key), move |(mut body, store, key)| async move {
                match clock::timeout(after, body.next()).await {
                    Ok(chunk) => Ok(chunk?.map(|chunk| (chunk, (body, store, key)))),
                    Err(_) => Err(ObjectError::Timeout { store, op: Op::Get, key, after, phase: "the next bytes" }),
                }
            })
        }))
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        self.within(Op::Put, key, self.put, self.inner.put(key, data)).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        self.inner.sync().await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.within(Op::Head, key, self.get, self.inner.head(key)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.within(Op::Delete, key, self.get, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        self.within(Op::List, prefix, self.get, self.inner.list(prefix, after, limit)).await
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}
