//! Decorator: a body that stops coming, or comes far slower than this store's bodies usually do, is given up and goes on with
//! another request from the byte reached.
//!
//! A connection in a bad state (a congested path, a server about to fail) often stays in it, while a new one is fine. Given up is:
//!
//! * a body of which nothing came for [`SILENT`];
//! * a body that gave less than [`SLOW_RATE`] and less than an eighth of the usual rate over [`WINDOW`].
//!
//! Both times double with every fourth request for the same body, and after [`REQUESTS_MAX`] of them it is left as it is: where
//! all of a store is slow, a reader waits longer for it but gets there, and soon slow is what is usual. No share bounds these
//! requests, unlike [`crate::hedge`]'s: no byte is asked for twice. Only the reader's waiting is timed. Needs a strong ETag, as
//! every resume does: the halves must be of one object.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use shoal_runtime::{clock, estimate::Estimate};

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore, metrics::ObjectMetrics};

/// Silence after which a body is given up. Working connections pause for some 100 ms.
const SILENT: Duration = Duration::from_secs(1);
/// Time over which the rate of a body is judged. A read may meet two slow ones in a row, and should be served within 2 s.
const WINDOW: Duration = Duration::from_millis(700);
/// A body at this rate and above is never slow, in bytes per second: a 4 MiB block in 16 s.
const SLOW_RATE: f64 = 256.0 * 1024.0;
/// A slow body has less than this share of the usual rate.
const SLOW_SHARE: f64 = 1.0 / 8.0;
/// Further requests for one body, at most. Where every fourth body is slow, one of a thousand meets five in a row, one of 260,000 nine.
const REQUESTS_MAX: u32 = 8;
/// Bodies of fewer bytes say little about a store's rate.
const RATE_BYTES_MIN: u64 = 256 << 10;
/// Bodies seen before their rate is called usual.
const USUAL_MIN: u32 = 8;
/// How often a body that does not come is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(crate) struct PaceStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metrics: Arc<ObjectMetrics>,
    /// Time of a MiB.
    usual: Mutex<Estimate>,
}

impl PaceStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, metrics: Arc<ObjectMetrics>) -> PaceStore {
        PaceStore { inner, shared: Arc::new(Shared { metrics, usual: Mutex::default() }) }
    }
}

#[async_trait]
impl ObjectStore for PaceStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let body = self.inner.get(key, range.clone(), if_match).await?;
        let etag = if_match.map(str::to_owned).or_else(|| body.etag.clone());
        let at = range.map_or(0, |range| range.start);
        let watch = Watch {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            key: key.to_owned(),
            // A weak ETag never satisfies If-Match.
            etag: etag.filter(|etag| !etag.starts_with("W/")),
            at,
            end: at + body.len,
            object_len: body.object_len,
            started: at,
            waited: Duration::ZERO,
            silent: Duration::ZERO,
            window: Window::default(),
            made: 0,
        };
        Ok(body.layered(|body| stream::try_unfold((body, watch), next_chunk)))
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

/// One body and how it fares.
struct Watch {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
    key: String,
    etag: Option<String>,
    /// Next byte of the object to deliver, and one past the last.
    at: u64,
    end: u64,
    object_len: Option<u64>,
    /// Where the request under way began, and how long its bytes were waited for.
    started: u64,
    waited: Duration,
    /// How long nothing has come.
    silent: Duration,
    window: Window,
    /// Further requests made.
    made: u32,
}

/// The last stretch of a body.
#[derive(Default)]
struct Window {
    bytes: u64,
    waited: Duration,
    /// The stretch before it was slow.
    slow: bool,
}

type Step = Option<(Bytes, (ObjectBody, Watch))>;

async fn next_chunk((mut body, mut watch): (ObjectBody, Watch)) -> Result<Step, ObjectError> {
    loop {
        if watch.is_lost() {
            // Gives back what it holds before another request is sent.
            drop(body);
            body = watch.reopen().await?;
        }
        let asked = clock::now();
        let next = clock::timeout(LOOK, body.next()).await;
        watch.waits(clock::now().saturating_duration_since(asked));
        match next {
            Ok(Ok(Some(chunk))) => {
                watch.gives(chunk.len() as u64);
                return Ok(Some((chunk, (body, watch))));
            }
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}

impl Watch {
    fn waits(&mut self, time: Duration) {
        self.waited += time;
        self.silent += time;
        self.window.waited += time;
        if self.window.waited >= self.patience(WINDOW) {
            let rate = self.window.bytes as f64 / self.window.waited.as_secs_f64();
            let usual = self.shared.usual.lock().mean(USUAL_MIN);
            let usual = usual.map_or(0.0, |mib| f64::from(1 << 20) / mib.as_secs_f64().max(1e-6));
            let slow = rate < SLOW_RATE && rate < usual * SLOW_SHARE;
            self.window = Window { slow, ..Window::default() };
        }
    }

    fn gives(&mut self, bytes: u64) {
        self.at += bytes;
        self.silent = Duration::ZERO;
        self.window.bytes += bytes;
        let given = self.at - self.started;
        if self.at == self.end && given >= RATE_BYTES_MIN {
            self.shared.usual.lock().learn(self.waited.mul_f64(f64::from(1 << 20) / given as f64));
        }
    }

    fn patience(&self, first: Duration) -> Duration {
        first * 2u32.pow(self.made.min(REQUESTS_MAX) / 4)
    }

    /// Whether to give the body up.
    fn is_lost(&mut self) -> bool {
        if self.etag.is_none() || self.made >= REQUESTS_MAX || self.at == self.end {
            return false;
        }
        std::mem::take(&mut self.window.slow) || self.silent >= self.patience(SILENT)
    }

    /// A body of the bytes that are missing. Errors: also `Conflict` if the object is another one by now.
    async fn reopen(&mut self) -> Result<ObjectBody, ObjectError> {
        self.made += 1;
        self.shared.metrics.abandoned();
        tracing::debug!(key = self.key, at = self.at, request = self.made, "a body is too slow; asking for its rest");
        (self.started, self.waited, self.silent) = (self.at, Duration::ZERO, Duration::ZERO);
        self.window = Window::default();
        let body = self.inner.get(&self.key, Some(self.at..self.end), self.etag.as_deref()).await?;
        if body.len == self.end - self.at && body.object_len == self.object_len {
            return Ok(body);
        }
        let etag = self.etag.clone().unwrap_or_default();
        Err(ObjectError::Changed { store: self.inner.name(), key: self.key.clone(), etag })
    }
}
