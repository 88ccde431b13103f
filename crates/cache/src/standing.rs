//! What a client has learned about each node: its times, its failures, and the bytes it is asked for now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use shoal_cluster::View;
use shoal_runtime::metrics::Gauge;
use shoal_runtime::ranked::RankedBudget;
use shoal_types::NodeId;

use crate::health::{Breaker, Gate};
use crate::latency::{Latency, Usual, Wait};

/// Nodes remembered at most; at the bound all are forgiven.
const NODES_MAX: usize = 4096;
/// How often the usual times of all nodes are worked out, and nodes that left are forgotten, at most.
const USUAL_EVERY: Duration = Duration::from_secs(1);
/// Least that is waited before anyone is late: below it, the ask elsewhere costs more than the wait.
const LATE_MIN: Duration = Duration::from_millis(5);

/// How long a client waits for a node, all derived from the one setting `peer_timeout`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Longest time without progress before the next place is asked whatever the node says.
    pub(crate) whole: Duration,
    /// Longest time an answer may be due before the node is asked whether it is there: a tenth (500 ms of 5 s).
    pub(crate) late_max: Duration,
    /// The same while too little is known of the node: a fiftieth (100 ms).
    pub(crate) late_unknown: Duration,
    /// Longest time between bytes of a body before that; how often the pace of a body is looked at; and how long a node may take
    /// to say that it is there: a twentieth (250 ms).
    pub(crate) gap: Duration,
    /// Silence of a node that is there and holds the block before somebody is asked who may have to fetch it: a fifth (1 s).
    pub(crate) stuck: Duration,
    /// Silence of a node that says it is fetching before the next owner is asked too, within the allowance: three tenths (1.5 s).
    /// Origins answer sooner, but for bad moments; a node may be cut off from its origin while others are not.
    pub(crate) fetching: Duration,
}

impl Patience {
    pub(crate) fn new(peer_timeout: Duration) -> Patience {
        Patience {
            whole: peer_timeout,
            late_max: peer_timeout / 10,
            late_unknown: peer_timeout / 50,
            gap: peer_timeout / 20,
            stuck: peer_timeout / 5,
            fetching: peer_timeout * 3 / 10,
        }
    }
}

/// One node as this client knows it.
#[derive(Debug)]
pub(crate) struct Standing {
    known: Mutex<Known>,
    /// For bytes asked of it and not yet received.
    pub(crate) room: RankedBudget,
}

#[derive(Debug, Default)]
struct Known {
    latency: Latency,
    breaker: Breaker,
    /// Counts it while it is avoided.
    avoided: Option<Avoided>,
}

/// What was found out by asking a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    /// It answered; how it fares otherwise was learned by [`Standings::took`].
    Well,
    /// It was not reached, said nothing in time, or gave damaged bytes.
    Unwell,
}

/// All nodes this client has asked.
#[derive(Debug)]
pub(crate) struct Standings {
    patience: Patience,
    table: ArcSwap<HashMap<NodeId, Arc<Standing>>>,
    usual: ArcSwap<Usual>,
    usual_due: Mutex<Option<Instant>>,
    avoided: Gauge,
    forgetting_due: Mutex<Option<Instant>>,
}

impl Standings {
    /// No node known. `avoided` shows how many are left alone.
    pub(crate) fn new(patience: Patience, avoided: Gauge) -> Standings {
        let (table, usual) = (ArcSwap::default(), ArcSwap::default());
        let (usual_due, forgetting_due) = (Mutex::default(), Mutex::default());
        Standings { patience, table, usual, usual_due, avoided, forgetting_due }
    }

    /// Forgets nodes that are not in `view`, once in a while: what they were says nothing of what comes back.
    pub(crate) fn forget_gone(&self, view: &View, now: Instant) {
        let is_here = |id: &NodeId| view.member(*id).is_some();
        if !is_due(&self.forgetting_due, now) || self.table.load().keys().all(is_here) {
            return;
        }
        self.table.rcu(|table| {
            let mut table = HashMap::clone(table);
            table.retain(|id, _| is_here(id));
            table
        });
    }

