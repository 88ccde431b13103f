//! Blocks go to the nodes that own them: after a change of the ring those another node has become first owner of, before leaving
//! all of them.
//!
//! The receiver pulls: it is asked to warm keys `from` this node, with its own bounds and at its own pace. Nothing here is
//! needed for correctness: a block that was not handed over is taken from here on its first miss as long as this node runs, and
//! comes from the origin else. This node keeps its copy until it needs the room.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, FuturesUnordered};
use futures::{Stream, StreamExt};
use shoal_cluster::{Member, ViewWatch};
use shoal_net::Endpoint;
use shoal_runtime::clock;
use shoal_runtime::shutdown::Shutdown;
use shoal_store::{Store, StoredBlock};
use shoal_types::{BlockKey, NodeId};
use tokio::sync::watch;

use crate::locate::held;
use crate::node_metrics::{Handed, NodeMeter};
use crate::warm::{Tally, listen};

/// Blocks listed at once.
const PAGE_BLOCKS: usize = 1024;
/// Blocks that wait to be offered, at most: a few megabytes of keys. No more are listed meanwhile.
const PENDING_MAX: usize = 16 * 1024;
/// Blocks offered in one request, at most; and their bytes, so that a request takes seconds.
const BATCH_BLOCKS: usize = 256;
const BATCH_BYTES: u64 = 256 << 20;
/// Blocks up to this size are offered apart from larger ones, since their receiver pulls many of them in one request.
pub(crate) const SMALL_BYTES: u32 = 64 << 10;
/// Peers that are offered blocks at the same time, one request each.
const PEERS_AT_ONCE: usize = 4;
/// Owners a block is offered to one after the other.
const OFFERS_MAX: usize = 2;
/// A receiver reports every [`crate::serve::WARM_REPORT`]; one that says nothing for so long is offered no more.
const SILENCE: Duration = Duration::from_secs(5);

/// How far a hand-over is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandOver {
    /// Blocks this node held in its cache directories when it began.
    pub total: u64,
    /// Blocks dealt with, in any way; those that stay included.
    pub done: u64,
    /// Blocks another node took over.
    pub moved: u64,
    /// Blocks their owner had already.
    pub already: u64,
    /// Blocks nobody took; their origin still has them.
    pub failed: u64,
    /// Bytes in the blocks that were taken over.
    pub bytes: u64,
    /// Why the first failed block failed.
    pub first_error: Option<String>,
}

/// Which blocks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Those another node is first owner of.
    Foreign,
    /// All of them.
    All,
}

/// How a hand-over ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Every block was dealt with.
    Finished,
    /// The ring has changed.
    Superseded,
}

/// What a node hands blocks over with.
pub(crate) struct HandsOver<'a> {
    pub(crate) me: NodeId,
    /// How long a ring must have been the same before blocks are handed over.
    pub(crate) settle: Duration,
    pub(crate) store: &'a Store,
    pub(crate) views: &'a ViewWatch,
    pub(crate) endpoint: Endpoint,
    pub(crate) counters: &'a NodeMeter,
    pub(crate) progress: &'a watch::Sender<HandOver>,
}

