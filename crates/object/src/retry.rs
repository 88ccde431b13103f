//! Decorator: repeats what failed as `Unavailable` or `Timeout`, after growing, jittered pauses; resumes broken bodies.
//!
//! A body that breaks after n bytes goes on with a GET of the bytes from n under `If-Match`, so the two halves are of one
//! object; where the store gave no strong ETag, a body of which bytes were handed out is not resumed but fails. Every
//! repetition counts against one budget per call. Puts and deletes are repeated too: objects are immutable under their
//! keys, so a put that took place unseen is only repeated with the same bytes.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use shoal_runtime::{clock, rng};

use crate::{
    Backoff, ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectOptions, ObjectStore, Op, metrics::ObjectMetrics,
};

/// Longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct RetryStore {
    inner: Arc<dyn ObjectStore>,
    metrics: Arc<ObjectMetrics>,
    retries: u32,
    backoff: Backoff,
}

impl RetryStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, options: &ObjectOptions, metrics: Arc<ObjectMetrics>) -> RetryStore {
        RetryStore { inner, metrics, retries: options.retries, backoff: options.backoff.clone() }
    }

    fn patience(&self, op: Op, key: &str) -> Patience {
        Patience {
            op,
            key: key.to_owned(),
            made: 0,
            allowed: self.retries,
            backoff: self.backoff.clone(),
            metrics: self.metrics.clone(),
        }
    }

    async fn repeated<T, F>(&self, op: Op, key: &str, mut request: impl FnMut() -> F) -> Result<T, ObjectError>
    where
        F: Future<Output = Result<T, ObjectError>>,
    {
        let mut patience = self.patience(op, key);
        loop {
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => patience.after(error).await?,
            }
        }
    }
}

/// The repetitions one call has left.
struct Patience {
    op: Op,
    key: String,
    made: u32,
    allowed: u32,
    backoff: Backoff,
    metrics: Arc<ObjectMetrics>,
}

impl Patience {
    /// Waits until the request may be repeated. Errors: `error` itself if repeating is no use or no repetition is left.
    async fn after(&mut self, error: ObjectError) -> Result<(), ObjectError> {
        if !error.is_transient() || self.made == self.allowed {
            return Err(error);
        }
        let pause = rng::jitter(self.backoff.pause(self.made), self.backoff.jitter);
        // A server that says when to come back knows better; within reason, for a program waits.
        let pause = pause.max(error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX));
        self.made += 1;
        self.metrics.retry();
        tracing::debug!(op = %self.op, key = self.key, attempt = self.made, ?pause, %error, "request will be repeated");
        clock::sleep(pause).await;
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for RetryStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let mut patience = self.patience(Op::Get, key);
        let body = loop {
            match self.inner.get(key, range.clone(), if_match).await {
                Ok(body) => break body,
                Err(error) => patience.after(error).await?,
            }
        };
        let start = range.map_or(0, |range| range.start);
        let etag = if_match.map(str::to_owned).or_else(|| body.etag.clone());
        let resume = Resume {
            inner: self.inner.clone(),
            at: start,
            end: start + body.len,
            object_len: body.object_len,
            untouched: true,
            // A weak ETag never satisfies If-Match.
            etag: etag.filter(|etag| !etag.starts_with("W/")),
            patience,
        };
        Ok(body.layered(|body| stream::try_unfold((body, resume), next_chunk)))
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        self.repeated(Op::Put, key, || self.inner.put(key, data.clone())).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        self.inner.sync().await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.repeated(Op::Head, key, || self.inner.head(key)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.repeated(Op::Delete, key, || self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        self.repeated(Op::List, prefix, || self.inner.list(prefix, after, limit)).await
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

/// What it takes to go on with a broken body.
struct Resume {
    inner: Arc<dyn ObjectStore>,
    /// Next byte of the object to deliver, and one past the last.
    at: u64,
    end: u64,
    object_len: Option<u64>,
    /// No byte was handed out yet: starting over is safe even without an ETag.
    untouched: bool,
    etag: Option<String>,
    patience: Patience,
}

type Step = Option<(Bytes, (ObjectBody, Resume))>;

async fn next_chunk((mut body, mut resume): (ObjectBody, Resume)) -> Result<Step, ObjectError> {
    loop {
        match body.next().await {
            Ok(None) => return Ok(None),
            Ok(Some(chunk)) => {
                resume.at += chunk.len() as u64;
                resume.untouched = false;
                return Ok(Some((chunk, (body, resume))));
            }
            Err(error) => {
                // Gives back what the broken body holds before asking for another one.
                drop(body);
                body = resume.reopen(error).await?;
            }
        }
    }
}

impl Resume {
    /// A body of the bytes that are still missing. Errors: `error`, or a later one that is final.
    async fn reopen(&mut self, mut error: ObjectError) -> Result<ObjectBody, ObjectError> {
        if self.etag.is_none() && !self.untouched {
            return Err(error);
        }
        loop {
            self.patience.after(error).await?;
            let range = Some(self.at..self.end);
            match self.inner.get(&self.patience.key, range, self.etag.as_deref()).await {
                Ok(body) if body.len == self.end - self.at && body.object_len == self.object_len => return Ok(body),
                // Only without an ETag: another object took its place.
                Ok(_) => {
                    let etag = self.etag.clone().unwrap_or_else(|| "of a moment ago".to_owned());
                    let (store, key) = (self.inner.name(), self.patience.key.clone());
                    return Err(ObjectError::Changed { store, key, etag });
                }
                Err(next) => error = next,
            }
        }
    }
}
