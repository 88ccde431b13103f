//! Decorator: no more bytes a second than asked for, those sent apart from those received.
//!
//! Outermost, so that no timeout and no judgement of a slow body counts the waiting. Whoever comes reserves its bytes at once and
//! waits for its turn: nobody starves, and what was given up is not given back.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use shoal_runtime::clock;

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore};

/// See the module.
#[derive(Debug)]
pub(crate) struct RateStore {
    inner: Arc<dyn ObjectStore>,
    sent: Rate,
    received: Arc<Rate>,
}

/// Bytes a second; 0 for no bound.
#[derive(Debug)]
struct Rate {
    bytes_per_s: u64,
    /// When all bytes reserved so far have passed.
    free_at: Mutex<Option<Instant>>,
}

impl RateStore {
    /// At most so many bytes a second, each 0 for no bound.
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, sent: u64, received: u64) -> RateStore {
        RateStore { inner, sent: Rate::new(sent), received: Arc::new(Rate::new(received)) }
    }
}

impl Rate {
    fn new(bytes_per_s: u64) -> Rate {
        Rate { bytes_per_s, free_at: Mutex::new(None) }
    }

    /// Waits until `bytes` more may have passed.
    async fn pass(&self, bytes: u64) {
        if self.bytes_per_s == 0 {
            return;
        }
        let until = {
            let mut free_at = self.free_at.lock();
            let now = clock::now();
            let from = free_at.map_or(now, |at| at.max(now));
            let until = from + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
            *free_at = Some(until);
            until
        };
        clock::sleep(until.saturating_duration_since(clock::now())).await;
    }
}

#[async_trait]
impl ObjectStore for RateStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let body = self.inner.get(key, range, if_match).await?;
        if self.received.bytes_per_s == 0 {
            return Ok(body);
        }
        let rate = Arc::clone(&self.received);
        Ok(body.layered(move |body| {
            stream::try_unfold((body, rate), |(mut body, rate)| async move {
                let Some(chunk) = body.next().await? else { return Ok(None) };
                rate.pass(chunk.len() as u64).await;
                Ok(Some((chunk, (body, rate))))
            })
        }))
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        self.sent.pass(data.len() as u64).await;
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

#[cfg(test)]
mod tests {
    use crate::memory;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_asked_for() {
        let store = RateStore::new(memory::memory(), 1000, 500);
        let began = clock::now();
        for n in 0..4 {
            store.put(&format!("k{n}"), Bytes::from(vec![1; 500])).await.unwrap();
        }
        assert_eq!((clock::now() - began).as_secs(), 2, "2,000 bytes at 1,000 a second");
        let mut body = store.get("k1", None, None).await.unwrap();
        while body.next().await.unwrap().is_some() {}
        assert_eq!((clock::now() - began).as_secs(), 3, "500 at 500 a second");
        let free = RateStore::new(memory::memory(), 0, 0);
        free.put("k", Bytes::from(vec![1; 5000])).await.unwrap();
        assert_eq!((clock::now() - began).as_secs(), 3);
    }
}
