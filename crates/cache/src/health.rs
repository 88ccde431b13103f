//! Which nodes failed a moment ago, so that reads do not wait for them again and again.
//!
//! Pure: time comes in as an argument. A node that failed is left alone for a while that doubles with every failure in a row;
//! then one read at a time tries it, and the first success clears it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shoal_types::NodeId;

/// First time a node is left alone. Half a second of reads go elsewhere after one lost packet too many.
const FIRST: Duration = Duration::from_millis(500);
/// Longest time a node is left alone: how late a node that came back may be noticed.
const LONGEST: Duration = Duration::from_secs(10);
/// Nodes remembered at most; at the bound all are forgiven.
const NODES_MAX: usize = 4096;

/// What is known of the nodes that failed.
#[derive(Debug)]
pub(crate) struct Health {
    /// How long the one read that tries a node may take before another may.
    trial: Duration,
    failing: Mutex<HashMap<NodeId, Standing>>,
}

#[derive(Debug)]
struct Standing {
    in_a_row: u32,
    failed_at: Instant,
    not_before: Instant,
}

impl Health {
    /// Every node in good standing. `trial` is how long a read may wait for a node.
    pub(crate) fn new(trial: Duration) -> Health {
        Health { trial, failing: Mutex::default() }
    }

    /// True if `node` may be asked now. For a node whose time has come, true once: others wait for how that goes.
    pub(crate) fn may_ask(&self, node: NodeId, now: Instant) -> bool {
        let mut failing = self.failing.lock();
        let Some(standing) = failing.get_mut(&node) else { return true };
        if now < standing.not_before {
            return false;
        }
        standing.not_before = now + self.trial;
        true
    }

    /// `node` answered.
    pub(crate) fn answered(&self, node: NodeId) {
        let mut failing = self.failing.lock();
        if !failing.is_empty() {
            failing.remove(&node);
        }
    }

    /// `node`, asked at `asked`, could not be reached or said nothing.
    pub(crate) fn failed(&self, node: NodeId, asked: Instant, now: Instant) {
        let mut failing = self.failing.lock();
        if failing.len() >= NODES_MAX {
            failing.clear();
        }
        let before = failing.get(&node);
        // Requests that were under way together fail together: they are one failure.
        if before.is_some_and(|before| asked <= before.failed_at) {
            return;
        }
        let in_a_row = before.map_or(0, |before| before.in_a_row) + 1;
        let pause = LONGEST.min(FIRST * 2u32.pow((in_a_row - 1).min(8)));
        failing.insert(node, Standing { in_a_row, failed_at: now, not_before: now + pause });
    }
}

#[cfg(test)]
mod tests {
    use shoal_runtime::clock;

    use super::*;

    const NODE: NodeId = NodeId([1; 16]);
    const TRIAL: Duration = Duration::from_secs(5);

    #[test]
    fn a_failed_node_is_left_alone_then_tried_by_one() {
        let (health, start) = (Health::new(TRIAL), clock::now());
        assert!(health.may_ask(NODE, start));
        health.failed(NODE, start, start);
        assert!(!health.may_ask(NODE, start));
        assert!(health.may_ask(NodeId([2; 16]), start));
        let later = start + FIRST;
        assert!(health.may_ask(NODE, later));
        assert!(!health.may_ask(NODE, later), "one read tries it, the others wait");
        assert!(health.may_ask(NODE, later + TRIAL), "a trial without an end does not lock it out");
        health.answered(NODE);
        assert!(health.may_ask(NODE, later) && health.may_ask(NODE, later));
    }

    #[test]
    fn pauses_grow_to_their_bound_and_shared_failures_count_once() {
        let (health, mut now) = (Health::new(TRIAL), clock::now());
        let asked = now;
        for _ in 0..50 {
            health.failed(NODE, asked, now);
        }
        assert!(health.may_ask(NODE, now + FIRST), "fifty requests under way together are one failure");
        for _ in 0..12 {
            now += LONGEST;
            assert!(health.may_ask(NODE, now));
            let asked = now;
            now += TRIAL;
            health.failed(NODE, asked, now);
        }
        assert!(!health.may_ask(NODE, now + LONGEST - Duration::from_millis(1)));
        assert!(health.may_ask(NODE, now + LONGEST));
    }
}
