//! A warm-up as its client drives it: keys to their owners, in batches, with what comes of them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shoal_cluster::Member;
use shoal_net::{Endpoint, NetError};
use shoal_runtime::{clock, rng};
use shoal_types::{BlockKey, NodeId, Tier};
use shoal_wire::{Request, Response, Status, batches};
use tokio::sync::mpsc;

use crate::error::CacheError;
use crate::locate::held;
use crate::nodes::Nodes;

/// Most keys in one request: a few seconds of work for one node, so that progress and failures show soon.
const BATCH_KEYS: usize = 1024;
/// Longest silence of a node that warms; it reports at least every [`crate::serve::WARM_REPORT`], done or not.
const SILENCE: Duration = Duration::from_secs(30);
/// Times a node that is at its limits is asked again before its keys go to the next owner; with pauses that double from
/// [`BUSY_PAUSE`] that is half a minute, and a warm-up is in no hurry.
const BUSY_TRIES: u32 = 7;
/// First pause before a busy node is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// Progress messages that wait to be heard, at most.
const EVENTS: usize = 64;

/// How far a warm-up is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WarmProgress {
    /// Blocks asked for, each counted once.
    pub total: u64,
    /// Blocks dealt with in any way.
    pub done: u64,
    /// Blocks that were in the ring already.
    pub already: u64,
    /// Blocks fetched from the origin.
    pub fetched: u64,
    /// Blocks no owner could store.
    pub failed: u64,
    /// Bytes fetched from the origin.
    pub bytes: u64,
}

/// What came of a warm-up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WarmReport {
    /// Blocks asked for, each counted once; the sum of the three below.
    pub total: u64,
    /// Blocks that were in the ring already.
    pub already: u64,
    /// Blocks fetched from the origin and stored.
    pub fetched: u64,
    /// Blocks no owner could store.
    pub failed: u64,
    /// Bytes fetched from the origin.
    pub bytes: u64,
    /// Why the first of the failed blocks failed.
    pub first_error: Option<String>,
}

/// Keys for one node, and the nodes that have failed them before.
struct Batch {
    keys: Vec<BlockKey>,
    node: Arc<Member>,
    tried: Vec<NodeId>,
}

/// What one node made of one batch, so far or in the end.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) already: u64,
    pub(crate) fetched: u64,
    pub(crate) failed: u64,
    pub(crate) bytes: u64,
}

/// A batch came to its end.
struct Outcome {
    number: u64,
    batch: Batch,
    tally: Tally,
    /// Keys the node did not store.
    left: Vec<BlockKey>,
    error: String,
}

/// Everything known about a warm-up under way.
struct Run<'a> {
    nodes: &'a Nodes,
    queue: VecDeque<Batch>,
    total: u64,
    ended: Tally,
    first_error: Option<String>,
    /// What the batches under way have reported, by their number.
    running: BTreeMap<u64, Tally>,
}

/// See [`crate::ClientCache::warm`].
pub(crate) async fn warm(
    nodes: &Nodes,
    at_once: usize,
    mut keys: Vec<BlockKey>,
    mut progress: impl FnMut(WarmProgress),
) -> Result<WarmReport, CacheError> {
    if nodes.peers.views.current().members.is_empty() {
        return Err(CacheError::NoNodes);
    }
    let mut seen = HashSet::with_capacity(keys.len());
    keys.retain(|key| seen.insert(key.id()));
    drop(seen);
    let mut run = Run {
        nodes,
        queue: VecDeque::new(),
        total: keys.len() as u64,
        ended: Tally::default(),
        first_error: None,
        running: BTreeMap::new(),
    };
    run.enqueue(keys, &[], "");
    let (events, mut heard) = mpsc::channel(EVENTS);
    let mut under_way = FuturesUnordered::new();
    let mut number = 0;
    loop {
        while under_way.len() < at_once.max(1)
            && let Some(batch) = run.queue.pop_front()
        {
            number += 1;
            run.running.insert(number, Tally::default());
            under_way.push(ask(nodes, batch, number, events.clone()));
        }
        tokio::select! {
            biased;
            Some((number, tally)) = heard.recv() => run.reported(number, tally),
            outcome = under_way.next() => match outcome {
                Some(outcome) => run.ended(outcome),
                None => break,
            },
        }
        progress(run.progress());
    }
    Ok(run.report())
}

impl Run<'_> {
    /// Groups `keys` by the first of their owners that is not among `tried`; keys without one have failed, because of `error`.
    fn enqueue(&mut self, keys: Vec<BlockKey>, tried: &[NodeId], error: &str) {
        let mut groups: BTreeMap<NodeId, (Arc<Member>, Vec<BlockKey>)> = BTreeMap::new();
        for key in keys {
            let next = self.nodes.owners(&key).0.into_iter().find(|owner| !tried.contains(&owner.id));
            match next {
                Some(node) => groups.entry(node.id).or_insert_with(|| (node, Vec::new())).1.push(key),
                None => {
                    self.ended.failed += 1;
                    self.first_error.get_or_insert_with(|| error.to_owned());
                }
            }
        }
        // One batch of each node in turn, so that all of them work from the start.
        let mut rounds: Vec<VecDeque<Batch>> =
            groups.into_values().map(|(node, keys)| cut(node, keys, tried)).collect();
        while !rounds.is_empty() {
            self.queue.extend(rounds.iter_mut().filter_map(VecDeque::pop_front));
            rounds.retain(|batches| !batches.is_empty());
        }
    }

    fn reported(&mut self, number: u64, tally: Tally) {
        // A report may be heard after its batch has ended; then it counts no more.
        if let Some(running) = self.running.get_mut(&number) {
            *running = tally;
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        let Outcome { number, batch, tally, left, error } = outcome;
        self.running.remove(&number);
        self.ended.already += tally.already;
        self.ended.fetched += tally.fetched;
        self.ended.bytes += tally.bytes;
        if !left.is_empty() {
            tracing::debug!(node = %batch.node.name, blocks = left.len(), error, "a node did not warm all its blocks");
            let mut tried = batch.tried;
            tried.push(batch.node.id);
            self.enqueue(left, &tried, &error);
        }
    }

    fn progress(&self) -> WarmProgress {
        let mut sum = self.ended;
        for tally in self.running.values() {
            sum.already += tally.already;
            sum.fetched += tally.fetched;
            sum.bytes += tally.bytes;
        }
        let done = sum.already + sum.fetched + sum.failed;
        let Tally { already, fetched, failed, bytes } = sum;
        WarmProgress { total: self.total, done, already, fetched, failed, bytes }
    }

    fn report(self) -> WarmReport {
        let Tally { already, fetched, failed, bytes } = self.ended;
        WarmReport { total: self.total, already, fetched, failed, bytes, first_error: self.first_error }
    }
}

