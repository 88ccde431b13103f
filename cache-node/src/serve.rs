//! What the node answers: blocks, presence, warm-up, its state, the ring.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_cache::NodeCache;
use shoal_cache::serve::{answer_get, answer_has, answer_warm};
use shoal_cluster::Cluster;
use shoal_net::{GetSink, PeerIdentity, ResponseSink, Role, Service};
use shoal_store::Store;
use shoal_types::{NodeId, OriginId};
use shoal_wire::{GetRequest, NodeStat, Request, Response, Status};

use crate::drain::Drain;

/// The node's side of every request.
pub(crate) struct NodeService {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) addr: SocketAddr,
    pub(crate) cache: NodeCache,
    pub(crate) store: Store,
    pub(crate) cluster: Cluster,
    pub(crate) origins: Vec<OriginId>,
    pub(crate) drain: Arc<Drain>,
    pub(crate) started: Instant,
}

impl NodeService {
    fn stat(&self) -> NodeStat {
        let (store, counts, view) = (self.store.stats(), self.cache.counts(), self.cluster.views().current());
        let me = view.member(self.id);
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
            zone: me.map_or_else(String::new, |me| me.zone.clone()),
            weight: me.map_or(0, |me| me.weight),
            leaving: me.is_none_or(|me| me.leaving),
        }
    }
}

#[async_trait]
impl Service for NodeService {
    async fn get(&self, _peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        answer_get(&self.cache, request, out).await;
    }

    async fn call(&self, peer: &PeerIdentity, request: Request, out: &mut ResponseSink) {
        let sent = match request {
            Request::Has { keys } => out.send(answer_has(&self.cache, &keys)).await,
            Request::Warm { keys, from } => return answer_warm(&self.cache, keys, giver(peer, from), out).await,
            Request::Drain if peer.role == Role::Node => return self.drain.answer(out).await,
            Request::Drain => {
                tracing::warn!(%peer, "a client asked this node to leave the ring; refused");
                let message = "only the holder of a node's certificate may drain a node".to_owned();
                out.send(Response::Error { status: Status::Denied, message }).await
            }
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

/// The peer that `peer` says has the blocks: a client that could name one could have this node ask whatever address it likes.
fn giver(peer: &PeerIdentity, from: Option<SocketAddr>) -> Option<SocketAddr> {
    from.filter(|_| peer.role == Role::Node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_may_say_who_gives_blocks() {
        let from = Some(SocketAddr::from(([10, 0, 0, 1], 7100)));
        let peer = |role| PeerIdentity { role, group: "group".into(), name: "name".into() };
        assert_eq!(giver(&peer(Role::Node), from), from);
        assert_eq!(giver(&peer(Role::Client), from), None);
        assert_eq!(giver(&peer(Role::Node), None), None);
    }
}
