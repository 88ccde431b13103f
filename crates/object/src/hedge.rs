//! Decorator: a GET whose answer does not begin is sent again, and the first answer counts.
//!
//! An answer is late after what 99 of 100 of this store take ([`Estimate`]), within bounds, and a further request is sent if the
//! store's share of them allows; if not, only after a time in which every working store answers. Each further one waits twice as
//! long as the one before, up to a bound, so a store that is slow as a whole, whose time is learned meanwhile, is not asked ever
//! more, and one that was silent for a while and lost what it was asked then is asked again. Heads only: what a body does is
//! [`crate::pace`]'s.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, select_all};
use parking_lot::Mutex;
use shoal_runtime::{clock, estimate::Estimate};

use crate::{
    ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectOptions, ObjectStore, Op, extra::Extra,
    metrics::ObjectMetrics,
};

/// Least time before an answer is late: far stores take 100 ms, and a store's hiccup is cheaper than a request.
const LATE_MIN: Duration = Duration::from_millis(250);
/// Most time, however slow the store usually is.
const LATE_MAX: Duration = Duration::from_secs(10);
/// Time before an answer is late while the store is unknown.
const LATE_UNKNOWN: Duration = Duration::from_secs(1);
/// Time before a further request is sent that no share allows; at least twice the time that is late.
const HUNG: Duration = Duration::from_secs(2);
/// Longest pause between requests for one answer, or twice the time that is late if that is more.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Requests for one answer at once: the first, which a store that is slow as a whole answers in the end, and the newest.
const AT_ONCE: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct HedgeStore {
    inner: Arc<dyn ObjectStore>,
    metrics: Arc<ObjectMetrics>,
    extra: Extra,
    heads: Mutex<Estimate>,
    /// Longest wait for an answer to begin, all its requests together.
    patience: Duration,
}

impl HedgeStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, options: &ObjectOptions, metrics: Arc<ObjectMetrics>) -> HedgeStore {
        HedgeStore { inner, metrics, extra: Extra::default(), heads: Mutex::default(), patience: options.get_timeout }
    }

    fn late(&self) -> Duration {
        self.heads.lock().bound().map_or(LATE_UNKNOWN, |bound| bound.clamp(LATE_MIN, LATE_MAX))
    }

    /// Waits until a further request is to be sent, which is the `sent`th one's successor.
    async fn turn(&self, sent: u32, late: Duration) {
        if sent == 1 {
            clock::sleep(late).await;
            if self.extra.take() {
                return;
            }
            return clock::sleep(HUNG.max(2 * late) - late).await;
        }
        clock::sleep((HUNG.max(2 * late) * 2u32.pow((sent - 2).min(8))).min(PAUSE_MAX.max(2 * late))).await;
    }

    async fn answer(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        self.extra.earn();
        let send = || -> Sent<'_> {
            let (asked, request) = (clock::now(), self.inner.get(key, range.clone(), if_match));
            Box::pin(async move {
                let answer = request.await;
                (clock::now().saturating_duration_since(asked), answer)
            })
        };
        let late = self.late();
        let mut under_way = vec![send()];
        let mut sent = 1;
        let mut turn = std::pin::pin!(self.turn(sent, late));
        loop {
            let first = select_all(under_way.iter_mut());
            let (answer, i) = tokio::select! {
                biased;
                ((took, answer), i, _) = first => {
                    self.heads.lock().learn(took);
                    (answer, i)
                }
                () = turn.as_mut() => {
                    tracing::debug!(key, sent, ?late, "an answer is late; asking once more");
                    self.metrics.hedge();
                    under_way.truncate(AT_ONCE - 1);
                    under_way.push(send());
                    sent += 1;
                    turn.set(self.turn(sent, late));
                    continue;
                }
            };
            drop(under_way.remove(i));
            match answer {
                // The other one may still do better.
                Err(error) if error.is_transient() && !under_way.is_empty() => {
                    tracing::debug!(key, %error, "one of two requests failed");
                }
                answer => return answer,
            }
        }
    }
}

/// One request under way; gives how long it took with its answer. One that is given up teaches nothing: what is late would be
/// late ever later.
type Sent<'a> = BoxFuture<'a, (Duration, Result<ObjectBody, ObjectError>)>;

#[async_trait]
impl ObjectStore for HedgeStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let answer = clock::timeout(self.patience, self.answer(key, range, if_match)).await;
        answer.unwrap_or_else(|_| {
            let (store, key, after) = (self.name(), key.to_owned(), self.patience);
            Err(ObjectError::Timeout { store, op: Op::Get, key, after, phase: "an answer" })
        })
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
