//! What the node answers: blocks, presence, warm-up, its state, the ring.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use shoal_cache::serve::answer_get;
use shoal_cache::{CacheError, NodeCache, Warmed};
use shoal_cluster::Cluster;
use shoal_net::{GetSink, NetError, PeerIdentity, ResponseSink, Service};
use shoal_runtime::clock;
use shoal_store::Store;
use shoal_types::{BlockKey, Ctx, NodeId, OriginId};
use shoal_wire::{GetRequest, NodeStat, Request, Response};

/// Blocks one warm-up request fills at once: enough to hide the origin's latency, few enough to leave it to others.
const WARM_AT_ONCE: usize = 16;

/// How often a warm-up says how far it is.
const WARM_PROGRESS: Duration = Duration::from_millis(500);

/// The node's side of every request.
pub(crate) struct NodeService {
    id: NodeId,
    name: String,
    addr: SocketAddr,
    cache: NodeCache,
    store: Store,
    cluster: Cluster,
    origins: Vec<OriginId>,
    started: Instant,
}

impl NodeService {
    pub(crate) fn new(
        id: NodeId,
        name: String,
        addr: SocketAddr,
        cache: NodeCache,
        store: Store,
        cluster: Cluster,
        origins: Vec<OriginId>,
    ) -> NodeService {
        NodeService { id, name, addr, cache, store, cluster, origins, started: clock::now() }
    }

    fn stat(&self) -> NodeStat {
        let (store, counts, view) = (self.store.stats(), self.cache.counts(), self.cluster.views().current());
        NodeStat {
            id: self.id,
            name: self.name.clone(),
            addr: self.addr,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            ram_used: store.ram_used,
            ram_limit: store.ram_limit,
            nvme_used: store.nvme_used,
            nvme_limit: store.nvme_limit,
            blocks: store.blocks,
            evictions: store.evictions,
            reads_by_tier: counts.reads,
            bytes_by_tier: counts.bytes,
            origin_requests: counts.origin_requests,
            epoch: view.epoch(),
            members: view.members.len() as u32,
            origins: self.origins.clone(),
            errors: counts.errors,
        }
    }

    /// Fills every block of `keys` that is not here yet; says how far it is until the last word.
    async fn warm(&self, keys: Vec<BlockKey>, out: &mut ResponseSink) -> Result<(), NetError> {
        let mut tally = Tally::default();
        let mut told = clock::now();
        let cache = self.cache.clone();
        let work = stream::iter(keys).map(move |key| {
            let cache = cache.clone();
            async move { cache.warm(&WARM_CTX, &key).await }
        });
        let work = work.buffer_unordered(WARM_AT_ONCE);
        futures::pin_mut!(work);
        while let Some(outcome) = work.next().await {
            tally.note(outcome);
            if told.elapsed() >= WARM_PROGRESS {
                told = clock::now();
                out.send(tally.progress(false)).await?;
            }
        }
        out.send(tally.progress(true)).await
    }
}

const WARM_CTX: Ctx = Ctx::warm_up();

/// Counts of one warm-up request.
#[derive(Default)]
struct Tally {
    already: u64,
    fetched: u64,
    failed: u64,
    bytes: u64,
    first_error: String,
}

impl Tally {
    fn note(&mut self, outcome: Result<Warmed, CacheError>) {
        match outcome {
            Ok(Warmed::Already) => self.already += 1,
            Ok(Warmed::Fetched(bytes)) => {
                self.fetched += 1;
                self.bytes += bytes;
            }
            Err(error) => {
                self.failed += 1;
                if self.first_error.is_empty() {
                    self.first_error = error.to_string();
                }
            }
        }
    }

    fn progress(&self, last: bool) -> Response {
        Response::WarmProgress {
            done: self.already + self.fetched + self.failed,
            already: self.already,
            fetched: self.fetched,
            failed: self.failed,
            bytes: self.bytes,
            last,
            first_error: self.first_error.clone(),
        }
    }
}

#[async_trait]
impl Service for NodeService {
    async fn get(&self, _peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        answer_get(&self.cache, request, out).await;
    }

    async fn call(&self, _peer: &PeerIdentity, request: Request, out: &mut ResponseSink) {
        let sent = match request {
            Request::Has { keys } => out.send(Response::Has { tiers: self.cache.has(&keys) }).await,
            Request::Warm { keys } => self.warm(keys, out).await,
            Request::Stat => out.send(Response::Stat(self.stat())).await,
            Request::View => out.send(Response::View(self.cluster.views().current().encode())).await,
            Request::Watch => return self.cluster.serve_watch(out).await,
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "the peer went away before its answer");
        }
    }

    fn gossip(&self, _peer: &PeerIdentity, data: Bytes) {
        self.cluster.on_gossip(data);
    }
}
