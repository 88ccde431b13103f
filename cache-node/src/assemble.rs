//! Puts a node together: store, origins, endpoint, membership, cache, service. Nothing else in this crate knows them all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use shoal_cache::{HandOver, NodeCache, NodeCacheConfig, Origins};
use shoal_cluster::{Cluster, ClusterConfig, Member, Timing};
use shoal_net::{Credentials, Endpoint, EndpointConfig, Renewal, Role};
use shoal_object::ObjectOptions;
use shoal_runtime::hangup::Hangups;
use shoal_runtime::http::Readiness;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, http, metrics::Registry, task};
use shoal_store::{DirConfig, GroupRule, Store, StoreConfig};
use shoal_types::{ByteSize, NodeId, OriginId};
use shoal_volume::{Volume, open_bucket};
use tokio::sync::watch;

use crate::config::{CacheDir, KeyRule, NodeConfig};
use crate::drain::Drain;
use crate::metrics::NodeMetrics;
use crate::serve::NodeService;

/// Share of the memory limit that fills from the origin may take; the rest is the RAM tier.
const FILL_SHARE: u64 = 4;

/// A running node.
pub struct Node {
    id: NodeId,
    addr: SocketAddr,
    admin: Option<SocketAddr>,
    cluster: Cluster,
    endpoint: Endpoint,
    store: Store,
    cache: NodeCache,
    drain: Arc<Drain>,
    drain_timeout: Duration,
    readiness: Readiness,
    metrics: NodeMetrics,
    renewal: Option<Renewal>,
    /// Ends what works in the background.
    ended: Shutdown,
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
        self.admin
    }

    /// What a script waits for: `shoal-node ready id=.. addr=.. metrics=..`.
    pub fn ready_line(&self) -> String {
        let metrics = self.admin.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
        format!("shoal-node ready id={} addr={} metrics={metrics}", self.id, self.addr)
    }

    /// Returns once a peer has asked this node to leave. Cancel-safe.
    pub(crate) async fn asked_to_leave(&self) {
        self.drain.asked().await;
    }

    /// Takes certificates into use that are replaced while the node runs: at once after each of `hangups`, else within a minute.
    pub(crate) fn renew_certificates(&mut self, mut hangups: Hangups) {
        let Some(mut renewal) = self.renewal.take() else { return };
        let ended = self.ended.clone();
        task::spawn("node-certificates", async move {
            loop {
                tokio::select! {
                    () = ended.wait() => return,
                    () = hangups.next() => renewal.reload().await,
                    () = renewal.follow() => {}
                }
            }
        });
    }

    /// Owns nothing from now on, and hands its blocks over within the configured time. Peers and clients may still ask it.
    pub async fn drain(&self) {
        self.readiness.set(Some("draining"));
        self.metrics.draining.set(1);
        self.drain.run(&self.cluster, &self.cache, self.drain_timeout).await;
    }

    /// Leaves the ring, ends connections, closes the store.
    pub async fn stop(self) {
        self.cluster.leave().await;
        self.endpoint.close().await;
        self.store.close().await;
        self.ended.trigger();
    }
}

/// Starts a node; returns once it serves.
pub async fn start(config: NodeConfig) -> anyhow::Result<Node> {
    let (ended, readiness) = (Shutdown::new(), Readiness::not_yet("starting"));
    let registry = Registry::new();
    let credentials = credentials(&config)?;
    let identity = credentials.identity().clone();
    let name = identity.name.clone();
    let origins = open_origins(&config, &registry).await?;
    let store = Store::open(store_config(&config), &registry).await?;
    let id = store.node_id();

    let endpoint = EndpointConfig { mtu: config.mtu, ..EndpointConfig::new(config.listen, credentials) };
    let endpoint = Endpoint::bind(endpoint, &registry)?;
    let renewal = Renewal::new(endpoint.clone(), identity, &config.certs);
    let bound = endpoint.local_addr();
    let addr = advertised(&config, bound);
    // Before the ring hears of this node: what can fail here would leave it waiting for one that is not there.
    let admin = match config.metrics {
        Some(addr) => Some(
            http::serve_admin(addr, registry.clone(), readiness.clone(), ended.clone())
                .await
                .with_context(|| format!("cannot serve metrics on {addr}; choose another address with --metrics"))?,
        ),
        None => None,
    };
    let cluster = Cluster::start(cluster_config(&config, id, &name, addr), endpoint.clone(), &registry)?;
    let ids: Vec<OriginId> = origins.ids();
    keep_rules(&store, &ids, &config.rules).await;
    let (views, peers) = (cluster.views(), Some(endpoint.clone()));
    let cache = NodeCache::new(cache_config(&config, id), store.clone(), origins, views, peers, &registry);
    let drain = Arc::new(Drain::new());
    endpoint.serve(Arc::new(NodeService {
        id,
        name,
        addr,
        cache: cache.clone(),
        store: store.clone(),
        cluster: cluster.clone(),
        origins: ids,
        drain: drain.clone(),
        started: clock::now(),
    }));
    follow_ring(cache.clone(), ended.clone());
    readiness.set(None);

    tracing::info!(%id, %addr, memory = %ByteSize(config.memory), weight = config.weight, zone = config.zone, "node is up");
    Ok(Node {
        id,
        addr,
        admin,
        cluster,
        endpoint,
        store,
        cache,
        drain,
        drain_timeout: config.drain_timeout,
        readiness,
        metrics: NodeMetrics::register(&registry),
        renewal: Some(renewal),
        ended,
    })
}

/// Hands blocks over that other nodes own after a change of the ring.
fn follow_ring(cache: NodeCache, ended: Shutdown) {
    task::spawn("node-hand-over", async move {
        let progress = watch::Sender::new(HandOver::default());
        cache.follow_ring(&progress, &ended).await;
    });
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
    let dir = |dir: &CacheDir| DirConfig { path: dir.path.clone(), bytes: dir.bytes, free_ratio: config.free_space };
    StoreConfig {
        memory: config.memory - config.memory / FILL_SHARE,
        dirs: config.cache_dirs.iter().map(dir).collect(),
        io: config.io,
        admission: config.admission,
        scrub_rate: config.scrub_rate,
        ..StoreConfig::default()
    }
}

fn cluster_config(config: &NodeConfig, id: NodeId, name: &str, addr: SocketAddr) -> ClusterConfig {
    let me = Member {
        weight: config.weight,
        capacity: config.capacity(),
        zone: config.zone.clone(),
        ..Member::new(id, name, addr)
    };
    let state_dir = config.cache_dirs.first().map(|dir| dir.path.clone());
    ClusterConfig { me, seeds: config.join.clone(), state_dir, timing: Timing::default() }
}

fn cache_config(config: &NodeConfig, me: NodeId) -> NodeCacheConfig {
    NodeCacheConfig {
        fill_memory: config.memory / FILL_SHARE,
        fill: config.fill,
        handover_window: config.handover_window,
        peer_patience: config.peer_patience,
        ..NodeCacheConfig::new(me)
    }
}

/// Puts the configured rules in force for every origin, in place of those of the last run.
async fn keep_rules(store: &Store, origins: &[OriginId], rules: &[KeyRule]) {
    let of = |origin: OriginId| {
        rules.iter().map(move |KeyRule { prefix, pin, ttl }| GroupRule {
            origin,
            prefix: prefix.clone(),
            pin: *pin,
            ttl: *ttl,
        })
    };
    if let Err(error) = store.set_rules(origins.iter().copied().flat_map(of).collect()).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "rules for pinned and aging blocks");
    }
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
