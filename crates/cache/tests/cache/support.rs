//! Nodes, clients and blocks for the tests of this suite.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use shoal_cache::{
    Block, BlockStream, CacheError, ClientCache, ClientCacheConfig, NodeCache, NodeCacheConfig, Origins, Peers, serve,
};
use shoal_cluster::{Member, View, ViewPublisher, ViewWatch};
use shoal_format::BlockCodec;
use shoal_net::testing::TestCa;
use shoal_net::{Endpoint, GetSink, PeerIdentity, ResponseSink, Role, Service};
use shoal_object::ObjectStore;
use shoal_object::fault::FaultStore;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_store::{DirConfig, IoChoice, Store, StoreConfig};
use shoal_testkit::{PATIENCE, TestDir, seeded_bytes};
use shoal_types::{BlockKey, BlockRange, Ctx, NodeId, OriginId, PageSums, PageTable, Tier};
use shoal_wire::{GetHead, GetRequest, Request, Response, Status};
use tokio::sync::Notify;

pub const ORIGIN: OriginId = OriginId([0xab; 16]);
pub const KIB: u32 = 1 << 10;
pub const MIB: u32 = 1 << 20;

pub fn key(name: &str) -> BlockKey {
    BlockKey::whole(ORIGIN, name)
}

pub fn plain(name: &str, len: u32) -> Block {
    Block { key: key(name), plain_len: len, codec: BlockCodec::identity() }
}

/// An object store in memory, and a way to put seeded bytes into it.
pub struct Objects(pub Arc<FaultStore>);

impl Objects {
    pub fn new() -> Objects {
        Objects(FaultStore::over_memory())
    }

    pub async fn put(&self, name: &str, seed: u64, len: u32) -> Bytes {
        let data = Bytes::from(seeded_bytes(seed, len as usize));
        self.0.put(name, data.clone()).await.unwrap();
        data
    }

    pub fn gets(&self) -> u64 {
        self.0.counts().gets
    }

    pub fn origins(&self) -> Origins {
        let origins = Origins::default();
        origins.add(ORIGIN, self.0.clone());
        origins
    }
}

/// A store in a directory of its own, whose disk may be as slow as it likes.
pub async fn store(dir: &TestDir, memory: u64) -> Store {
    let dirs = vec![DirConfig { free_ratio: 0.0, ..DirConfig::new(dir.path(), 64 << 20) }];
    let (io, read_patience, hang_after) = (IoChoice::Plain, LONG, LONG);
    let config = StoreConfig { memory, dirs, io, read_patience, hang_after, ..StoreConfig::default() };
    Store::open(config, &Registry::new()).await.unwrap()
}

pub fn node_id(number: u8) -> NodeId {
    NodeId([number; 16])
}

pub fn member(number: u8, addr: SocketAddr) -> Arc<Member> {
    Arc::new(Member::new(node_id(number), &format!("node-{number}"), addr))
}

/// A node that answers nobody: its cache alone.
pub struct LoneNode {
    pub cache: NodeCache,
    _dir: TestDir,
}

pub async fn lone_node(objects: &Objects, change: impl FnOnce(&mut NodeCacheConfig)) -> LoneNode {
    let dir = TestDir::new("cache");
    let mut config = NodeCacheConfig::new(node_id(1));
    change(&mut config);
    let store = store(&dir, 64 << 20).await;
    let views = ViewWatch::fixed(View::empty());
    let cache = NodeCache::new(config, store, objects.origins(), views, None, &Registry::new());
    LoneNode { cache, _dir: dir }
}

/// Everything a stream gives.
pub async fn drain(mut stream: BlockStream) -> Result<Bytes, CacheError> {
    let mut all = BytesMut::new();
    while let Some(bytes) = stream.next().await? {
        assert!(!bytes.is_empty(), "a stream never gives nothing");
        all.extend_from_slice(&bytes);
    }
    assert_eq!(all.len() as u32, stream.range.len(), "a stream that ends well gave its range");
    Ok(all.freeze())
}

pub async fn read_all(cache: &NodeCache, key: &BlockKey) -> Result<(Tier, Bytes), CacheError> {
    let stream = cache.read(&Ctx::foreground(), key, BlockRange::WHOLE).await?;
    Ok((stream.tier, drain(stream).await?))
}

