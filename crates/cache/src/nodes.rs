//! The nodes of the ring as a client meets them: whom to ask for a block in which order, and what failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_cluster::{Member, ViewWatch};
use shoal_net::{Endpoint, NetError};
use shoal_runtime::ranked::RankedBudget;
use shoal_runtime::rng;
use shoal_types::{BlockKey, ErrorKind};
use shoal_wire::Status;

use crate::hedge::Allowance;
use crate::metrics::{Meter, SkipReason};
use crate::spread::Hints;
use crate::standing::{Patience, Standing, Standings};

/// How a client reaches the ring.
#[derive(Debug, Clone)]
pub struct Peers {
    /// The socket requests go out on.
    pub endpoint: Endpoint,
    /// Who is in the ring.
    pub views: ViewWatch,
}

/// Bytes asked of one node at once, at most, in a ring of several: four blocks of 4 MiB fill 10 Gbit/s at 13 ms, and what waits
/// there for us does not stand in the way of others. In a ring of fewer than four nodes its share of all bytes in flight is more.
const NODE_IN_FLIGHT: u64 = 16 << 20;

/// How a client uses the ring.
#[derive(Debug, Clone)]
pub(crate) struct NodesConfig {
    /// How many owners of a block are asked before the origin, at least 1.
    pub(crate) replicas: usize,
    /// The base of everything a node is waited for.
    pub(crate) peer_timeout: Duration,
    /// Bytes asked of all nodes and not yet received, at most.
    pub(crate) in_flight: u64,
    /// Bytes asked for twice, in percent of those delivered.
    pub(crate) hedge_percent: u8,
    /// Owners in this zone come first.
    pub(crate) zone: Option<String>,
}

/// The ring, with what this client has learned about its nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) peers: Peers,
    pub(crate) patience: Patience,
    pub(crate) standings: Standings,
    /// For bytes asked of all nodes and not yet received.
    pub(crate) in_flight: RankedBudget,
    pub(crate) allowance: Allowance,
    pub(crate) hints: Hints,
    replicas: usize,
    zone: Option<String>,
}

/// Whom to ask for one block.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order in which they are asked.
    pub(crate) owners: Vec<Arc<Member>>,
    /// Of the view that says so.
    pub(crate) epoch: u64,
    /// Among how many owners the first was chosen; 0 is the plain rule.
    pub(crate) spread: u8,
}

/// A node did not give what it was asked for.
#[derive(Debug)]
pub(crate) struct Skip {
    pub(crate) reason: SkipReason,
    /// True if the node itself seems unwell, so that it is left alone for a while: it was not reached, said nothing, or gave
    /// damaged bytes. A node that answers with a reason is well.
    pub(crate) unwell: bool,
    /// When a busy node may have room; zero if it did not say.
    pub(crate) retry: Duration,
}

impl Skip {
    fn new(reason: SkipReason, unwell: bool) -> Skip {
        Skip { reason, unwell, retry: Duration::ZERO }
    }

    /// The node answered something else than `Ok`.
    pub(crate) fn answered(status: Status) -> Skip {
        let reason = match status {
            Status::NotFound => SkipReason::NotFound,
            Status::NotOwner => SkipReason::NotOwner,
            Status::Busy => SkipReason::Busy,
            Status::Unavailable => SkipReason::Unavailable,
            Status::Corrupt => SkipReason::Corrupt,
            Status::Timeout => SkipReason::Timeout,
            Status::Denied => SkipReason::Denied,
            Status::Ok | Status::Invalid | Status::Internal | Status::Conflict => SkipReason::Other,
        };
        Skip::new(reason, false)
    }

    /// The node is at its limits and may have room after `retry`.
    pub(crate) fn busy(retry: Duration) -> Skip {
        Skip { retry, ..Skip::new(SkipReason::Busy, false) }
    }

    /// The node's bytes or lengths cannot be right.
    pub(crate) fn corrupt() -> Skip {
        Skip::new(SkipReason::Corrupt, true)
    }

    /// Nothing came for as long as a node may be silent, whatever it says.
    pub(crate) fn silent() -> Skip {
        Skip::new(SkipReason::Timeout, true)
    }

    /// Asking failed before the node could give an answer, or while it did.
    pub(crate) fn failed(error: &NetError) -> Skip {
        if let NetError::Reset { status, .. } | NetError::Answered { status, .. } = error {
            return Skip::answered(*status);
        }
        let reason = match error.kind() {
            ErrorKind::Unavailable => SkipReason::Unavailable,
            ErrorKind::Timeout => SkipReason::Timeout,
            ErrorKind::Corrupt => SkipReason::Corrupt,
            ErrorKind::Denied => SkipReason::Denied,
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::Invalid
            | ErrorKind::NoSpace
            | ErrorKind::Cancelled
            | ErrorKind::Internal => SkipReason::Other,
        };
        Skip::new(reason, true)
    }
}

impl Nodes {
    pub(crate) fn new(peers: Peers, config: NodesConfig, meter: &Meter) -> Nodes {
        let patience = Patience::new(config.peer_timeout);
        Nodes {
            peers,
            patience,
            standings: Standings::new(patience, meter.avoided()),
            in_flight: RankedBudget::new(config.in_flight),
            allowance: Allowance::new(config.hedge_percent),
            hints: Hints::new(rng::random_u64()),
            replicas: config.replicas.max(1),
            zone: config.zone,
        }
    }

    /// The owners of `key` by the plain rule, owner first, and the epoch of the view that says so.
    pub(crate) fn owners(&self, key: &BlockKey) -> (Vec<Arc<Member>>, u64) {
        let view = self.peers.views.current();
        (view.owners(key, self.replicas), view.epoch())
    }

    /// Whom to ask for `key`: owners in this client's zone first; of a block in demand one of many owners, picked by who asks, and
    /// then the usual ones.
    pub(crate) fn plan(&self, key: &BlockKey, now: Instant) -> Plan {
        let view = self.peers.views.current();
        self.standings.forget_gone(&view, now);
        let spread = self.hints.spread(key, now);
        let count = self.replicas.max(spread.into());
        let mut owners = match &self.zone {
            Some(zone) => view.owners_near(key, count, zone),
            None => view.owners(key, count),
        };
        let mut among = owners.len().min(spread.into());
        if let Some(zone) = &self.zone {
            let near = owners.iter().take_while(|owner| owner.zone == *zone).count();
            among = if near > 0 { among.min(near) } else { among };
        }
        if among > 1 {
            let picked = owners.remove(self.hints.pick(key.id(), among));
            owners.insert(0, picked);
            owners.truncate(self.replicas + 1);
        }
        Plan { owners, epoch: view.epoch(), spread }
    }

    /// What is known of `node`.
    pub(crate) fn standing(&self, node: &Member) -> Arc<Standing> {
        self.standings.of(node.id, || {
            let members = self.peers.views.current().members.len().max(1) as u64;
            let all = self.in_flight.limit();
            (all / members).max(NODE_IN_FLIGHT).min(all)
        })
    }
}
