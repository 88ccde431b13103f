//! Shoal in this process, put together as the daemons put it together: a volume in a temporary directory, nodes on loopback, clients
//! and mounts. The one place of the bench that knows how the parts fit.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use clap::Parser;
use shoal_cache::serve::answer_get;
use shoal_cache::{NodeCache, NodeCacheConfig, Origins};
use shoal_cluster::{View, ViewWatch};
use shoal_format::Ino;
use shoal_fuse::{FuseOptions, Mounted};
use shoal_net::{Credentials, Endpoint, EndpointConfig, GetSink, MtuChoice, PeerIdentity, ResponseSink, Role, Service};
use shoal_node::{Node, NodeConfig};
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, rng};
use shoal_store::{DirConfig, Store, StoreConfig};
use shoal_testkit::{Rng, TestDir};
use shoal_types::{BlockKey, NodeId, OriginId};
use shoal_vfs::VfsOptions;
use shoal_volume::import::{ImportOptions, Progress, import};
use shoal_volume::{
    Access, AttachOptions, Attached, FormatOptions, OpenOptions, RingOptions, RingReads, Volume, format,
};
use shoal_wire::{GetRequest, Request};
use tokio::runtime::{Builder, Runtime};

use crate::files::TestFile;
use crate::limits::BLOCK;

/// The volume's file that nodes hold.
const FILE: &str = "data";
/// The volume's file that no node holds.
const COLD: &str = "cold";
/// Longest wait for a ring on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A node keeps a quarter of its memory for fills.
const NODE_MEMORY_MIN: u64 = 64 << 20;
/// Threads of each runtime, and of each mount: the daemons' default on two cores, where the limits were measured.
const THREADS: usize = 2;

/// Certificates of one group in a directory.
#[derive(Debug)]
pub struct Certs {
    ca: PathBuf,
    client: PathBuf,
}

impl Certs {
    /// A new authority and a client's certificate below `dir`.
    pub fn make(dir: &Path) -> anyhow::Result<Certs> {
        let certs = Certs { ca: dir.join("ca"), client: dir.join("client") };
        shoal_net::ca::init(&certs.ca, "bench", false)?;
        shoal_net::ca::issue(&certs.ca, Role::Client, "client", &certs.client, 1)?;
        Ok(certs)
    }

    /// A client's endpoint on loopback.
    pub fn client(&self, mtu: MtuChoice) -> anyhow::Result<Endpoint> {
        endpoint(&self.client, SocketAddr::from(([127, 0, 0, 1], 0)), mtu)
    }

    /// A new node's certificate.
    fn node(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.ca.with_file_name(name);
        shoal_net::ca::issue(&self.ca, Role::Node, name, &dir, 1)?;
        Ok(dir)
    }
}

/// A node without volume and membership: the store, cache and network endpoint of a real one, at any packet size.
pub struct BlockNode {
    endpoint: Endpoint,
    store: Store,
    runtime: Runtime,
    addr: SocketAddr,
    keys: Vec<BlockKey>,
}

impl BlockNode {
    /// A node on 127.0.0.9 that holds `blocks` blocks of 4 MiB: in `config`'s RAM as far as they fit, and in its directories.
    pub fn start(certs: &Certs, name: &str, mtu: MtuChoice, config: StoreConfig, blocks: u64) -> anyhow::Result<Self> {
        BlockNode::over(certs, name, mtu, config, blocks, Origins::default())
    }

    fn over(
        certs: &Certs,
        name: &str,
        mtu: MtuChoice,
        config: StoreConfig,
        blocks: u64,
        origins: Origins,
    ) -> anyhow::Result<Self> {
        let (runtime, registry) = (runtime()?, Registry::new());
        let endpoint = endpoint(&certs.node(name)?, SocketAddr::from(([127, 0, 0, 9], 0)), mtu)?;
        let (store, keys) = runtime.block_on(async {
            let store = Store::open(config, &registry).await?;
            let keys = fill(&store, blocks).await?;
            let views = ViewWatch::fixed(View::empty());
            let config = NodeCacheConfig::new(NodeId(rng::id16()));
            let cache = NodeCache::new(config, store.clone(), origins, views, None, &registry);
            endpoint.serve(Arc::new(BlockService { cache }));
            anyhow::Ok((store, keys))
        })?;
        let addr = endpoint.local_addr();
        Ok(BlockNode { endpoint, store, runtime, addr, keys })
    }

