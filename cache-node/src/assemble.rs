//! Puts a node together: store, origins, endpoint, membership, cache, service. Nothing else in this crate knows them all.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use shoal_cache::{NodeCache, NodeCacheConfig, Origins};
use shoal_cluster::{Cluster, ClusterConfig, Member, Timing};
use shoal_net::{Credentials, Endpoint, EndpointConfig, Role};
use shoal_object::ObjectOptions;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, http, metrics::Registry};
use shoal_store::{DirConfig, Store, StoreConfig};
use shoal_types::{ByteSize, NodeId, OriginId};
use shoal_volume::{Volume, open_bucket};

use crate::config::NodeConfig;
use crate::serve::NodeService;

/// Share of the memory limit that fills from the origin may take; the rest is the RAM tier.
const FILL_SHARE: u64 = 4;

/// A running node.
pub struct Node {
    id: NodeId,
    addr: SocketAddr,
    metrics: Option<SocketAddr>,
    cluster: Cluster,
    endpoint: Endpoint,
    store: Store,
}

impl Node {
    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Address others reach it at.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Address of its metrics page.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// What a script waits for: `shoal-node ready id=.. addr=.. metrics=..`.
    pub fn ready_line(&self) -> String {
        let metrics = self.metrics.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
        format!("shoal-node ready id={} addr={} metrics={metrics}", self.id, self.addr)
    }

    /// Leaves the ring, ends connections, closes the store.
    pub async fn stop(self) {
        self.cluster.leave().await;
        self.endpoint.close().await;
        self.store.close().await;
    }
}

/// Starts a node; returns once it serves.
pub async fn start(config: NodeConfig, shutdown: Shutdown) -> anyhow::Result<Node> {
    let registry = Registry::new();
    let credentials = credentials(&config)?;
    let name = credentials.identity().name.clone();
    let origins = open_origins(&config, &registry).await?;
    let store = Store::open(store_config(&config), &registry).await?;
    let state_dir = config.cache_dirs.first().map(|dir| dir.path.clone());
    let id = store.node_id();

    let endpoint = Endpoint::bind(EndpointConfig::new(config.listen, credentials), &registry)?;
    let bound = endpoint.local_addr();
    let addr = advertised(&config, bound);
    let me = Member {
        id,
        name: name.clone(),
        addr,
        weight: config.weight,
        capacity: config.cache_dirs.iter().map(|dir| dir.bytes).sum(),
        zone: config.zone.clone(),
        incarnation: clock::unix_now().as_millis() as u64,
    };
    // Before the ring hears of this node: what can fail here would leave it waiting for one that is not there.
    let metrics = match config.metrics {
        Some(addr) => Some(
            http::serve_metrics(addr, registry.clone(), shutdown)
                .await
                .with_context(|| format!("cannot serve metrics on {addr}; choose another address with --metrics"))?,
        ),
        None => None,
    };
    let cluster = ClusterConfig { me, seeds: config.join.clone(), state_dir, timing: Timing::default() };
    let cluster = Cluster::start(cluster, endpoint.clone(), &registry)?;
    let cache_config = NodeCacheConfig { fill_memory: config.memory / FILL_SHARE, ..NodeCacheConfig::new(id) };
    let ids: Vec<OriginId> = origins.ids();
    let cache = NodeCache::new(cache_config, store.clone(), origins, cluster.views(), &registry);
    let service = NodeService::new(id, name, addr, cache, store.clone(), cluster.clone(), ids);
    endpoint.serve(Arc::new(service));

    tracing::info!(%id, %addr, memory = %ByteSize(config.memory), "node is up");
    Ok(Node { id, addr, metrics, cluster, endpoint, store })
}

fn credentials(config: &NodeConfig) -> anyhow::Result<Credentials> {
    let credentials = Credentials::load(&config.certs)?;
    let identity = credentials.identity();
    ensure!(
        identity.role == Role::Node,
        "the certificate in {} is a client's; make a node's with `shoal cert node`",
        config.certs.display()
    );
    if let Some(group) = &config.group {
        ensure!(
            *group == identity.group,
            "--group is `{group}` but the certificate in {} is of group `{}`",
            config.certs.display(),
            identity.group
        );
    }
    Ok(credentials)
}

fn store_config(config: &NodeConfig) -> StoreConfig {
    let dirs = config.cache_dirs.iter().map(|dir| DirConfig { path: dir.path.clone(), bytes: dir.bytes }).collect();
    StoreConfig { memory: config.memory - config.memory / FILL_SHARE, dirs, io: config.io, ..StoreConfig::default() }
}

/// The address to tell others: the one configured, with the port bound where none was chosen.
fn advertised(config: &NodeConfig, bound: SocketAddr) -> SocketAddr {
    let addr = config.advertise.unwrap_or(config.listen);
    if addr.port() == 0 { SocketAddr::new(addr.ip(), bound.port()) } else { addr }
}

async fn open_origins(config: &NodeConfig, registry: &Registry) -> anyhow::Result<Origins> {
    let origins = Origins::default();
    for url in &config.volumes {
        let (origin, objects) = Volume::open_origin(url, &ObjectOptions::default(), registry).await?;
        origins.add(origin, objects);
    }
    for url in &config.buckets {
        let bucket = open_bucket(url, &ObjectOptions::default(), registry).await?;
        origins.add(bucket.origin, bucket.objects);
    }
    Ok(origins)
}