impl HandsOver<'_> {
    /// After every change of the ring, once it has been stable, hands over what others own now; until `shutdown`.
    pub(crate) async fn follow(&self, shutdown: &Shutdown) {
        let mut views = self.views.clone();
        let mut handed_over = None;
        let work = async {
            loop {
                let epoch = stable(&mut views, self.settle).await;
                if handed_over != Some(epoch) && self.run(Scope::Foreign).await == Ending::Finished {
                    handed_over = Some(epoch);
                }
                if handed_over == Some(views.current().epoch()) {
                    views.changed().await;
                }
            }
        };
        tokio::select! {
            biased;
            () = shutdown.wait() => {}
            () = work => {}
        }
    }

    /// Hands everything over, in at most `limit`. This node must be out of the ring already.
    pub(crate) async fn drain(&self, limit: Duration) {
        if clock::timeout(limit, self.run(Scope::All)).await.is_err() {
            self.progress.send_modify(|report| {
                report.first_error.get_or_insert_with(|| format!("not all blocks were handed over within {limit:?}"));
            });
        }
    }

    async fn run(&self, scope: Scope) -> Ending {
        let _handing_over = self.counters.handing_over();
        let view = self.views.current();
        self.progress.send_replace(HandOver { total: self.store.stats().blocks, ..HandOver::default() });
        // Who is not in the ring has no address to be asked at; who is alone has nobody to give to.
        let Some(me) = view.member(self.me) else { return Ending::Finished };
        if view.ring.members().iter().all(|member| member.id == self.me)
            || scope == Scope::Foreign && !view.ring.contains(self.me)
        {
            return Ending::Finished;
        }
        let mut run = Run {
            with: self,
            scope,
            from: me.addr,
            queues: BTreeMap::new(),
            pending: 0,
            listing: true,
            occupied: HashSet::new(),
            down: HashSet::new(),
        };
        let mut views = self.views.clone();
        let newer = async {
            while scope == Scope::All || views.current().epoch() == view.epoch() {
                views.changed().await;
            }
        };
        tokio::select! {
            biased;
            () = run.work() => Ending::Finished,
            () = newer => Ending::Superseded,
        }
    }
}

/// The epoch of a ring that has been the same for `settle`.
async fn stable(views: &mut ViewWatch, settle: Duration) -> u64 {
    loop {
        let view = views.current();
        let age = clock::now().saturating_duration_since(view.changed_at);
        let Some(left) = settle.checked_sub(age).filter(|left| !left.is_zero()) else { return view.epoch() };
        let _ = clock::timeout(left, views.changed()).await;
    }
}

/// A block on offer.
#[derive(Debug)]
struct Offer {
    block: StoredBlock,
    /// Who did not take it.
    tried: Vec<NodeId>,
}

/// One request under way, and what came of it.
struct Outcome {
    node: Arc<Member>,
    offers: Vec<Offer>,
    /// What the receiver reports in the end; a sentence if it does not.
    report: Result<(Tally, String), String>,
    /// For each offer, true if the receiver has it.
    taken: Vec<bool>,
}

/// Offers of one size to one node.
type Line = (NodeId, bool);

struct Run<'a> {
    with: &'a HandsOver<'a>,
    scope: Scope,
    /// Where receivers pull from.
    from: SocketAddr,
    queues: BTreeMap<Line, VecDeque<Offer>>,
    /// Offers in all queues.
    pending: usize,
    /// True while there are blocks to list.
    listing: bool,
    /// Nodes with a request under way.
    occupied: HashSet<NodeId>,
    /// Nodes that failed as such: they are offered nothing more.
    down: HashSet<NodeId>,
}

