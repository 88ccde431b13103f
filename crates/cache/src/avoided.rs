//! Which peers failed a node a moment ago, so that fills do not wait for them again and again.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shoal_types::NodeId;

use crate::health::{Breaker, Gate};

/// Peers remembered at most; at the bound all are forgiven.
const PEERS_MAX: usize = 4096;

/// What is known of the peers that failed.
#[derive(Debug)]
pub(crate) struct Avoided {
    /// How long the one fill that tries a peer may take before another may.
    trial: Duration,
    failing: Mutex<HashMap<NodeId, Breaker>>,
}

impl Avoided {
    /// Every peer in good standing. `trial` is how long a fill may wait for one.
    pub(crate) fn new(trial: Duration) -> Avoided {
        Avoided { trial, failing: Mutex::default() }
    }

    /// True if `peer` may be asked now. For one whose time has come, true once: others wait for how that goes.
    pub(crate) fn may_ask(&self, peer: NodeId, now: Instant) -> bool {
        self.failing.lock().get_mut(&peer).is_none_or(|breaker| breaker.gate(self.trial, now) != Gate::Shut)
    }

    /// `peer` answered.
    pub(crate) fn answered(&self, peer: NodeId, now: Instant) {
        if let Some(breaker) = self.failing.lock().get_mut(&peer) {
            breaker.answered(now);
        }
    }

    /// `peer`, asked at `asked`, could not be reached or said nothing.
    pub(crate) fn failed(&self, peer: NodeId, asked: Instant, now: Instant) {
        let mut failing = self.failing.lock();
        if failing.len() >= PEERS_MAX && !failing.contains_key(&peer) {
            failing.clear();
        }
        failing.entry(peer).or_default().failed(asked, now);
    }
}

#[cfg(test)]
mod tests {
    use shoal_runtime::clock;

    use super::*;

    const PEER: NodeId = NodeId([1; 16]);

    #[test]
    fn a_peer_that_failed_is_left_alone_and_one_that_answers_is_forgiven() {
        let (avoided, start) = (Avoided::new(Duration::from_secs(1)), clock::now());
        assert!(avoided.may_ask(PEER, start));
        avoided.failed(PEER, start, start);
        assert!(!avoided.may_ask(PEER, start) && avoided.may_ask(NodeId([2; 16]), start));
        let later = start + Duration::from_secs(20);
        assert!(avoided.may_ask(PEER, later) && !avoided.may_ask(PEER, later), "one fill tries it");
        avoided.answered(PEER, later);
        assert!(avoided.may_ask(PEER, later) && avoided.may_ask(PEER, later));
    }
}
