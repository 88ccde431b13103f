//! The connections that are open, for metrics and for closing them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::link::Connection;
use crate::metrics::NetMetrics;

/// Who made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Inbound,
    Outbound,
}

struct Tracked {
    connection: Connection,
    direction: Direction,
    /// Counts of the connection that are in the metrics already.
    lost_packets: u64,
    black_holes: u64,
}

/// Every open connection of one endpoint.
pub(crate) struct Tracker {
    open: Mutex<HashMap<usize, Tracked>>,
    inbound: AtomicUsize,
    metrics: Arc<NetMetrics>,
}

impl Tracker {
    pub(crate) fn new(metrics: Arc<NetMetrics>) -> Tracker {
        Tracker { open: Mutex::new(HashMap::new()), inbound: AtomicUsize::new(0), metrics }
    }

    /// Connections of peers that are open.
    pub(crate) fn inbound(&self) -> usize {
        self.inbound.load(Ordering::Relaxed)
    }

    /// Tracks `connection` until it ends, and gives why it ended.
    pub(crate) async fn watch(&self, connection: Connection, direction: Direction) -> quinn::ConnectionError {
        let id = connection.stable_id();
        let closed = {
            let connection = connection.clone();
            async move { connection.closed().await }
        };
        self.open.lock().insert(id, Tracked { connection, direction, lost_packets: 0, black_holes: 0 });
        match direction {
            Direction::Inbound => {
                self.inbound.fetch_add(1, Ordering::Relaxed);
                self.metrics.inbound.inc();
            }
            Direction::Outbound => self.metrics.outbound.inc(),
        }
        let _untrack = Untrack { tracker: self, id };
        closed.await
    }

    /// Brings the metrics about paths up to date.
    pub(crate) fn scrape(&self) {
        let smallest = self.open.lock().values_mut().map(|tracked| tracked.scrape(&self.metrics)).min();
        self.metrics.smallest_mtu.set_u64(smallest.unwrap_or(0).into());
    }
}

impl Tracked {
    /// Adds what was not counted yet; gives the size of packets in use.
    fn scrape(&mut self, metrics: &NetMetrics) -> u16 {
        let path = self.connection.stats().path;
        metrics.lost_packets.add(path.lost_packets.saturating_sub(self.lost_packets));
        metrics.black_holes.add(path.black_holes_detected.saturating_sub(self.black_holes));
        (self.lost_packets, self.black_holes) = (path.lost_packets, path.black_holes_detected);
        path.current_mtu
    }
}

/// Ends the tracking of one connection, also when its watching task is dropped.
struct Untrack<'a> {
    tracker: &'a Tracker,
    id: usize,
}

impl Drop for Untrack<'_> {
    fn drop(&mut self) {
        let Some(mut tracked) = self.tracker.open.lock().remove(&self.id) else { return };
        tracked.scrape(&self.tracker.metrics);
        match tracked.direction {
            Direction::Inbound => {
                self.tracker.inbound.fetch_sub(1, Ordering::Relaxed);
                self.tracker.metrics.inbound.dec();
            }
            Direction::Outbound => self.tracker.metrics.outbound.dec(),
        }
    }
}