impl Run<'_> {
    async fn work(&mut self) {
        let mut pages = pin!(pages(self.with.store));
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < PEERS_AT_ONCE
                && let Some((node, offers)) = self.next_batch()
            {
                self.occupied.insert(node.id);
                under_way.push(offer(&self.with.endpoint, self.from, node, offers));
            }
            tokio::select! {
                biased;
                page = pages.next(), if self.listing && self.pending < PENDING_MAX => match page {
                    Some(page) => page.into_iter().for_each(|block| self.sort(Offer { block, tried: Vec::new() })),
                    None => self.listing = false,
                },
                Some(outcome) = under_way.next() => self.ended(outcome),
                else => return,
            }
        }
    }

    /// Puts a block into the queue of the next node to offer it to, if it is to go at all.
    fn sort(&mut self, offer: Offer) {
        let view = self.with.views.current();
        let owners = view.owners(&offer.block.key, 1 + OFFERS_MAX);
        if self.scope == Scope::Foreign && owners.first().is_none_or(|first| first.id == self.with.me) {
            return self.count(|report| report.done += 1);
        }
        let open = |id: NodeId| id != self.with.me && !self.down.contains(&id) && !offer.tried.contains(&id);
        let next = owners.iter().find(|owner| open(owner.id)).filter(|_| offer.tried.len() < OFFERS_MAX);
        match next {
            Some(owner) => {
                let line = (owner.id, offer.block.len <= SMALL_BYTES);
                self.queues.entry(line).or_default().push_back(offer);
                self.pending += 1;
            }
            None => self.failed(1, "no other node could take it"),
        }
    }

    /// The next request to send: full ones first; the rest once nothing more is listed for now.
    fn next_batch(&mut self) -> Option<(Arc<Member>, Vec<Offer>)> {
        let waits = self.listing && self.pending < PENDING_MAX;
        let free = self.queues.iter().filter(|((id, _), _)| !self.occupied.contains(id));
        let (line, queued) = free.max_by_key(|(_, queue)| queue.len())?;
        if waits && queued.len() < BATCH_BLOCKS {
            return None;
        }
        let line = *line;
        let queue = self.queues.get_mut(&line)?;
        let (mut offers, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.front()
            && offers.len() < BATCH_BLOCKS
            && (offers.is_empty() || bytes + u64::from(next.block.len) <= BATCH_BYTES)
        {
            bytes += u64::from(next.block.len);
            offers.extend(queue.pop_front());
        }
        if queue.is_empty() {
            self.queues.remove(&line);
        }
        self.pending -= offers.len();
        match self.with.views.current().member(line.0) {
            Some(node) => Some((Arc::clone(node), offers)),
            // It has left meanwhile.
            None => {
                self.down.insert(line.0);
                self.again(offers, line.0);
                self.next_batch()
            }
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        let Outcome { node, offers, report, taken } = outcome;
        self.occupied.remove(&node.id);
        let counters = self.with.counters;
        let (tally, error) = match report {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(node = %node.name, error, "a node does not take over its blocks");
                self.down.insert(node.id);
                (Tally::default(), error)
            }
        };
        let stored = taken.iter().filter(|taken| **taken).count() as u64;
        let already = tally.already.min(stored);
        counters.handed(Handed::Already, already);
        counters.handed(Handed::Moved, stored - already);
        counters.handed_bytes(tally.bytes);
        self.count(|report| {
            report.already += already;
            report.moved += stored - already;
            report.bytes += tally.bytes;
            report.done += stored;
            if !error.is_empty() {
                report.first_error.get_or_insert(error);
            }
        });
        let left = offers.into_iter().zip(taken).filter(|(_, taken)| !taken).map(|(offer, _)| offer);
        self.again(left.collect(), node.id);
    }

    /// Offers that `node` did not take go to the next one.
    fn again(&mut self, offers: Vec<Offer>, node: NodeId) {
        for mut offer in offers {
            offer.tried.push(node);
            self.sort(offer);
        }
    }

    fn failed(&self, blocks: u64, why: &str) {
        self.with.counters.handed(Handed::Failed, blocks);
        self.count(|report| {
            report.failed += blocks;
            report.done += blocks;
            report.first_error.get_or_insert_with(|| why.to_owned());
        });
    }

    fn count(&self, change: impl FnOnce(&mut HandOver)) {
        self.with.progress.send_modify(change);
    }
}

/// The blocks of the store, page by page. A store that fails to list has nothing more.
fn pages(store: &Store) -> impl Stream<Item = Vec<StoredBlock>> {
    stream::unfold(Some(None), move |state| async move {
        match store.scan(state?, PAGE_BLOCKS).await {
            Ok((page, next)) => Some((page, next.map(Some))),
            Err(error) => {
                tracing::warn!(%error, "the cache cannot be listed");
                None
            }
        }
    })
}

/// Has `node` pull the blocks on offer from here.
async fn offer(endpoint: &Endpoint, from: SocketAddr, node: Arc<Member>, offers: Vec<Offer>) -> Outcome {
    let keys: Vec<BlockKey> = offers.iter().map(|offer| offer.block.key.clone()).collect();
    let asked = keys.len() as u64;
    let report = listen(endpoint, &node, keys.clone(), Some(from), SILENCE, |_| {}).await;
    let report = report.map_err(|refusal| refusal.sentence);
    let taken = match &report {
        Ok((tally, _)) if tally.failed == 0 && tally.already + tally.fetched == asked => vec![true; offers.len()],
        // Counts do not tell which; the node does. One that broke off may have some of them too.
        _ => {
            let holds = held(endpoint, SILENCE, &node, keys).await;
            holds.map_or_else(|| vec![false; offers.len()], |tiers| tiers.iter().map(Option::is_some).collect())
        }
    };
    Outcome { node, offers, report, taken }
}
