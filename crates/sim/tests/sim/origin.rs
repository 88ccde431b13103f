//! The object store behind everything: answers after a while, counts, and fails when told to.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use parking_lot::Mutex;
use shoal_object::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectOptions, ObjectStore, Op, decorate};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, rng};

use crate::blocks;
use crate::ledger::{Caller, Get, Ledger};

/// First byte of a healthy origin, at least; up to three times as long.
const FIRST_BYTE: Duration = Duration::from_millis(20);
/// Bytes that come together.
const PIECE: usize = 64 << 10;
/// Time between two pieces: 128 MB/s.
const PIECE_EVERY: Duration = Duration::from_micros(500);

/// How an origin treats requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Everything takes this much longer.
    Slow(Duration),
    /// So many of a hundred requests fail, and as many bodies break off.
    Failing(u64),
    /// Takes requests and says nothing.
    Hung,
}

/// An object store; clones are the same.
#[derive(Clone)]
pub struct Origin {
    mood: Arc<Mutex<Mood>>,
    ledger: Ledger,
}

impl Origin {
    pub fn new(ledger: Ledger) -> Origin {
        Origin { mood: Arc::new(Mutex::new(Mood::Well)), ledger }
    }

    pub fn turns(&self, mood: Mood) {
        *self.mood.lock() = mood;
        self.ledger.origin_is_well(mood == Mood::Well || matches!(mood, Mood::Slow(_)));
    }

    /// The store as `caller` reaches it, with the retries and timeouts of a real one.
    pub fn for_caller(&self, caller: Caller, registry: &Registry) -> Arc<dyn ObjectStore> {
        let store = Arc::new(Access { origin: self.clone(), caller });
        decorate(store, &ObjectOptions::default(), registry)
    }
}

/// An origin that nobody reaches.
impl Origin {
    pub fn shut(&self, registry: &Registry) -> Arc<dyn ObjectStore> {
        let origin = Origin { mood: Arc::new(Mutex::new(Mood::Failing(100))), ledger: Ledger::new() };
        let options = ObjectOptions { retries: 0, ..ObjectOptions::default() };
        decorate(Arc::new(Access { origin, caller: Caller::Client(u32::MAX) }), &options, registry)
    }
}

/// The origin as one process sees it.
struct Access {
    origin: Origin,
    caller: Caller,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the origin of {:?}", self.caller)
    }
}

impl Access {
    fn unavailable(&self, op: Op, key: &str) -> ObjectError {
        let reason = "the simulation says so".to_owned();
        ObjectError::Unavailable { store: self.name(), op, key: key.to_owned(), reason, retry_after: None }
    }

    fn failed(&self) -> bool {
        matches!(*self.origin.mood.lock(), Mood::Failing(percent) if rng::random_u64() % 100 < percent)
    }
}

#[async_trait]
impl ObjectStore for Access {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        _if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let number = blocks::number(key).expect("only known blocks are asked for");
        let get = self.origin.ledger.get(number, self.caller);
        let mood = *self.origin.mood.lock();
        match mood {
            Mood::Hung => std::future::pending().await,
            Mood::Slow(more) => clock::sleep(rng::jitter(more, 0.5)).await,
            Mood::Well | Mood::Failing(_) => {}
        }
        clock::sleep(rng::jitter(2 * FIRST_BYTE, 0.5)).await;
        if self.failed() {
            return Err(self.unavailable(Op::Get, key));
        }
        let whole = blocks::bytes(number);
        let object_len = whole.len() as u64;
        let range = range.map_or(0..object_len, |range| range.start..range.end.min(object_len));
        let rest = whole.slice(range.start as usize..range.end as usize);
        let complete = rest.len() == whole.len();
        let (len, breaks) = (rest.len() as u64, self.failed());
        let sending = Sending { rest, breaks, get, complete, object: key.to_owned(), len };
        let pieces = stream::unfold(sending, Sending::next);
        let mut body = ObjectBody::from_stream(key, len, pieces);
        body.object_len = Some(object_len);
        body.etag = Some(format!("\"{number}\""));
        Ok(body)
    }

    async fn put(&self, key: &str, _data: Bytes) -> Result<(), ObjectError> {
        Err(self.unavailable(Op::Put, key))
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        Ok(())
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        Err(self.unavailable(Op::Head, key))
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        Err(self.unavailable(Op::Delete, key))
    }

    async fn list(&self, _: &str, _: Option<&str>, _: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        Ok(Vec::new())
    }

    fn name(&self) -> String {
        "a simulated origin".to_owned()
    }
}

/// A body on its way.
struct Sending {
    rest: Bytes,
    /// It ends before its end.
    breaks: bool,
    get: Get,
    /// It is the whole object.
    complete: bool,
    object: String,
    len: u64,
}

impl Sending {
    async fn next(mut self) -> Option<(Result<Bytes, ObjectError>, Sending)> {
        if self.rest.is_empty() {
            return None;
        }
        clock::sleep(PIECE_EVERY).await;
        if self.breaks && (self.rest.len() <= PIECE || rng::random_u64().is_multiple_of(2)) {
            let (expected, got) = (self.len, self.len - self.rest.len() as u64);
            self.rest.clear();
            return Some((Err(ObjectError::Short { object: self.object.clone(), expected, got }), self));
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        if self.rest.is_empty() && self.complete {
            self.get.completed();
        }
        Some((Ok(piece), self))
    }
}