fn cut(node: Arc<Member>, keys: Vec<BlockKey>, tried: &[NodeId]) -> VecDeque<Batch> {
    let requests = keys.chunks(BATCH_KEYS).flat_map(|keys| batches(keys.to_vec()));
    requests.map(|keys| Batch { keys, node: Arc::clone(&node), tried: tried.to_vec() }).collect()
}

/// Has one node warm one batch.
async fn ask(nodes: &Nodes, batch: Batch, number: u64, events: mpsc::Sender<(u64, Tally)>) -> Outcome {
    let asked = batch.keys.len() as u64;
    let mut tries = 0;
    let heard = loop {
        let heard = listen(&nodes.peers.endpoint, &batch.node, batch.keys.clone(), None, SILENCE, |tally| {
            // Progress is for eyes: a report that finds the queue full is as good as the next one.
            let _ = events.try_send((number, tally));
        });
        match heard.await {
            Err(Refusal { busy: true, .. }) if tries < BUSY_TRIES => {
                clock::sleep(rng::jitter(BUSY_PAUSE * 2u32.pow(tries), 0.5)).await;
                tries += 1;
            }
            heard => break heard,
        }
    };
    match heard {
        Ok((tally, _)) if tally.failed == 0 && tally.already + tally.fetched == asked => {
            Outcome { number, batch, tally, left: Vec::new(), error: String::new() }
        }
        Ok((tally, error)) if tally.already + tally.fetched + tally.failed == asked => {
            // Counts do not tell which; the node does. What it does not hold goes to the next owner.
            let holds = held(&nodes.peers.endpoint, SILENCE, &batch.node, batch.keys.clone()).await;
            let absent = |tiers: Vec<Option<Tier>>| {
                let pairs = batch.keys.iter().zip(tiers);
                pairs.filter(|(_, tier)| tier.is_none()).map(|(key, _)| key.clone()).collect()
            };
            let left: Vec<BlockKey> = holds.map_or_else(|| batch.keys.clone(), absent);
            let stored = asked - left.len() as u64;
            let already = tally.already.min(stored);
            let tally = Tally { already, fetched: stored - already, failed: 0, bytes: tally.bytes };
            Outcome { number, batch, tally, left, error }
        }
        Ok(_) => whole(number, batch, "a node reported other numbers than were asked for".to_owned()),
        Err(refusal) => whole(number, batch, refusal.sentence),
    }
}

/// Nothing of the batch counts: whatever the node has of it, the next one finds out.
fn whole(number: u64, batch: Batch, error: String) -> Outcome {
    Outcome { number, tally: Tally::default(), left: batch.keys.clone(), batch, error }
}

/// A node did not warm a batch.
pub(crate) struct Refusal {
    /// It is at its limits, and may have room later.
    pub(crate) busy: bool,
    pub(crate) sentence: String,
}

impl Refusal {
    fn new(sentence: String) -> Refusal {
        Refusal { busy: false, sentence }
    }

    fn failed(name: &str, error: &NetError) -> Refusal {
        let busy = matches!(
            error,
            NetError::Answered { status: Status::Busy, .. } | NetError::Reset { status: Status::Busy, .. }
        );
        Refusal { busy, sentence: format!("node {name}: {error}") }
    }
}

/// The last report on a batch, and the first error in it. Errors: how the node failed.
///
/// `from` is who has the blocks; `silence` is the longest time without a report.
pub(crate) async fn listen(
    endpoint: &Endpoint,
    node: &Member,
    keys: Vec<BlockKey>,
    from: Option<SocketAddr>,
    silence: Duration,
    mut report: impl FnMut(Tally),
) -> Result<(Tally, String), Refusal> {
    let name = &node.name;
    let silent = |_| Refusal::new(format!("node {name} was silent for {silence:?}"));
    let failed = |error: NetError| Refusal::failed(name, &error);
    let request = Request::Warm { keys, from };
    let opened = clock::timeout(silence, endpoint.call_stream(node.addr, &request)).await;
    let mut responses = opened.map_err(silent)?.map_err(failed)?;
    loop {
        let response = clock::timeout(silence, responses.next()).await.map_err(silent)?;
        match response.map_err(failed)? {
            Some(Response::WarmProgress { already, fetched, failed, bytes, last, first_error, .. }) => {
                let tally = Tally { already, fetched, failed, bytes };
                if last {
                    return Ok((tally, first_error));
                }
                report(tally);
            }
            Some(_) => return Err(Refusal::new(format!("node {name} answered something else than was asked"))),
            None => return Err(Refusal::new(format!("node {name} stopped reporting before it was done"))),
        }
    }
}
