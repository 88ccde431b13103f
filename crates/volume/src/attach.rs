//! A client's side of a volume: the ring followed, the cache before the object store, files on top.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use shoal_cache::{ClientCache, ClientCacheConfig, Peers};
use shoal_cluster::{Follower, ViewWatch};
use shoal_net::{Credentials, Endpoint, EndpointConfig};
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use shoal_vfs::{Vfs, VfsOptions};
use tokio::runtime::Handle;

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
    /// Of the files.
    pub vfs: VfsOptions,
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
    let group = &credentials.identity().group;
    if let Some(wanted) = &options.group
        && wanted != group
    {
        return Err(VolumeError::WrongGroup {
            wanted: wanted.clone(),
            certs: options.certs.clone(),
            group: group.clone(),
        });
    }
    let seeds = options.seeds.clone();
    let listen = task::blocking("resolve seeds", move || local_address(&seeds)).await;
    let silence = peer_timeout.max(ANSWER_TIMEOUT_MIN);
    let config = EndpointConfig {
        answer_timeout: silence,
        body_idle_timeout: silence,
        ..EndpointConfig::new(listen, credentials)
    };
    let endpoint = Endpoint::bind(config, registry)?;
    let follower = Follower::start(options.seeds.clone(), endpoint.clone(), options.patience, registry).await?;
    Ok(RingClient { endpoint, views: follower.views(), _follower: follower })
}

/// Where a client binds: on every address of the first seed's kind. Never on loopback alone, even if every seed is there: the nodes
/// behind this host's own are elsewhere. Blocks while names are resolved.
fn local_address(seeds: &[String]) -> SocketAddr {
    let first = seeds.iter().flat_map(|seed| seed.to_socket_addrs().into_iter().flatten()).next();
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
        let config = ClientCacheConfig {
            memory: options.memory,
            peer_timeout: options.peer_timeout,
            ..ClientCacheConfig::default()
        };
        let cache = ClientCache::new(config, self.objects.clone(), peers, registry);
        let max_readahead = options.vfs.max_readahead.min(options.memory / READAHEAD_SHARE);
        let vfs = Vfs::new(self.parts(cache.clone()), VfsOptions { max_readahead }, runtime, registry);
        Ok(Attached { vfs, cache, ring })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_binds_every_address_of_its_seeds_kind() {
        let of = |seeds: &[&str]| {
            local_address(&seeds.iter().map(|seed| (*seed).to_owned()).collect::<Vec<_>>()).ip().to_string()
        };
        assert_eq!(of(&["127.0.0.2:7100", "192.0.2.1:7100"]), "0.0.0.0");
        assert_eq!(of(&["[::1]:7100"]), "::");
        assert_eq!(of(&[]), "0.0.0.0");
    }
}