    /// A node on 127.0.0.9 that holds nothing and fetches from `origins`; what it fetches it keeps in 64 MiB of RAM.
    pub fn empty(certs: &Certs, name: &str, mtu: MtuChoice, origins: Origins) -> anyhow::Result<Self> {
        let config = StoreConfig { memory: 64 << 20, ..StoreConfig::default() };
        BlockNode::over(certs, name, mtu, config, 0, origins)
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it holds.
    pub fn keys(&self) -> &[BlockKey] {
        &self.keys
    }
}

impl Drop for BlockNode {
    fn drop(&mut self) {
        self.runtime.block_on(async {
            self.endpoint.close().await;
            self.store.close().await;
        });
    }
}

struct BlockService {
    cache: NodeCache,
}

#[async_trait]
impl Service for BlockService {
    async fn get(&self, _peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        answer_get(&self.cache, request, out).await;
    }

    // Nobody asks it anything else.
    async fn call(&self, _peer: &PeerIdentity, _request: Request, _out: &mut ResponseSink) {}

    fn gossip(&self, _peer: &PeerIdentity, _data: Bytes) {}
}

/// What a [`LocalCluster`] is made of.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOptions {
    /// Nodes, at least one.
    pub nodes: u8,
    /// Bytes in the file that nodes hold: whole blocks.
    pub file_bytes: u64,
    /// Bytes in a second file, which nodes do not hold and have room for a quarter of: whole blocks; 0 for none.
    pub cold_bytes: u64,
}

/// A volume, and nodes whose RAM and NVMe hold all of its first file.
pub struct LocalCluster {
    nodes: Vec<Node>,
    volume: Volume,
    certs: Certs,
    keys: Vec<BlockKey>,
    file_bytes: u64,
    /// The nodes'.
    runtime: Runtime,
    dir: TestDir,
}

impl LocalCluster {
    /// Makes the volume below `parent`, starts the nodes and warms them.
    pub fn start(parent: &Path, options: ClusterOptions) -> anyhow::Result<LocalCluster> {
        let (dir, runtime, file_bytes) = (TestDir::inside(parent, "bench"), runtime()?, options.file_bytes);
        let certs = Certs::make(dir.path())?;
        let url = format!("sqlite3://{}", dir.join("meta.db").display());
        let (volume, nodes) = runtime.block_on(async {
            let volume = make_volume(&dir, &url, &[(FILE, file_bytes), (COLD, options.cold_bytes)]).await?;
            let mut nodes: Vec<Node> = Vec::new();
            for number in 1..=options.nodes.max(1) {
                let config = node_config(&dir, &certs, &url, number, &nodes, &options)?;
                nodes.push(shoal_node::start(config).await?);
            }
            anyhow::Ok((volume, nodes))
        })?;
        let mut cluster = LocalCluster { nodes, volume, certs, keys: Vec::new(), file_bytes, runtime, dir };
        cluster.keys = cluster.runtime.block_on(cluster.warm())?;
        Ok(cluster)
    }

    /// Where node `index` serves.
    pub fn node_addr(&self, index: usize) -> SocketAddr {
        self.nodes[index].addr()
    }

    /// The file's blocks, in order.
    pub fn keys(&self) -> &[BlockKey] {
        &self.keys
    }

    /// A client with little memory of its own; its threads run on `runtime`.
    pub fn client(&self, runtime: &Runtime) -> anyhow::Result<Attached> {
        runtime.block_on(self.attach(NODE_MEMORY_MIN, &Registry::new()))
    }

    /// Blocks of the file that no node holds, in order.
    pub async fn cold_keys(&self, client: &Attached) -> anyhow::Result<Vec<BlockKey>> {
        keys_of(client, COLD).await
    }

    /// Its certificates.
    pub fn certs(&self) -> &Certs {
        &self.certs
    }

