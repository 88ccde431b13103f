//! A client's side of a volume: the ring followed, the cache before the object store, files on top.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shoal_cache::{ClientCache, ClientCacheConfig, Peers};
use shoal_cluster::{Follower, Seed, ViewWatch};
use shoal_meta::Session;
use shoal_net::{Credentials, Endpoint, EndpointConfig, Renewal};
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use shoal_types::BlockKey;
use shoal_vfs::{Vfs, VfsOptions, WriteParts};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::VolumeError;
use crate::open::Volume;

/// How a client reaches a ring.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// Group the certificate must be of, if one was named.
    pub group: Option<String>,
    /// Nodes to ask for the ring, `host:port`.
    pub seeds: Vec<String>,
    /// Directory with ca.pem, cert.pem and key.pem.
    pub certs: PathBuf,
    /// How long to wait for the first node to answer.
    pub patience: Duration,
}

/// How a client caches.
#[derive(Debug, Clone)]
pub struct AttachOptions {
    /// The ring; without one, blocks come from RAM and the object store alone.
    pub ring: Option<RingOptions>,
    /// Bytes of RAM for blocks, in flight and held.
    pub memory: u64,
    /// How long a node may make no progress on a block before the next place is asked.
    pub peer_timeout: Duration,
    /// Which nodes are read from.
    pub reads: RingReads,
    /// Of the files.
    pub vfs: VfsOptions,
    /// How it writes; without, the volume is only read.
    pub writes: Option<Writing>,
}

/// How a client writes.
#[derive(Debug, Clone)]
pub struct Writing {
    /// This client among the volume's writers.
    pub session: Session,
    /// Bytes of [`AttachOptions::memory`] for what is written and not stored yet; a quarter of it by default.
    pub memory: Option<u64>,
    /// Blocks on their way to the object store at once.
    pub uploads_max: usize,
    /// Blocks that were stored are offered to their owners on the ring.
    pub fill_group: bool,
}

/// Which of a block's owners a client reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RingReads {
    /// Owners in this zone are asked before others; `None` asks in the order of the ring.
    pub zone: Option<String>,
    /// Bytes that may be asked for twice because the first place is late, in percent of those delivered; 0 for none.
    pub hedge_percent: u8,
}

impl Default for RingReads {
    /// Those of the cache: no zone, 5 percent.
    fn default() -> RingReads {
        let ClientCacheConfig { zone, hedge_percent, .. } = ClientCacheConfig::default();
        RingReads { zone, hedge_percent }
    }
}

/// A client's connection to a ring. Cheap to clone.
#[derive(Clone)]
pub struct RingClient {
    /// For requests to nodes.
    pub endpoint: Endpoint,
    /// The ring as it is now.
    pub views: ViewWatch,
    /// Keeps the view fresh.
    _follower: Follower,
    /// Keeps the certificates fresh.
    _renewing: Arc<Renewing>,
}

/// Takes certificates into use that are replaced while the client runs; until it is dropped.
struct Renewing(JoinHandle<()>);

