//! A node's place in the ring: the handle that a cache node holds.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shoal_net::{Endpoint, ResponseSink};
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, task};
use shoal_wire::Response;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ClusterError;
use crate::member::Member;
use crate::metrics::ClusterMetrics;
use crate::owner::{Owner, Request};
use crate::remembered::Remembered;
use crate::seeds::Seed;
use crate::timing::Timing;
use crate::view::{View, ViewPublisher, ViewWatch};

/// Gossip packets that wait for the owner task; more are dropped, which gossip survives by design. Estimated, not measured: a
/// large ring sends one node some 30 packets a second, so this is half a minute of them.
const GOSSIP_QUEUE: usize = 1024;
/// Requests to the owner task that wait; each comes from a caller that waits too.
const REQUEST_QUEUE: usize = 16;

/// How a node joins.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// This node. An incarnation of 0 is replaced by the time of day.
    pub me: Member,
    /// Where nodes to join through are, as [`Seed`] reads them; looked up at every attempt. This node's own address may be among
    /// them. Without any, and without remembered members, this node is the first of its ring.
    pub seeds: Vec<String>,
    /// Where the members are remembered between runs; nowhere if `None`.
    pub state_dir: Option<PathBuf>,
    /// Paces; the same on all nodes.
    pub timing: Timing,
}

/// This node's membership of the ring. Cheap to clone.
///
/// Ends with [`Cluster::leave`] or [`Cluster::stop`], or when the last clone is dropped; an endpoint whose service holds a clone
/// is held by the membership in turn, so call one of the two.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    gossip: mpsc::Sender<Bytes>,
    requests: mpsc::Sender<Request>,
    views: ViewWatch,
    /// True once the seeds have been asked, whether or not they answered.
    settled: watch::Receiver<bool>,
    ended: Shutdown,
    metrics: ClusterMetrics,
    timing: Timing,
}

impl Cluster {
    /// Joins the ring in the background, and keeps trying; until a seed answers, the view holds only this node.
    ///
    /// Call it inside a tokio runtime, with an endpoint whose service hands gossip to [`Cluster::on_gossip`] and answers
    /// `View` and `Watch` from this cluster. Errors: `Invalid` for a description, seed or timing out of bounds.
    pub fn start(config: ClusterConfig, endpoint: Endpoint, registry: &Registry) -> Result<Cluster, ClusterError> {
        let ClusterConfig { mut me, seeds, state_dir, timing } = config;
        me.check()?;
        timing.check()?;
        let seeds = Seed::all(&seeds)?;
        let remembered = state_dir.as_deref().map(Remembered::load).unwrap_or_default();
        if me.incarnation == 0 {
            me.incarnation = clock::unix_now().as_millis() as u64;
        }
        me.incarnation = me.incarnation.max(remembered.incarnation.saturating_add(1));
        me.life = me.incarnation;
        let metrics = ClusterMetrics::register(registry);
        let publisher = ViewPublisher::new(View::new(1, vec![Arc::new(me.clone())]));
        metrics.published(&publisher.current());
        let (gossip, gossip_in) = mpsc::channel(GOSSIP_QUEUE);
        let (requests, requests_in) = mpsc::channel(REQUEST_QUEUE);
        let (settle, settled) = watch::channel(seeds.is_empty() && remembered.members.is_empty());
        let ended = Shutdown::new();
        let views = publisher.watch();
        let owner = Owner::new(me, seeds, state_dir, remembered, timing.clone(), endpoint, publisher, metrics.clone());
        let run = owner.run(gossip_in, requests_in, settle);
        let end = ended.clone();
        task::spawn("cluster-owner", async move {
            tokio::select! {
                biased;
                () = end.wait() => {}
                () = run => end.trigger(),
            }
        });
        let shared = Shared { gossip, requests, views, settled, ended, metrics, timing };
        Ok(Cluster { shared: Arc::new(shared) })
    }

    /// Takes a gossip packet from a peer whose certificate says it is a node. Never blocks.
    pub fn on_gossip(&self, data: Bytes) {
        if self.shared.gossip.try_send(data).is_err() {
            self.shared.metrics.gossip_dropped();
        }
    }

    /// The views of this node, now and as they change.
    pub fn views(&self) -> ViewWatch {
        self.shared.views.clone_seen()
    }

    /// The newest view as bytes: the answer to `Request::View`.
    pub fn encoded_view(&self) -> Bytes {
        self.shared.views.current().encode()
    }

    /// Answers `Request::Watch`: the view now, after every change, and an empty one as a sign of life at least every
    /// `Timing::watch_every`. Returns when the peer is gone or this node has left.
    ///
    /// The first view waits until the seeds have been asked, so that a restarted node does not tell clients it is alone.
    pub async fn serve_watch(&self, out: &mut ResponseSink) {
        tokio::select! {
            biased;
            () = self.shared.ended.wait() => {}
            () = self.send_views(out) => {}
        }
    }

    async fn send_views(&self, out: &mut ResponseSink) {
        let timing = &self.shared.timing;
        let mut settled = self.shared.settled.clone();
        let _ = clock::timeout(timing.call_timeout / 2, settled.wait_for(|settled| *settled)).await;
        let mut views = self.shared.views.clone_seen();
        let mut sent = 0;
        loop {
            let view = views.current();
            let bytes = if view.version == sent { Bytes::new() } else { view.encode() };
            sent = view.version;
            if out.send(Response::View(bytes)).await.is_err() {
                return;
            }
            let _ = clock::timeout(timing.watch_every, views.changed()).await;
        }
    }

    /// When the owners of some block last changed as this node sees it; its own start counts.
    pub fn changed_at(&self) -> Instant {
        self.shared.views.current().changed_at
    }

    /// Tells the ring that this node will leave: it owns nothing any more, in its own view when this returns and in all others
    /// within a second or so, and can still be asked for what it holds. There is no way back but a restart.
    pub async fn set_leaving(&self) {
        let (done, told) = oneshot::channel();
        if self.shared.requests.send(Request::SetLeaving(done)).await.is_ok() {
            let _ = told.await;
        }
    }

    /// Ends membership at once and without a goodbye, as a crash would: the ring notices by itself. Callable from anywhere.
    pub fn stop(&self) {
        self.shared.ended.trigger();
    }

    /// Tells the ring that this node leaves, waits `Timing::leave_for` for that to spread, and ends membership.
    ///
    /// Returns at once if it has ended already.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.shared.requests.send(Request::Leave(done)).await.is_ok() {
            let _ = left.await;
        }
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({:?})", self.shared.views.current())
    }
}