    /// What is known of `node`; for a new one, `room` bytes may be asked of it at once.
    pub(crate) fn of(&self, node: NodeId, room: impl FnOnce() -> u64) -> Arc<Standing> {
        if let Some(standing) = self.table.load().get(&node) {
            return Arc::clone(standing);
        }
        let new = Arc::new(Standing { known: Mutex::default(), room: RankedBudget::new(room()) });
        let mut found = Arc::clone(&new);
        self.table.rcu(|table| {
            found = Arc::clone(table.get(&node).unwrap_or(&new));
            let mut table = HashMap::clone(table);
            if table.len() >= NODES_MAX {
                table.clear();
            }
            table.insert(node, Arc::clone(&found));
            table
        });
        found
    }

    /// How long the beginning of an answer may take before `node` is late; `None` if it is not to be asked now.
    pub(crate) fn ask(&self, node: &Standing, wait: Wait, now: Instant) -> Option<Duration> {
        let mut known = node.known.lock();
        if known.breaker.gate(self.patience.whole, now) == Gate::Shut {
            return None;
        }
        let bound = known.latency.bound(wait).map(|bound| bound.max(LATE_MIN)).unwrap_or(self.patience.late_unknown);
        Some(bound.min(self.patience.late_max))
    }

    /// True if `node` would be left alone now; asks nothing of it.
    pub(crate) fn is_avoided(&self, node: &Standing) -> bool {
        node.known.lock().breaker.is_avoided()
    }

    /// `node` took `time` for `wait`. A node that takes many times the usual time is left alone for a while; one that was, and is
    /// as fast as others again, is forgiven.
    pub(crate) fn took(&self, node: &Standing, wait: Wait, time: Duration, now: Instant) {
        self.refresh(now);
        let usual = **self.usual.load();
        let mut known = node.known.lock();
        if known.breaker.is_avoided() && !usual.exceeds(wait, time) {
            known.latency.forget();
        }
        known.latency.learn(wait, time);
        if known.latency.is_slow(&usual) {
            known.breaker.slow(now);
        }
        self.count(&mut known);
    }

    /// How asking `node` at `asked` went.
    pub(crate) fn note(&self, node: &Standing, asked: Instant, outcome: Outcome, now: Instant) {
        let usual = **self.usual.load();
        let mut known = node.known.lock();
        match outcome {
            Outcome::Well if known.latency.is_slow(&usual) => {}
            Outcome::Well => known.breaker.answered(now),
            Outcome::Unwell => known.breaker.failed(asked, now),
        }
        self.count(&mut known);
    }

    /// True if `time` for `wait` is many times what nodes usually take.
    pub(crate) fn is_unusual(&self, wait: Wait, time: Duration) -> bool {
        self.usual.load().exceeds(wait, time)
    }

    fn count(&self, known: &mut Known) {
        if known.breaker.is_avoided() != known.avoided.is_some() {
            known.avoided = known.breaker.is_avoided().then(|| Avoided::new(&self.avoided));
        }
    }

    fn refresh(&self, now: Instant) {
        if !is_due(&self.usual_due, now) {
            return;
        }
        let table = self.table.load();
        let all: Vec<Latency> = table.values().map(|node| node.known.lock().latency.clone()).collect();
        self.usual.store(Arc::new(Usual::of(&all)));
    }
}

/// True for one caller every [`USUAL_EVERY`].
fn is_due(due: &Mutex<Option<Instant>>, now: Instant) -> bool {
    // Whoever finds it taken need not wait: somebody is at it.
    let Some(mut due) = due.try_lock() else { return false };
    let is_due = due.is_none_or(|due| now >= due);
    if is_due {
        *due = Some(now + USUAL_EVERY);
    }
    is_due
}

/// One node that is avoided, in the gauge.
#[derive(Debug)]
struct Avoided(Gauge);

impl Avoided {
    fn new(gauge: &Gauge) -> Avoided {
        gauge.inc();
        Avoided(gauge.clone())
    }
}