impl Renewing {
    fn start(mut renewal: Renewal) -> Renewing {
        Renewing(task::spawn("volume-certificates", async move { renewal.follow().await }))
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A volume with its cache and files.
#[derive(Clone)]
pub struct Attached {
    /// Its files.
    pub vfs: Vfs,
    /// Its blocks.
    pub cache: ClientCache,
    /// The ring, if there is one.
    pub ring: Option<RingClient>,
}

/// Share of the memory that one reader's read-ahead may take: blocks fetched ahead that push each other out are fetched twice.
const READAHEAD_SHARE: u64 = 8;

/// Share of the memory for what is written and not stored yet, where anything is written: with 1 GiB, and 4 MiB a block, 64 blocks
/// hide 100 ms of an object store at 2.5 GB/s.
const WRITE_SHARE: u64 = 4;

/// Stored blocks that wait to be offered, at most.
const STORED_UNHEARD_MAX: usize = 1024;

/// Shortest wait for a node's answer at the network level: what a caller's own patience may not undercut, since a miss waits for the
/// origin.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(10);

/// Connects to a ring whose nodes may be silent for `peer_timeout`. Errors: `Invalid` or `Denied` for certificates; `Unavailable` when no node answers in time.
pub async fn connect(
    options: &RingOptions,
    peer_timeout: Duration,
    registry: &Registry,
) -> Result<RingClient, VolumeError> {
    let credentials = Credentials::load(&options.certs)?;
    let identity = credentials.identity().clone();
    let group = &identity.group;
    if let Some(wanted) = &options.group
        && wanted != group
    {
        return Err(VolumeError::WrongGroup {
            wanted: wanted.clone(),
            certs: options.certs.clone(),
            group: group.clone(),
        });
    }
    let listen = local_address(&options.seeds, options.patience).await;
    let silence = peer_timeout.max(ANSWER_TIMEOUT_MIN);
    let config = EndpointConfig {
        answer_timeout: silence,
        body_idle_timeout: silence,
        ..EndpointConfig::new(listen, credentials)
    };
    let endpoint = Endpoint::bind(config, registry)?;
    let follower = Follower::start(options.seeds.clone(), endpoint.clone(), options.patience, registry).await?;
    let renewing = Renewing::start(Renewal::new(endpoint.clone(), identity, &options.certs));
    Ok(RingClient { endpoint, views: follower.views(), _follower: follower, _renewing: Arc::new(renewing) })
}

/// Where a client binds: on every address of the first seed's kind. Never on loopback alone, even if every seed is there: the nodes
/// behind this host's own are elsewhere. Each seed gets `patience` to say its addresses.
async fn local_address(seeds: &[String], patience: Duration) -> SocketAddr {
    let mut first = None;
    for seed in seeds.iter().filter_map(|seed| seed.parse::<Seed>().ok()) {
        first = seed.addresses(patience).await.ok().and_then(|addrs| addrs.first().copied());
        if first.is_some() {
            break;
        }
    }
    match first {
        Some(SocketAddr::V6(_)) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    }
}

impl Volume {
    /// Puts a cache, and a ring if there is one, before the volume's object store, and files on top. Background work runs on
    /// `runtime`.
    pub async fn attach(
        &self,
        options: &AttachOptions,
        runtime: Handle,
        registry: &Registry,
    ) -> Result<Attached, VolumeError> {
        let ring = match &options.ring {
            Some(ring) => Some(connect(ring, options.peer_timeout, registry).await?),
            None => None,
        };
        let peers = ring.as_ref().map(|ring| Peers { endpoint: ring.endpoint.clone(), views: ring.views.clone() });
        let for_writes = match &options.writes {
            Some(writing) => writing.memory.unwrap_or(options.memory / WRITE_SHARE).min(options.memory),
            None => 0,
        };
        let writes = options.writes.as_ref().map(|writing| WriteParts {
            session: writing.session.clone(),
            tiers: self.tiers.clone(),
            memory: for_writes,
            uploads_max: writing.uploads_max,
            stage: self.stage.clone(),
        });
        let config = ClientCacheConfig {
            memory: options.memory - for_writes,
            peer_timeout: options.peer_timeout,
            zone: options.reads.zone.clone(),
            hedge_percent: options.reads.hedge_percent,
            fill_group: options.writes.as_ref().is_some_and(|writing| writing.fill_group),
            ..ClientCacheConfig::default()
        };
        let cache = ClientCache::with_stage(config, self.objects.clone(), self.stage.clone(), peers, registry);
        self.offer_stored(&cache);
        let max_readahead = options.vfs.max_readahead.min(options.memory / READAHEAD_SHARE);
        let vfs_options = VfsOptions { max_readahead, ..options.vfs.clone() };
        let vfs = Vfs::new(self.parts(cache.clone(), writes), vfs_options, runtime, registry);
        Ok(Attached { vfs, cache, ring })
    }
}

impl Volume {
    /// What was staged is offered to the ring once it is stored.
    fn offer_stored(&self, cache: &ClientCache) {
        let Some(stage) = &self.stage else { return };
        let (mut stored, cache, origin) = (stage.stored(STORED_UNHEARD_MAX), cache.clone(), self.origin);
        drop(task::spawn("offer stored blocks", async move {
            while let Some(key) = stored.recv().await {
                cache.offer(BlockKey::whole(origin, &key));
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_binds_every_address_of_its_seeds_kind() {
        let of = async |seeds: &[&str]| {
            let seeds: Vec<String> = seeds.iter().map(|seed| (*seed).to_owned()).collect();
            local_address(&seeds, Duration::from_secs(20)).await.ip().to_string()
        };
        assert_eq!(of(&["127.0.0.2:7100", "192.0.2.1:7100"]).await, "0.0.0.0");
        assert_eq!(of(&["file:/no/such/file", "[::1]:7100"]).await, "::");
        assert_eq!(of(&["nonsense"]).await, "0.0.0.0");
        assert_eq!(of(&[]).await, "0.0.0.0");
    }
}