/// How a node treats requests for bytes.
#[derive(Debug, Clone)]
pub enum Mood {
    Honest,
    /// Says nothing to anybody.
    Hung,
    /// Takes the request for bytes and gives nothing, but is there.
    Stuck,
    /// Is at its limits for so many requests, and says when to come back; then honest.
    Busy(u32, u16),
    /// Gives the bytes it holds so slowly that nobody can wait for them.
    Trickles,
    /// Gives any object's bytes and says that its group may be read from so many owners.
    Hints(u8),
    /// Answers honestly once told to.
    Late(Arc<Notify>),
    /// Refuses.
    Refuses(Status),
    /// Answers as if every block had this length.
    Claims(u32),
    /// Answers with the right length and other bytes.
    Garbles,
    /// Answers with the checksums of the right bytes and one byte wrong.
    Flips(u32),
    /// Gives so many bytes and then nothing.
    Stalls(u32),
    /// Gives so many bytes and breaks off with this status; what was under way is lost.
    Breaks(u32, Status),
    /// The same, once told to.
    BreaksWhenTold(u32, Status, Arc<Notify>),
}

/// One node of a ring: its cache behind a socket.
pub struct Node {
    pub id: NodeId,
    pub endpoint: Endpoint,
    pub cache: NodeCache,
    pub mood: Arc<Mutex<Mood>>,
    pub registry: Registry,
    pub seen: Arc<Mutex<Seen>>,
    _dir: TestDir,
}

/// What a node was asked by clients.
#[derive(Debug, Default)]
pub struct Seen {
    /// Requests for bytes, in order.
    pub gets: Vec<GetRequest>,
    /// Control requests.
    pub calls: u32,
}

impl Node {
    /// The value of a counter, as the metrics page has it.
    pub fn metric(&self, name: &str) -> u64 {
        metric(&self.registry, name)
    }

    pub fn turns(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }
}

struct TestService {
    cache: NodeCache,
    mood: Arc<Mutex<Mood>>,
    seen: Arc<Mutex<Seen>>,
}

impl TestService {
    /// The block's length and the bytes asked for.
    async fn bytes(&self, request: &GetRequest) -> Option<(u32, Bytes)> {
        let stream = self.cache.read(&Ctx::foreground(), &request.key, request.range).await.ok()?;
        Some((stream.block_len, drain(stream).await.ok()?))
    }
}

#[async_trait]
impl Service for TestService {
    async fn get(&self, peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        if peer.role == Role::Client {
            self.seen.lock().gets.push(request.clone());
        }
        let mood = self.mood.lock().clone();
        match mood {
            Mood::Honest => serve::answer_get(&self.cache, request, out).await,
            Mood::Hung | Mood::Stuck => std::future::pending().await,
            Mood::Busy(times, retry_ms) => {
                *self.mood.lock() = if times > 1 { Mood::Busy(times - 1, retry_ms) } else { Mood::Honest };
                let _ = out.head(GetHead { retry_ms, ..GetHead::refusal(Status::Busy, "on purpose") }).await;
            }
            Mood::Trickles => {
                let Some((block_len, body)) = self.bytes(&request).await else { return };
                let mut sent = out.head(GetHead::ok(Tier::Ram, block_len, request.range)).await;
                for piece in body.chunks(16 << 10) {
                    if sent.is_err() {
                        return;
                    }
                    clock::sleep(Duration::from_millis(100)).await;
                    sent = out.send(Bytes::copy_from_slice(piece)).await;
                }
            }
            Mood::Hints(spread) => {
                let Some(store) = self.cache.origins().get(ORIGIN) else { return };
                let Ok(body) = store.get(request.key.object(), None, None).await else { return };
                let Ok(body) = body.collect(64 << 20).await else { return };
                let head = GetHead { spread, ..GetHead::ok(Tier::Ram, body.len() as u32, request.range) };
                let range = head.range;
                if out.head(head).await.is_ok() {
                    let _ = out.send(cut(&body, range)).await;
                }
            }
            Mood::Late(told) => {
                told.notified().await;
                serve::answer_get(&self.cache, request, out).await;
            }
            Mood::Refuses(status) => out.fail(status, "on purpose").await,
            Mood::Claims(len) => {
                let head = GetHead::ok(Tier::Ram, len, request.range);
                let body = Bytes::from(vec![0; head.range.len() as usize]);
                if out.head(head).await.is_ok() {
                    let _ = out.send(body).await;
                }
            }
            Mood::Garbles => {
                let Some((block_len, body)) = self.bytes(&request).await else { return };
                let body = body.iter().map(|byte| byte ^ 0x55).collect();
                if out.head(GetHead::ok(Tier::Ram, block_len, request.range)).await.is_ok() {
                    let _ = out.send(body).await;
                }
            }
            Mood::Flips(at) => {
                let Some((block_len, body)) = self.bytes(&request).await else { return };
                let sums = PageSums::new(Arc::new(PageTable::of(&body, 4096)), 0);
                let mut wrong = body.to_vec();
                wrong[at as usize] ^= 1;
                if out.head(GetHead::ok(Tier::Ram, block_len, request.range)).await.is_ok() {
                    let _ = out.send_summed(wrong.into(), &sums).await;
                }
            }
            Mood::Stalls(after) => {
                let Some((block_len, body)) = self.bytes(&request).await else { return };
                let head = GetHead::ok(Tier::Ram, block_len, request.range);
                if out.head(head).await.is_ok() && out.send(body.slice(..after as usize)).await.is_ok() {
                    std::future::pending().await
                }
            }
            Mood::BreaksWhenTold(after, status, told) => {
                let Some((block_len, body)) = self.bytes(&request).await else { return };
                let head = GetHead::ok(Tier::Ram, block_len, request.range);
                if out.head(head).await.is_ok() && out.send(body.slice(..after as usize)).await.is_ok() {
                    told.notified().await;
                    out.fail(status, "on purpose").await;
                }
            }
            Mood::Breaks(after, status) => {
                let Some((block_len, body)) = self.bytes(&request).await else { return };
                let cut = body.slice(..body.len().min(after as usize));
                let complete = cut.len() == body.len();
                let head = GetHead::ok(Tier::Ram, block_len, request.range);
                if out.head(head).await.is_ok() && out.send(cut).await.is_ok() && !complete {
                    out.fail(status, "on purpose").await;
                }
            }
        }
    }