    /// Mounts the volume as `shoal mount` does, with `memory` bytes of RAM; its threads run where the caller does.
    pub fn mount(&self, name: &str, memory: u64) -> anyhow::Result<Mount> {
        let (runtime, registry) = (runtime()?, Registry::new());
        let attached = runtime.block_on(self.attach(memory, &registry))?;
        let options = FuseOptions {
            mountpoint: self.dir.mkdir(name),
            fsname: format!("Shoal:{}", self.volume.settings.name),
            allow_other: false,
            extra: Vec::new(),
            threads: THREADS,
            attr_ttl: Duration::from_secs(1),
            entry_ttl: Duration::from_secs(1),
            dir_entry_ttl: Duration::from_secs(1),
            negative_ttl: Duration::ZERO,
            acl: self.volume.settings.enable_acl,
            root: Ino::ROOT,
            umask: None,
            squash: None,
            readdir_cache: false,
            internal_prefix: "",
            config_json: "{}\n".to_owned(),
        };
        let path = options.mountpoint.join(FILE);
        let mounted = shoal_fuse::mount(attached.vfs.clone(), options, runtime.handle().clone(), registry)?;
        Ok(Mount { mounted: Some(mounted), _attached: attached, _runtime: runtime, path, span: self.file_bytes })
    }

    async fn attach(&self, memory: u64, registry: &Registry) -> anyhow::Result<Attached> {
        let ring = RingOptions {
            group: None,
            seeds: self.nodes.iter().map(|node| node.addr().to_string()).collect(),
            certs: self.certs.client.clone(),
            patience: PATIENCE,
        };
        let options = AttachOptions {
            ring: Some(ring),
            memory,
            peer_timeout: Duration::from_secs(5),
            reads: RingReads::default(),
            vfs: VfsOptions::default(),
            writes: None,
        };
        Ok(self.volume.attach(&options, tokio::runtime::Handle::current(), registry).await?)
    }

    /// Waits until the ring is whole and has every block of the file; gives their keys.
    async fn warm(&self) -> anyhow::Result<Vec<BlockKey>> {
        let attached = self.attach(NODE_MEMORY_MIN, &Registry::new()).await?;
        let ring = attached.ring.as_ref().context("a client without a ring")?;
        let mut views = ring.views.clone();
        let whole = async {
            while views.current().members.len() < self.nodes.len() {
                views.changed().await;
            }
        };
        clock::timeout(PATIENCE, whole).await.context("the ring did not become whole")?;
        let keys = keys_of(&attached, FILE).await?;
        let report = attached.cache.warm(keys.clone(), |_| ()).await?;
        let why = report.first_error.unwrap_or_default();
        ensure!(report.failed == 0, "{} blocks could not be warmed: {why}", report.failed);
        Ok(keys)
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        for node in self.nodes.drain(..) {
            self.runtime.block_on(node.stop());
        }
    }
}

/// A mounted volume.
pub struct Mount {
    mounted: Option<Mounted>,
    path: PathBuf,
    span: u64,
    /// After the mount: what serves it.
    _attached: Attached,
    _runtime: Runtime,
}

impl Mount {
    /// The volume's file.
    pub fn file(&self) -> TestFile {
        TestFile::new(self.path.clone(), self.span)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            // The directory detaches what stays mounted.
            let _ = mounted.unmount();
        }
    }
}

/// Inserts `blocks` blocks of 4 MiB; gives their keys.
pub async fn fill(store: &Store, blocks: u64) -> anyhow::Result<Vec<BlockKey>> {
    let data = Bytes::from(shoal_testkit::seeded_bytes(8, BLOCK));
    let mut keys = Vec::new();
    for number in 0..blocks {
        let key = block_key("fill", number);
        store.insert(&key, data.clone()).await?;
        keys.push(key);
    }
    let missing = keys.iter().filter(|key| store.contains(key).is_none()).count();
    ensure!(missing == 0, "{missing} of {blocks} blocks did not stay in the store");
    Ok(keys)
}

/// The key of a block that no origin has.
pub fn block_key(prefix: &str, number: u64) -> BlockKey {
    BlockKey::whole(OriginId::of_bucket("bench"), &format!("{prefix}/chunks/0/0/{number}_0_{BLOCK}"))
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?)
}

