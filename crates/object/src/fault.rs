//! A store that fails on request: for tests of everything above an object store, and for scenarios of the bench.
//!
//! Not part of what [`crate::open`] builds. Rules apply in the order they were added; a rule with a count disappears
//! when used up. Time passes by the runtime's clock only.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream;
use parking_lot::Mutex;
use shoal_runtime::clock;
use shoal_types::ErrorKind;
use tokio::sync::watch;

use crate::{ObjectBody, ObjectEntry, ObjectError, ObjectMeta, ObjectStore, Op};

/// Requests and bytes a [`FaultStore`] has seen, failed ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// GETs begun.
    pub gets: u64,
    /// PUTs begun.
    pub puts: u64,
    /// HEADs begun.
    pub heads: u64,
    /// DELETEs begun.
    pub deletes: u64,
    /// LISTs begun.
    pub lists: u64,
    /// Bytes of bodies handed out.
    pub bytes: u64,
}

/// What a rule does to the requests it meets.
#[derive(Debug, Clone)]
enum Fault {
    Fail(ErrorKind),
    Delay(Duration),
    /// GET bodies end after so many bytes, still promising all.
    Truncate(u64),
    /// The byte at this offset of a GET body is inverted.
    Flip(u64),
    /// No answer ever begins.
    Hang,
    /// GET bodies stop after so many bytes and never end.
    Stall(u64),
    /// After so many bytes, GET bodies come in pieces of so many bytes, one each such time.
    Trickle(u64, u64, Duration),
}

struct Rule {
    op: Option<Op>,
    matches: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// Requests it still applies to; `None` = all.
    left: Option<u32>,
    fault: Fault,
}

#[derive(Default)]
struct Plan {
    rules: Vec<Rule>,
    gate: Option<Arc<GateState>>,
    counts: Counts,
}

/// Wraps a store; see the module.
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

impl FaultStore {
    /// A wrapper that does nothing yet but count.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<FaultStore> {
        Arc::new(FaultStore { inner, plan: Arc::default() })
    }

    /// A wrapper around a new store in memory.
    pub fn over_memory() -> Arc<FaultStore> {
        FaultStore::new(crate::memory())
    }

    /// The next `n` requests of kind `op` fail.
    pub fn fail_next(&self, op: Op, n: u32, kind: ErrorKind) {
        self.rule(Some(op), Some(n), |_| true, Fault::Fail(kind));
    }

    /// Every request of kind `op` whose key `matches` fails, until [`clear`](FaultStore::clear).
    pub fn fail_matching(&self, op: Op, kind: ErrorKind, matches: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.rule(Some(op), None, matches, Fault::Fail(kind));
    }

    /// Every request fails, as if the store were cut off, until [`clear`](FaultStore::clear).
    pub fn fail_all(&self, kind: ErrorKind) {
        self.rule(None, None, |_| true, Fault::Fail(kind));
    }

    /// Every request of kind `op` first waits for `delay`, until [`clear`](FaultStore::clear).
    pub fn delay(&self, op: Op, delay: Duration) {
        self.rule(Some(op), None, |_| true, Fault::Delay(delay));
    }

    /// The bodies of the next `n` GETs end after `keep` bytes.
    pub fn truncate_next(&self, n: u32, keep: u64) {
        self.rule(Some(Op::Get), Some(n), |_| true, Fault::Truncate(keep));
    }

    /// The bodies of the next `n` GETs have the byte at `offset` inverted.
    pub fn flip_next(&self, n: u32, offset: u64) {
        self.rule(Some(Op::Get), Some(n), |_| true, Fault::Flip(offset));
    }

    /// The next `n` requests of kind `op` get no answer.
    pub fn hang_next(&self, op: Op, n: u32) {
        self.rule(Some(op), Some(n), |_| true, Fault::Hang);
    }

    /// The bodies of the next `n` GETs stop after `keep` bytes, and do not end.
    pub fn stall_next(&self, n: u32, keep: u64) {
        self.rule(Some(Op::Get), Some(n), |_| true, Fault::Stall(keep));
    }

    /// The bodies of the next `n` GETs give `keep` bytes as usual, then pieces of `piece` bytes, one every `every`.
    pub fn trickle_next(&self, n: u32, keep: u64, piece: u64, every: Duration) {
        self.rule(Some(Op::Get), Some(n), |_| true, Fault::Trickle(keep, piece.max(1), every));
    }

    /// GETs that begin from now on deliver no byte until the gate is released or dropped.
    pub fn hold_gets(&self) -> Gate {
        self.hold(None)
    }

    /// GETs that begin from now on deliver `bytes` bytes of their body, then nothing until the gate is released.
    pub fn hold_bodies_after(&self, bytes: u64) -> Gate {
        self.hold(Some(bytes))
    }

    /// Forgets every rule; a gate stays as it is.
    pub fn clear(&self) {
        self.plan.lock().rules.clear();
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        self.plan.lock().counts
    }

    /// Starts counting from zero.
    pub fn reset_counts(&self) {
        self.plan.lock().counts = Counts::default();
    }

    fn hold(&self, after: Option<u64>) -> Gate {
        let state = Arc::new(GateState { after, open: watch::Sender::new(false), waiting: watch::Sender::new(0) });
        self.plan.lock().gate = Some(state.clone());
        Gate { state, plan: self.plan.clone() }
    }

    fn rule(
        &self,
        op: Option<Op>,
        left: Option<u32>,
        matches: impl Fn(&str) -> bool + Send + Sync + 'static,
        fault: Fault,
    ) {
        self.plan.lock().rules.push(Rule { op, matches: Box::new(matches), left, fault });
    }

    /// Counts the request, lets delays pass and failures happen; returns what is left to do to a body.
    async fn request(&self, op: Op, key: &str) -> Result<Vec<Fault>, ObjectError> {
        let faults = self.plan.lock().begin(op, key);
        let mut rest = Vec::new();
        for fault in faults {
            match fault {
                Fault::Fail(kind) => return Err(ObjectError::Injected { op, key: key.to_owned(), kind }),
                Fault::Delay(delay) => clock::sleep(delay).await,
                Fault::Hang => std::future::pending().await,
                Fault::Truncate(_) | Fault::Flip(_) | Fault::Stall(_) | Fault::Trickle(..) => rest.push(fault),
            }
        }
        Ok(rest)
    }
}