    async fn call(&self, peer: &PeerIdentity, request: Request, out: &mut ResponseSink) {
        self.seen.lock().calls += u32::from(peer.role == Role::Client);
        match request {
            Request::Has { .. } | Request::Warm { .. } if matches!(*self.mood.lock(), Mood::Hung) => {
                std::future::pending().await
            }
            Request::Has { keys } => {
                let _ = out.send(serve::answer_has(&self.cache, &keys)).await;
            }
            Request::Warm { keys, from } => serve::answer_warm(&self.cache, keys, from, out).await,
            _ => {
                let _ = out.send(Response::Error { status: Status::Invalid, message: "not in this test".into() }).await;
            }
        }
    }

    fn gossip(&self, _peer: &PeerIdentity, _data: Bytes) {}
}

/// The value of a metric; `name` with its labels.
pub fn metric(registry: &Registry, name: &str) -> u64 {
    let text = registry.gather_text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// Some nodes on loopback that all see the same view.
pub struct Ring {
    pub ca: TestCa,
    pub nodes: Vec<Node>,
    /// The view of all nodes.
    pub view: View,
    /// What the nodes see: all of them, until another view is published.
    pub views: ViewPublisher,
}

impl Ring {
    pub async fn start(count: u8, objects: &Objects) -> Ring {
        Ring::start_with(count, |_| objects.origins()).await
    }

    /// Nodes with origins of their own.
    pub async fn start_with(count: u8, origins: impl Fn(u8) -> Origins) -> Ring {
        Ring::start_changed(count, origins, |_| {}).await
    }

    /// Nodes with another configuration than the usual one, which never gives up on a healthy peer.
    pub async fn start_changed(
        count: u8,
        origins: impl Fn(u8) -> Origins,
        change: impl Fn(&mut NodeCacheConfig),
    ) -> Ring {
        let (ca, registries) = (TestCa::new("test"), (1..=count).map(|_| Registry::new()).collect::<Vec<_>>());
        let bind = |(n, registry): (u8, &Registry)| ca.endpoint_with(Role::Node, &format!("node-{n}"), registry);
        let endpoints: Vec<Endpoint> = (1..=count).zip(&registries).map(bind).collect();
        let members = (1..=count).zip(&endpoints).map(|(n, endpoint)| member(n, endpoint.local_addr()));
        let view = View::new(1, members.collect());
        let views = ViewPublisher::new(view.clone());
        let mut nodes = Vec::new();
        for ((number, endpoint), registry) in (1..=count).zip(endpoints).zip(registries) {
            let dir = TestDir::new("cache-ring");
            let mut config = NodeCacheConfig {
                origin_timeout: Duration::from_secs(30),
                peer_patience: Duration::from_secs(20),
                ..NodeCacheConfig::new(node_id(number))
            };
            change(&mut config);
            let store = store(&dir, 64 << 20).await;
            let peers = Some(endpoint.clone());
            let cache = NodeCache::new(config, store, origins(number), views.watch(), peers, &registry);
            let (mood, seen) = (Arc::new(Mutex::new(Mood::Honest)), Arc::new(Mutex::default()));
            let service = TestService { cache: cache.clone(), mood: mood.clone(), seen: Arc::clone(&seen) };
            endpoint.serve(Arc::new(service));
            nodes.push(Node { id: node_id(number), endpoint, cache, mood, registry, seen, _dir: dir });
        }
        Ring { ca, nodes, view, views }
    }

    /// All members but those with these numbers.
    pub fn members_without(&self, numbers: &[u8]) -> Vec<Arc<Member>> {
        let out = |member: &&Arc<Member>| !numbers.iter().any(|number| member.id == node_id(*number));
        self.view.members.iter().filter(out).cloned().collect()
    }

    /// Nodes see a ring without these numbers.
    pub fn publish_without(&self, numbers: &[u8]) {
        self.views.publish(self.members_without(numbers));
    }

    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.iter().find(|node| node.id == id).unwrap()
    }

    /// The owner of a block, or its replica number `place`.
    pub fn owner(&self, key: &BlockKey, place: usize) -> &Node {
        self.node(self.view.owners(key, place + 1)[place].id)
    }

    pub fn peers(&self) -> Peers {
        self.peers_with(self.view.clone())
    }

    pub fn peers_with(&self, view: View) -> Peers {
        Peers { endpoint: self.ca.endpoint(Role::Client, "client"), views: ViewWatch::fixed(view) }
    }

    pub fn client(&self, objects: &Objects) -> ClientCache {
        self.client_with(objects, |_| {}).0
    }

    pub fn client_with(
        &self,
        objects: &Objects,
        change: impl FnOnce(&mut ClientCacheConfig),
    ) -> (ClientCache, Registry) {
        let mut config = ClientCacheConfig { memory: 128 << 20, peer_timeout: LONG, ..ClientCacheConfig::default() };
        change(&mut config);
        let registry = Registry::new();
        (ClientCache::new(config, objects.0.clone(), Some(self.peers()), &registry), registry)
    }

    /// The same view with the address of `id` replaced by one where nothing answers; it stays so while the socket lives.
    pub fn view_without(&self, id: NodeId) -> (View, UdpSocket) {
        let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = deaf.local_addr().unwrap();
        let replace = |member: &Arc<Member>| match member.id == id {
            true => Arc::new(Member { addr, ..Member::clone(member) }),
            false => member.clone(),
        };
        (View::new(2, self.view.members.iter().map(replace).collect()), deaf)
    }
}

