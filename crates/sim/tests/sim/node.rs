//! One cache node: the parts of a real one, put together as the daemon does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_cache::{HandOver, NodeCache, NodeCacheConfig, Origins, serve};
use shoal_cluster::{Cluster, ClusterConfig, Member, Timing, View};
use shoal_net::sim::SimNet;
use shoal_net::{Endpoint, GetSink, PeerIdentity, ResponseSink, Role, Service};
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::simulation::Process;
use shoal_runtime::{rng, task};
use shoal_store::StoreConfig;
use shoal_store::testing::{FakeDisk, open_fake};
use shoal_types::{Ctx, NodeId};
use shoal_wire::{GetHead, GetRequest, Request, Response, Status};
use tokio::sync::watch;

use crate::blocks::ORIGIN;
use crate::ledger::Caller;
use crate::origin::Origin;
use crate::world::Bug;

/// Memory of a node: a few blocks, so that most are read from the disk. That keeps all it is given.
const MEMORY: u64 = 1 << 20;

/// Longest time for which a node that leaves hands its blocks over.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A running node.
pub struct Node {
    pub id: NodeId,
    pub addr: SocketAddr,
    /// How often it was started before.
    pub life: u32,
    pub process: Process,
    parts: Parts,
}

/// What runs in a node's process.
#[derive(Clone)]
struct Parts {
    cluster: Cluster,
    endpoint: Endpoint,
    cache: NodeCache,
}

/// Where node `number` lives.
pub fn addr(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 7070))
}

/// The id of node `number`.
pub fn id(number: u32) -> NodeId {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    NodeId(id)
}

/// What a node is started with.
pub struct Start {
    pub net: SimNet,
    pub origin: Origin,
    pub number: u32,
    pub life: u32,
    pub seeds: Vec<String>,
    pub disk: FakeDisk,
    pub bug: Option<Bug>,
}

impl Node {
    /// Starts a node in a process of its own.
    pub async fn start(start: Start) -> Node {
        let process = Process::new();
        let (number, life) = (start.number, start.life);
        let started = process.run(|| task::spawn("node", assemble(start)));
        let parts = started.await.unwrap();
        Node { id: id(number), addr: addr(number), life, process, parts }
    }

    /// Its view of the ring.
    pub fn view(&self) -> Arc<View> {
        self.parts.cluster.views().current()
    }

    /// Ends as by SIGKILL.
    pub fn kill(self, net: &SimNet) {
        net.crash(self.addr);
        self.process.kill();
    }

    /// Leaves as by SIGTERM.
    pub async fn leave(self) {
        let Parts { cluster, endpoint, cache } = self.parts;
        let leaving = self.process.run(|| {
            task::spawn("leave", async move {
                cluster.set_leaving().await;
                cache.drain(DRAIN_TIMEOUT, &watch::Sender::new(HandOver::default())).await;
                cluster.leave().await;
                endpoint.close().await;
            })
        });
        leaving.await.unwrap();
        self.process.kill();
    }
}

async fn assemble(start: Start) -> Parts {
    let Start { net, origin, number, life, seeds, disk, bug } = start;
    let registry = Registry::new();
    let (id, addr, name) = (id(number), addr(number), format!("n{number}"));
    let identity = PeerIdentity::new(Role::Node, "sim", &name).unwrap();
    let endpoint = Endpoint::simulated(&net, addr, identity, &registry).unwrap();
    let store = StoreConfig { memory: MEMORY, ..StoreConfig::default() };
    let store = open_fake(store, &registry, disk).await.unwrap();
    let timing = match bug {
        Some(Bug::ImmortalNodes) => Timing { suspect_for: Duration::from_secs(3600), ..Timing::default() },
        _ => Timing::default(),
    };
    let config = ClusterConfig { me: Member::new(id, &name, addr), seeds, state_dir: None, timing };
    let cluster = Cluster::start(config, endpoint.clone(), &registry).unwrap();
    let origins = Origins::default();
    origins.add(ORIGIN, origin.for_caller(Caller::Node(id, life), &registry));
    let (views, peers) = (cluster.views(), Some(endpoint.clone()));
    let make = move || {
        let (store, origins, views, peers) = (store.clone(), origins.clone(), views.clone(), peers.clone());
        NodeCache::new(NodeCacheConfig::new(id), store, origins, views, peers, &Registry::new())
    };
    let cache = make();
    let caches: Caches = match bug {
        Some(Bug::NoSingleFlight) => Box::new(make),
        _ => {
            let cache = cache.clone();
            Box::new(move || cache.clone())
        }
    };
    endpoint.serve(Arc::new(NodeService { caches, cluster: cluster.clone(), bug }));
    let follows = cache.clone();
    task::spawn("hand-over", async move {
        let progress = watch::Sender::new(HandOver::default());
        follows.follow_ring(&progress, &Shutdown::new()).await;
    });
    Parts { cluster, endpoint, cache }
}

/// As the daemon's.
struct NodeService {
    caches: Caches,
    cluster: Cluster,
    bug: Option<Bug>,
}

/// Gives the cache that answers a request: always the same, unless that is the bug.
type Caches = Box<dyn Fn() -> NodeCache + Send + Sync>;

/// Answers with a byte that is wrong, in a hundred answers once.
async fn answer_wrongly(cache: &NodeCache, request: GetRequest, out: &mut GetSink) {
    let Ok(mut stream) = cache.read(&Ctx::foreground(), &request.key, request.range).await else { return };
    // A peer that is gone is no error of ours.
    let _ = out.head(GetHead::ok(stream.tier, stream.block_len, stream.range)).await;
    while let Ok(Some(bytes)) = stream.next().await {
        let mut bytes = bytes.to_vec();
        bytes[0] ^= u8::from(rng::random_u64().is_multiple_of(100));
        let _ = out.send(bytes.into()).await;
    }
}

#[async_trait]
impl Service for NodeService {
    async fn get(&self, _peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        let cache = (self.caches)();
        match self.bug {
            Some(Bug::WrongBytes) => answer_wrongly(&cache, request, out).await,
            _ => serve::answer_get(&cache, request, out).await,
        }
    }

    async fn call(&self, _peer: &PeerIdentity, request: Request, out: &mut ResponseSink) {
        // Who asked may be gone.
        let _ = match request {
            Request::Has { keys } => out.send(serve::answer_has(&(self.caches)(), &keys)).await,
            Request::Warm { keys, from } => return serve::answer_warm(&(self.caches)(), keys, from, out).await,
            Request::View => out.send(Response::View(self.cluster.encoded_view())).await,
            Request::Watch => return self.cluster.serve_watch(out).await,
            Request::Drain | Request::Stat => {
                let message = "not in a simulation".to_owned();
                out.send(Response::Error { status: Status::Invalid, message }).await
            }
        };
    }

    fn gossip(&self, _peer: &PeerIdentity, data: Bytes) {
        self.cluster.on_gossip(data);
    }
}