impl Plan {
    fn begin(&mut self, op: Op, key: &str) -> Vec<Fault> {
        let counts = &mut self.counts;
        let count = match op {
            Op::Get => &mut counts.gets,
            Op::Put => &mut counts.puts,
            Op::Head => &mut counts.heads,
            Op::Delete => &mut counts.deletes,
            Op::List => &mut counts.lists,
        };
        *count += 1;
        let mut faults = Vec::new();
        for rule in &mut self.rules {
            if rule.op.is_none_or(|wanted| wanted == op) && rule.left != Some(0) && (rule.matches)(key) {
                rule.left = rule.left.map(|left| left - 1);
                faults.push(rule.fault.clone());
                if matches!(rule.fault, Fault::Fail(_)) {
                    break;
                }
            }
        }
        self.rules.retain(|rule| rule.left != Some(0));
        faults
    }
}

struct GateState {
    /// Bytes of a body that pass while the gate is shut; `None` = not even the answer's head.
    after: Option<u64>,
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl GateState {
    async fn pass(&self) {
        if *self.open.borrow() {
            return;
        }
        self.waiting.send_modify(|count| *count += 1);
        // The sender lives as long as `self`.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}

/// Holds GETs of a [`FaultStore`]; opens when released or dropped.
pub struct Gate {
    state: Arc<GateState>,
    plan: Arc<Mutex<Plan>>,
}

impl Gate {
    /// Waits until `n` GETs in all have come to the gate.
    pub async fn reached(&self, n: usize) {
        // The sender lives as long as `self`.
        let _ = self.state.waiting.subscribe().wait_for(|count| *count >= n).await;
    }

    /// GETs that have come to the gate so far.
    pub fn waiting(&self) -> usize {
        *self.state.waiting.borrow()
    }

    /// Lets everything through, now and later.
    pub fn release(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.state.open.send_replace(true);
        let mut plan = self.plan.lock();
        if plan.gate.as_ref().is_some_and(|gate| Arc::ptr_eq(gate, &self.state)) {
            plan.gate = None;
        }
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn get(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&str>,
    ) -> Result<ObjectBody, ObjectError> {
        let gate = self.plan.lock().gate.clone();
        let faults = self.request(Op::Get, key).await?;
        if let Some(gate) = gate.as_ref().filter(|gate| gate.after.is_none()) {
            gate.pass().await;
        }
        let body = self.inner.get(key, range, if_match).await?;
        let state = FaultyBody { gate, faults, at: 0, plan: self.plan.clone() };
        Ok(body.layered(|body| stream::try_unfold((body, state, Bytes::new()), faulty_chunk)))
    }

    async fn put(&self, key: &str, data: Bytes) -> Result<(), ObjectError> {
        self.request(Op::Put, key).await?;
        self.inner.put(key, data).await
    }

    async fn sync(&self) -> Result<(), ObjectError> {
        self.inner.sync().await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.request(Op::Head, key).await?;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.request(Op::Delete, key).await?;
        self.inner.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectEntry>, ObjectError> {
        self.request(Op::List, prefix).await?;
        self.inner.list(prefix, after, limit).await
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

struct FaultyBody {
    gate: Option<Arc<GateState>>,
    faults: Vec<Fault>,
    /// Bytes handed out.
    at: u64,
    plan: Arc<Mutex<Plan>>,
}

type Step = Option<(Bytes, (ObjectBody, FaultyBody, Bytes))>;

async fn faulty_chunk((mut body, mut state, mut chunk): (ObjectBody, FaultyBody, Bytes)) -> Result<Step, ObjectError> {
    if chunk.is_empty() {
        match body.next().await? {
            Some(next) => chunk = next,
            None => return Ok(None),
        }
    }
    // Cut where something happens, so that exactly the bytes before it are out.
    let mut cut = chunk.len() as u64;
    if let Some(after) = state.gate.as_ref().and_then(|gate| gate.after) {
        if state.at < after {
            cut = cut.min(after - state.at);
        } else if let Some(gate) = state.gate.take() {
            gate.pass().await;
        }
    }
    for fault in &state.faults {
        match fault {
            Fault::Truncate(keep) => cut = cut.min(keep.saturating_sub(state.at)),
            Fault::Stall(keep) if state.at >= *keep => std::future::pending().await,
            Fault::Stall(keep) => cut = cut.min(keep - state.at),
            Fault::Trickle(keep, piece, every) if state.at >= *keep => {
                cut = cut.min(*piece);
                clock::sleep(*every).await;
            }
            Fault::Trickle(keep, ..) => cut = cut.min(keep - state.at),
            Fault::Fail(_) | Fault::Delay(_) | Fault::Flip(_) | Fault::Hang => {}
        }
    }
    if cut == 0 {
        return Ok(None);
    }
    // At most the length of a chunk in memory.
    let mut piece = chunk.split_to(cut as usize);
    for fault in &state.faults {
        if let Fault::Flip(offset) = fault
            && (state.at..state.at + cut).contains(offset)
        {
            let mut bytes = BytesMut::from(piece.as_ref());
            bytes[(offset - state.at) as usize] ^= 0xff;
            piece = bytes.freeze();
        }
    }
    state.at += cut;
    state.plan.lock().counts.bytes += cut;
    Ok(Some((piece, (body, state, chunk))))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store_with(key: &str, bytes: &'static [u8]) -> Arc<FaultStore> {
        let store = FaultStore::over_memory();
        store.put(key, Bytes::from_static(bytes)).await.unwrap();
        store.reset_counts();
        store
    }

    async fn read(store: &FaultStore, key: &str) -> Result<Bytes, ObjectError> {
        store.get(key, None, None).await?.collect(100).await
    }

    #[tokio::test]
    async fn fails_as_often_as_told_and_counts() {
        let store = store_with("k", b"abc").await;
        store.fail_next(Op::Get, 2, ErrorKind::Unavailable);
        for _ in 0..2 {
            assert_eq!(read(&store, "k").await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert_eq!(read(&store, "k").await.unwrap(), "abc");
        assert_eq!(store.counts(), Counts { gets: 3, bytes: 3, ..Counts::default() });
    }

    #[tokio::test]
    async fn fails_by_key_until_cleared() {
        let store = store_with("k", b"abc").await;
        store.fail_matching(Op::Get, ErrorKind::Denied, |key| key == "k");
        assert_eq!(read(&store, "k").await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(read(&store, "other").await.unwrap_err().kind(), ErrorKind::NotFound);
        store.clear();
        assert!(read(&store, "k").await.is_ok());
    }

    #[tokio::test]
    async fn truncated_and_flipped_bodies() {
        let store = store_with("k", b"abcdef").await;
        store.truncate_next(1, 2);
        let mut body = store.get("k", None, None).await.unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "ab");
        assert_eq!(body.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
        store.flip_next(1, 3);
        assert_eq!(read(&store, "k").await.unwrap(), &b"abc\x9bef"[..]);
    }

    #[tokio::test]
    async fn gates_hold_heads_or_the_rest_of_bodies() {
        let store = store_with("k", b"abcdef").await;
        let gate = store.hold_gets();
        let held = {
            let store = store.clone();
            shoal_runtime::task::spawn("held", async move { read(&store, "k").await })
        };
        gate.reached(1).await;
        assert_eq!((gate.waiting(), store.counts().bytes), (1, 0));
        gate.release();
        assert_eq!(held.await.unwrap().unwrap(), "abcdef");

        let gate = store.hold_bodies_after(4);
        let mut body = store.get("k", None, None).await.unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "abcd");
        let (rest, ()) = tokio::join!(body.next(), async {
            gate.reached(1).await;
            gate.release()
        });
        assert_eq!(rest.unwrap().unwrap(), "ef");
    }

    #[tokio::test(start_paused = true)]
    async fn delays_pass_by_the_runtimes_clock() {
        let store = store_with("k", b"abc").await;
        store.delay(Op::Get, Duration::from_secs(3600));
        let start = clock::now();
        read(&store, "k").await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(60), "a std clock does not see virtual time");
    }
}