/// A patience that no healthy answer reaches, on however busy a machine.
pub const LONG: Duration = PATIENCE;

/// A patience of which a tenth, a twentieth and a fiftieth are long for a busy machine, and all of it far too long for a reader.
pub const SECONDS: Duration = Duration::from_secs(20);

/// A client with nothing but the origin.
pub fn lone_client(objects: &Objects, change: impl FnOnce(&mut ClientCacheConfig)) -> ClientCache {
    let mut config = ClientCacheConfig { memory: 128 << 20, ..ClientCacheConfig::default() };
    change(&mut config);
    ClientCache::new(config, objects.0.clone(), None, &Registry::new())
}

pub async fn read(cache: &ClientCache, block: &Block, range: BlockRange) -> Result<Bytes, CacheError> {
    let ctx = Ctx::foreground();
    let read = cache.read(&ctx, block, range);
    clock::timeout(LONG, read).await.expect("a read ends")
}

/// How a read fails. Its bytes, if it does not, are too many to print.
pub async fn failure(cache: &ClientCache, block: &Block, range: BlockRange) -> CacheError {
    read(cache, block, range).await.map(|bytes| bytes.len()).unwrap_err()
}

/// Nodes passed over for `reason`.
pub fn skips(registry: &Registry, reason: &str) -> u64 {
    metric(registry, &format!("shoal_cache_skips_total{{reason=\"{reason}\"}}"))
}

/// Second places asked, by what came of it.
pub fn hedges(registry: &Registry, outcome: &str) -> u64 {
    metric(registry, &format!("shoal_cache_hedges_total{{outcome=\"{outcome}\"}}"))
}

pub fn cut(data: &Bytes, range: BlockRange) -> Bytes {
    let range = range.clamp(data.len() as u32);
    data.slice(range.start as usize..range.end as usize)
}