fn endpoint(certs: &Path, listen: SocketAddr, mtu: MtuChoice) -> anyhow::Result<Endpoint> {
    let mut config = EndpointConfig::new(listen, Credentials::load(certs)?);
    config.mtu = mtu;
    Ok(Endpoint::bind(config, &Registry::new())?)
}

/// The blocks of the volume's file `name`, in order.
async fn keys_of(client: &Attached, name: &str) -> anyhow::Result<Vec<BlockKey>> {
    let found = client.vfs.meta().resolve_path(format!("/{name}").as_bytes()).await?;
    let (ino, attr) = found.with_context(|| format!("the volume lost its file {name}"))?;
    let blocks = client.vfs.file_blocks(ino, &attr).await?;
    Ok(blocks.into_iter().map(|block| block.key).collect())
}

/// A volume with files of these names and bytes.
async fn make_volume(dir: &TestDir, url: &str, files: &[(&str, u64)]) -> anyhow::Result<Volume> {
    let registry = Registry::new();
    let bucket = dir.join("objects");
    let options = FormatOptions::new("bench", "file", &bucket.display().to_string());
    format(url, &options, None, &registry).await?;
    let source = dir.mkdir("source");
    for (number, (name, bytes)) in files.iter().enumerate() {
        write_file(&source.join(name), *bytes, number as u64)?;
    }
    let volume = Volume::open(url, &OpenOptions::new(Access::Write), &registry).await?;
    let (options, progress) = (ImportOptions::default(), Progress::silent());
    import(&volume, &source, "/", &options, &progress, &Shutdown::new()).await?;
    std::fs::remove_dir_all(&source)?;
    Ok(Volume::open(url, &OpenOptions::new(Access::Read), &registry).await?)
}

fn write_file(path: &Path, bytes: u64, seed: u64) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    let (mut rng, mut block) = (Rng::new(seed), vec![0; BLOCK]);
    for _ in 0..bytes / BLOCK as u64 {
        rng.fill(&mut block);
        file.write_all(&block)?;
    }
    Ok(())
}

/// Node `number` on 127.0.0.(number + 1), with RAM for the file it is to hold and a directory for both files.
fn node_config(
    dir: &TestDir,
    certs: &Certs,
    url: &str,
    number: u8,
    others: &[Node],
    options: &ClusterOptions,
) -> anyhow::Result<NodeConfig> {
    let ClusterOptions { file_bytes, cold_bytes, .. } = *options;
    let name = format!("node-{number}");
    let cache = dir.mkdir(format!("{name}-cache"));
    let certs = certs.node(&name)?.display().to_string();
    let disk = if cold_bytes == 0 { disk_bytes(file_bytes) } else { 2 * file_bytes + cold_bytes / 4 };
    let (listen, cache) = (format!("127.0.0.{}:0", number + 1), format!("{}:{disk}", cache.display()));
    let memory = (2 * file_bytes).max(NODE_MEMORY_MIN).to_string();
    let mut flags = vec!["shoal-node", "--volume", url, "--listen", &listen, "--certs", &certs, "--metrics", "none"];
    flags.extend(["--memory", &memory, "--cache-dir", &cache]);
    let seeds = others.iter().map(|node| node.addr().to_string()).collect::<Vec<_>>().join(",");
    if !others.is_empty() {
        flags.extend(["--join", &seeds]);
    }
    NodeConfig::load(shoal_node::Args::try_parse_from(flags)?)
}

/// A cache directory that keeps `bytes` of blocks: what is sealed and what is open takes some more.
pub fn disk_bytes(bytes: u64) -> u64 {
    bytes + bytes / 4 + (512 << 20)
}

/// A store of one directory, `bytes` large, in `dir`, without RAM tier.
pub fn disk_store(dir: PathBuf, bytes: u64) -> StoreConfig {
    StoreConfig {
        memory: 0,
        dirs: vec![DirConfig { free_ratio: 0.0, ..DirConfig::new(dir, bytes) }],
        ..StoreConfig::default()
    }
}
