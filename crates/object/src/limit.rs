//! Decorator: at most so many requests in flight, reads apart from writes, so that a burst waits here and not in
//! thousands of sockets. A GET counts until its body has been read or dropped. Waiters are served in order.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore};

/// See the module.
#[derive(Debug)]
pub(crate) struct LimitStore {
    inner: Arc<dyn ObjectStore>,
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
}

impl LimitStore {
    /// At most `max_concurrent` (at least 1) reads and as many writes.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, max_concurrent: usize) -> LimitStore {
        let permits = max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        LimitStore { inner, reads: Arc::new(Semaphore::new(permits)), writes: Arc::new(Semaphore::new(permits)) }
    }
}

async fn permit(queue: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    queue.clone().acquire_owned().await.expect("the semaphore is never closed")
}

#[async_trait]
impl ObjectStore for LimitStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let permit = permit(&self.reads).await;
        let body = self.inner.get(key, range, if_match).await?;
        Ok(body.layered(move |body| {
            stream::try_unfold((body, permit), |(mut body, permit)| async move {
                Ok(body.next().await?.map(|chunk| (chunk, (body, permit))))
            })
        }))
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        let _permit = permit(&self.writes).await;
        self.inner.put(key, data).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        self.inner.sync().await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        let _permit = permit(&self.reads).await;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let _permit = permit(&self.writes).await;
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        let _permit = permit(&self.reads).await;
        self.inner.list(prefix, after, limit).await
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}
