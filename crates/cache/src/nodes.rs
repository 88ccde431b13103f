//! The nodes of the ring as a client meets them: whom to ask for a block, and how long to wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_cluster::{Member, ViewWatch};
use shoal_net::{Endpoint, NetError};
use shoal_runtime::clock;
use shoal_types::{BlockKey, ErrorKind};
use shoal_wire::Status;

use crate::health::Health;
use crate::metrics::SkipReason;

/// How a client reaches the ring.
#[derive(Debug, Clone)]
pub struct Peers {
    /// The socket requests go out on.
    pub endpoint: Endpoint,
    /// Who is in the ring.
    pub views: ViewWatch,
}

/// The ring, with what this client has learned about its nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) peers: Peers,
    /// How many owners of a block are asked before the origin.
    pub(crate) replicas: usize,
    /// Longest time without progress.
    pub(crate) patience: Duration,
    health: Health,
}

/// A node did not give what it was asked for.
#[derive(Debug)]
pub(crate) struct Skip {
    pub(crate) reason: SkipReason,
    /// True if the node itself seems unwell, so that it is left alone for a while: it was not reached, said nothing, or gave
    /// damaged bytes. A node that answers with a reason is well.
    pub(crate) unwell: bool,
}

impl Skip {
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
        Skip { reason, unwell: false }
    }

    /// The node's bytes or lengths cannot be right.
    pub(crate) fn corrupt() -> Skip {
        Skip { reason: SkipReason::Corrupt, unwell: true }
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
        Skip { reason, unwell: true }
    }
}

impl Nodes {
    pub(crate) fn new(peers: Peers, replicas: usize, patience: Duration) -> Nodes {
        Nodes { peers, replicas, patience, health: Health::new(patience) }
    }

    /// The owners of `key`, owner first, and the epoch of the view that says so.
    pub(crate) fn owners(&self, key: &BlockKey) -> (Vec<Arc<Member>>, u64) {
        let view = self.peers.views.current();
        (view.owners(key, self.replicas), view.epoch())
    }

    /// False for a node that failed a moment ago: it is left alone for a while.
    pub(crate) fn may_ask(&self, node: &Member) -> bool {
        self.health.may_ask(node.id, clock::now())
    }

    /// Remembers how asking `node` at `asked` went.
    pub(crate) fn note(&self, node: &Member, asked: Instant, result: &Result<(), Skip>) {
        match result {
            Err(Skip { unwell: true, .. }) => self.health.failed(node.id, asked, clock::now()),
            Ok(()) | Err(_) => self.health.answered(node.id),
        }
    }

    /// What a node gives within the time it may be silent.
    pub(crate) async fn patient<T>(&self, answer: impl Future<Output = Result<T, NetError>>) -> Result<T, Skip> {
        match clock::timeout(self.patience, answer).await {
            Ok(result) => result.map_err(|error| Skip::failed(&error)),
            Err(_) => Err(Skip { reason: SkipReason::Timeout, unwell: true }),
        }
    }
}
