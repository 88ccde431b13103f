//! What an operator sees of membership.

use shoal_runtime::metrics::{Counter, Gauge, Registry};

use crate::membership::Event;
use crate::view::View;

/// The crate's metrics; cheap to clone.
#[derive(Clone)]
pub(crate) struct ClusterMetrics {
    members: Gauge,
    owners: Gauge,
    damped: Gauge,
    version: Gauge,
    epoch: Gauge,
    up: Counter,
    down: Counter,
    renewed: Counter,
    changed: Counter,
    rejoined: Counter,
    gossip_refused: Counter,
    gossip_dropped: Counter,
    watch_moves: Counter,
}

impl ClusterMetrics {
    pub(crate) fn register(registry: &Registry) -> ClusterMetrics {
        let changes = registry.counters(
            "shoal_cluster_changes_total",
            "Changes of membership seen by this process: a node came up, went down, began a new life, changed what it \
             says of itself; this node had to rejoin",
            &["kind"],
        );
        ClusterMetrics {
            members: registry.gauge("shoal_cluster_members", "Nodes in this process's view of the ring"),
            owners: registry.gauge("shoal_cluster_owners", "Nodes that own blocks: neither leaving nor damped"),
            damped: registry
                .gauge("shoal_cluster_damped", "1 while this node owns nothing because it came and went too often"),
            version: registry.gauge("shoal_cluster_view_version", "Views of the ring this process has seen"),
            epoch: registry.gauge(
                "shoal_cluster_epoch",
                "Top 53 bits of the ring's fingerprint: equal in all processes that agree on every owner",
            ),
            up: changes.with(&["up"]),
            down: changes.with(&["down"]),
            renewed: changes.with(&["renewed"]),
            changed: changes.with(&["changed"]),
            rejoined: changes.with(&["rejoined"]),
            gossip_refused: registry.counter(
                "shoal_cluster_gossip_refused_total",
                "Gossip packets that could not be read or were not for us",
            ),
            gossip_dropped: registry
                .counter("shoal_cluster_gossip_dropped_total", "Gossip packets dropped because the queue was full"),
            watch_moves: registry
                .counter("shoal_cluster_watch_moves_total", "Times a client had to find another node to follow"),
        }
    }

    pub(crate) fn published(&self, view: &View) {
        self.members.set_u64(view.members.len() as u64);
        self.owners.set_u64(view.ring.len() as u64);
        self.version.set_u64(view.version);
        // A scrape carries numbers as doubles, which hold 53 bits.
        self.epoch.set_u64(view.epoch() >> 11);
    }

    pub(crate) fn happened(&self, event: &Event) {
        match event {
            Event::Up(_) => self.up.inc(),
            Event::Down(_) => self.down.inc(),
            Event::Renewed(_) => self.renewed.inc(),
            Event::Damped(damped) => self.damped.set(i64::from(*damped)),
            Event::Changed(_) => self.changed.inc(),
            Event::Rejoined(_) => self.rejoined.inc(),
        }
    }

    pub(crate) fn gossip_refused(&self, packets: u64) {
        self.gossip_refused.add(packets);
    }

    pub(crate) fn gossip_dropped(&self) {
        self.gossip_dropped.inc();
    }

    pub(crate) fn watch_moved(&self) {
        self.watch_moves.inc();
    }
}