impl Drop for Avoided {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use shoal_runtime::clock;
    use shoal_runtime::metrics::Registry;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn standings() -> Standings {
        let gauge = Registry::new().gauge("test_avoided", "Nodes.");
        Standings::new(Patience::new(Duration::from_secs(5)), gauge)
    }

    fn node(standings: &Standings, number: u8) -> Arc<Standing> {
        standings.of(NodeId([number; 16]), || 100)
    }

    #[test]
    fn a_node_is_late_by_what_is_known_of_it_within_bounds() {
        let (standings, now) = (standings(), clock::now());
        let known = node(&standings, 1);
        assert!(Arc::ptr_eq(&known, &node(&standings, 1)));
        assert_eq!(standings.ask(&known, Wait::Small, now), Some(100 * MS));
        (0..50).for_each(|_| standings.took(&known, Wait::Small, MS / 10, now));
        assert_eq!(standings.ask(&known, Wait::Small, now), Some(LATE_MIN));
        (0..50).for_each(|_| standings.took(&known, Wait::Head, 2000 * MS, now));
        assert_eq!(standings.ask(&known, Wait::Head, now), Some(500 * MS));
    }

    #[test]
    fn a_node_twenty_times_slower_than_its_peers_is_avoided_tried_and_forgiven() {
        let (standings, mut now) = (standings(), clock::now());
        let (fast, slow) = (node(&standings, 1), node(&standings, 2));
        for _ in 0..5 {
            now += USUAL_EVERY;
            standings.took(&fast, Wait::Held, 10 * MS, now);
            standings.took(&slow, Wait::Held, 200 * MS, now);
            standings.note(&slow, now, Outcome::Well, now);
        }
        assert!(standings.is_avoided(&slow) && standings.ask(&slow, Wait::Head, now).is_none());
        assert!(!standings.is_avoided(&fast));
        assert_eq!(standings.avoided.get(), 1);
        // Still slow at its trial.
        now += Duration::from_secs(2);
        assert!(standings.ask(&slow, Wait::Head, now).is_some());
        standings.took(&slow, Wait::Held, 200 * MS, now + MS);
        standings.note(&slow, now, Outcome::Well, now + MS);
        assert!(standings.ask(&slow, Wait::Head, now + 2 * MS).is_none());
        // Fast at a later one.
        now += Duration::from_secs(60);
        assert!(standings.ask(&slow, Wait::Head, now).is_some());
        standings.took(&slow, Wait::Held, 12 * MS, now);
        standings.note(&slow, now, Outcome::Well, now);
        assert!(!standings.is_avoided(&slow));
        assert_eq!(standings.avoided.get(), 0);
    }

    #[test]
    fn a_node_that_left_the_ring_is_not_counted() {
        let (standings, now) = (standings(), clock::now());
        standings.note(&node(&standings, 1), now, Outcome::Unwell, now);
        assert_eq!(standings.avoided.get(), 1);
        standings.forget_gone(&View::empty(), now);
        assert_eq!(standings.avoided.get(), 0);
    }

    #[test]
    fn a_failed_node_is_counted_until_it_answers() {
        let (standings, now) = (standings(), clock::now());
        let node = node(&standings, 1);
        standings.note(&node, now, Outcome::Unwell, now);
        assert!(standings.ask(&node, Wait::Small, now).is_none());
        assert_eq!(standings.avoided.get(), 1);
        assert!(standings.ask(&node, Wait::Small, now + 500 * MS).is_some());
        standings.note(&node, now, Outcome::Well, now + 510 * MS);
        assert_eq!(standings.avoided.get(), 0);
    }

    #[test]
    fn nodes_remembered_are_bounded() {
        let standings = standings();
        for i in 0..(NODES_MAX as u32 + 100) {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&i.to_le_bytes());
            if i % 64 == 0 {
                // Adding to a shared table copies it; a few show the bound.
                standings.of(NodeId(id), || 1);
            }
        }
        assert!(standings.table.load().len() <= NODES_MAX);
    }
}
