//! Decorator: counts and times every request that goes out, repetitions included: what the store's owner is billed for.
//!
//! A GET's outcome is known when its body ends: `ok`, the kind of its error, or `cancelled` for a body dropped early.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use shoal_runtime::clock;
use shoal_types::ErrorKind;

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore, Op, metrics::ObjectMetrics};

/// See the module.
#[derive(Debug)]
pub(crate) struct MeasureStore {
    inner: Arc<dyn ObjectStore>,
    metrics: Arc<ObjectMetrics>,
}

impl MeasureStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, metrics: Arc<ObjectMetrics>) -> MeasureStore {
        MeasureStore { inner, metrics }
    }

    async fn measured<T>(
        &self,
        op: Op,
        request: impl Future<Output = Result<T, ObjectError>>,
    ) -> Result<T, ObjectError> {
        let (answer, _) = self.timed(op, request).await;
        answer
    }

    /// The answer, and the record that is still to be closed where the answer has a body.
    async fn timed<T>(
        &self,
        op: Op,
        request: impl Future<Output = Result<T, ObjectError>>,
    ) -> (Result<T, ObjectError>, Record) {
        let mut record = Record { metrics: self.metrics.clone(), op, outcome: Err(ErrorKind::Cancelled) };
        let start = clock::now();
        let answer = request.await;
        self.metrics.duration(op, start.elapsed());
        record.ends(answer.as_ref().map(|_| ()).map_err(ObjectError::kind));
        (answer, record)
    }
}

/// Counts its request when dropped, so that no way out of a request is missed.
struct Record {
    metrics: Arc<ObjectMetrics>,
    op: Op,
    outcome: Result<(), ErrorKind>,
}

impl Record {
    /// What to count, unless something later says otherwise.
    fn ends(&mut self, outcome: Result<(), ErrorKind>) {
        self.outcome = outcome;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.metrics.request(self.op, self.outcome);
    }
}

#[async_trait]
impl ObjectStore for MeasureStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let (answer, mut record) = self.timed(Op::Get, self.inner.get(key, range, if_match)).await;
        let body = answer?;
        if body.len > 0 {
            record.ends(Err(ErrorKind::Cancelled));
        }
        let left = body.len;
        Ok(body.layered(move |body| {
            stream::try_unfold((body, record, left), |(mut body, mut record, left)| async move {
                match body.next().await {
                    Ok(Some(chunk)) => {
                        let len = chunk.len() as u64;
                        record.metrics.read(len);
                        if len == left {
                            record.ends(Ok(()));
                        }
                        Ok(Some((chunk, (body, record, left.saturating_sub(len)))))
                    }
                    Ok(None) => Ok(None),
                    Err(error) => {
                        record.ends(Err(error.kind()));
                        Err(error)
                    }
                }
            })
        }))
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        let len = data.len() as u64;
        let answer = self.measured(Op::Put, self.inner.put(key, data)).await;
        if answer.is_ok() {
            self.metrics.written(len);
        }
        answer
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        self.inner.sync().await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.measured(Op::Head, self.inner.head(key)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.measured(Op::Delete, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        self.measured(Op::List, self.inner.list(prefix, after, limit)).await
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}
