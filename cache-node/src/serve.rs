//! What the node answers: blocks, presence, warm-up, its state, the ring.

use std::net::SocketAddr;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_cache::NodeCache;
use shoal_cache::serve::{answer_get, answer_has, answer_warm};
use shoal_cluster::Cluster;
use shoal_net::{GetSink, PeerIdentity, ResponseSink, Service};
use shoal_runtime::clock;
use shoal_store::Store;
use shoal_types::{NodeId, OriginId};
use shoal_wire::{GetRequest, NodeStat, Request, Response};

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
}

#[async_trait]
impl Service for NodeService {
    async fn get(&self, _peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        answer_get(&self.cache, request, out).await;
    }

    async fn call(&self, _peer: &PeerIdentity, request: Request, out: &mut ResponseSink) {
        let sent = match request {
            Request::Has { keys } => out.send(answer_has(&self.cache, &keys)).await,
            Request::Warm { keys } => return answer_warm(&self.cache, keys, out).await,
            Request::Stat => out.send(Response::Stat(self.stat())).await,
            Request::View => out.send(Response::View(self.cluster.encoded_view())).await,
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
