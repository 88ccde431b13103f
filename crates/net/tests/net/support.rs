//! A service with blocks of known bytes, and ways to wait.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use shoal_net::testing::TestCa;
use shoal_net::{Credentials, Endpoint, EndpointConfig, GetSink, PeerIdentity, ResponseSink, Role, Service};
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_types::{BlockKey, BlockRange, ErrorKind, OriginId, Tier};
use shoal_wire::{GetHead, GetRequest, Request, Response, Status};

pub use shoal_testkit::PATIENCE;

/// The bytes of every block, as far as it goes.
static PATTERN: LazyLock<Bytes> =
    LazyLock::new(|| (0..16usize << 20).map(|at| (at.wrapping_mul(31) >> 3) as u8 ^ (at >> 16) as u8).collect());

/// Bytes `range` of every block.
pub fn bytes(range: BlockRange) -> Bytes {
    PATTERN.slice(range.start as usize..range.end as usize)
}

/// A block whose name says its length and how the service is to treat it.
pub fn block(how: &str, len: u32) -> BlockKey {
    BlockKey::whole(OriginId([7; 16]), &format!("{how}/{len}"))
}

/// Asks for all of a block.
pub fn whole(key: BlockKey) -> GetRequest {
    GetRequest { epoch: 1, ..GetRequest::new(key, BlockRange::WHOLE) }
}

/// Serves blocks by the first part of their name.
#[derive(Default)]
pub struct Blocks {
    pub gossip: Mutex<Vec<(String, Bytes)>>,
    pub asked: AtomicUsize,
    /// Handlers that were started and neither finished nor dropped.
    pub running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Service for Blocks {
    async fn get(&self, _peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(self.running.clone());
        let (how, len) = request.key.object().split_once('/').unwrap();
        let len = len.parse().unwrap();
        let range = request.range.clamp(len);
        let head = GetHead::ok(Tier::Ram, len, range);
        match how {
            "good" => {
                out.head(head).await.unwrap();
                let _ = out.send(bytes(range)).await;
            }
            "pieces" => {
                out.head(head).await.unwrap();
                let mut rest = bytes(range);
                while !rest.is_empty() {
                    out.send(rest.split_to(rest.len().min(70_001))).await.unwrap();
                }
            }
            "busy" => out.fail(Status::Busy, "too much to do").await,
            "never" => std::future::pending().await,
            "half" => {
                out.head(head).await.unwrap();
                out.send(bytes(range.clamp(len / 2))).await.unwrap();
            }
            "stuck" => {
                out.head(head).await.unwrap();
                out.send(bytes(range.clamp(len / 2))).await.unwrap();
                std::future::pending().await
            }
            "breaks" => {
                out.head(head).await.unwrap();
                out.send(bytes(range.clamp(len / 2))).await.unwrap();
                out.fail(Status::Corrupt, "the rest is bad").await;
            }
            "panics" => {
                out.head(head).await.unwrap();
                out.send(bytes(range.clamp(len / 2))).await.unwrap();
                panic!("a handler's bug");
            }
            "silent" => {}
            "too_much" => {
                out.head(head).await.unwrap();
                let error = out.send(vec![0; len as usize + 1].into()).await.unwrap_err();
                assert_eq!(error.kind(), shoal_types::ErrorKind::Internal);
            }
            how => panic!("no such block: {how}"),
        }
    }

    async fn call(&self, peer: &PeerIdentity, request: Request, out: &mut ResponseSink) {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(self.running.clone());
        match request {
            Request::Has { keys } => {
                let tiers = keys.iter().map(|key| (key.object().len() % 2 == 0).then_some(Tier::Nvme)).collect();
                out.send(Response::Has { tiers }).await.unwrap();
            }
            Request::Warm { keys, .. } => {
                for (i, _) in keys.iter().enumerate() {
                    out.send(progress(i as u64 + 1, i + 1 == keys.len())).await.unwrap();
                }
            }
            Request::Drain => panic!("nobody drains this peer"),
            Request::View => {
                out.send(Response::View(peer.to_string().into())).await.unwrap();
            }
            Request::Watch => {
                out.send(Response::View(Bytes::from_static(b"first"))).await.unwrap();
                std::future::pending().await
            }
            Request::Stat => {
                let message = "not today".to_owned();
                out.send(Response::Error { status: Status::Denied, message }).await.unwrap();
            }
        }
    }

    fn gossip(&self, peer: &PeerIdentity, data: Bytes) {
        self.gossip.lock().push((peer.name.clone(), data));
    }
}

pub fn progress(done: u64, last: bool) -> Response {
    Response::WarmProgress { done, already: 0, fetched: done, failed: 0, bytes: 0, last, first_error: String::new() }
}

/// A node that serves and a client, of one group.
pub struct Pair {
    pub ca: TestCa,
    pub service: Arc<Blocks>,
    pub node: Endpoint,
    pub node_metrics: Registry,
    pub client: Endpoint,
    pub client_metrics: Registry,
}

impl Pair {
    pub fn new() -> Pair {
        Pair::with(|_| {})
    }

    /// With a configuration of the client that `change` has changed.
    pub fn with(change: impl FnOnce(&mut EndpointConfig)) -> Pair {
        let ca = TestCa::new("g");
        let (node_metrics, client_metrics) = (Registry::new(), Registry::new());
        let service = Arc::new(Blocks::default());
        let node = ca.endpoint_with(Role::Node, "n1", &node_metrics);
        node.serve(service.clone());
        let mut config = patient(ca.issue(Role::Client, "c1"));
        change(&mut config);
        let client = Endpoint::bind(config, &client_metrics).unwrap();
        Pair { ca, service, node, node_metrics, client, client_metrics }
    }

    pub fn peer(&self) -> SocketAddr {
        self.node.local_addr()
    }
}

/// A configuration on a free port of loopback that gives up on no living peer, however busy the machine is.
pub fn patient(credentials: Credentials) -> EndpointConfig {
    EndpointConfig {
        connect_timeout: PATIENCE,
        answer_timeout: PATIENCE,
        body_idle_timeout: PATIENCE,
        ..EndpointConfig::new(loopback(), credentials)
    }
}

pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !condition() {
        assert!(clock::now() < deadline, "not in time: {what}");
        clock::sleep(Duration::from_millis(5)).await;
    }
}

/// Gets until it succeeds, as a reader does that has nowhere else to go: a peer that shares a busy machine may be silent for so long that
/// it is taken for dead.
pub async fn eventually_gets(client: &Endpoint, peer: SocketAddr) {
    let deadline = clock::now() + PATIENCE;
    loop {
        let error = match client.get(peer, &whole(block("good", 77))).await {
            Ok(reply) => return assert_eq!(reply.body.collect().await.unwrap().len(), 77),
            Err(error) => error,
        };
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
        assert!(clock::now() < deadline, "{error}");
        clock::sleep(Duration::from_millis(20)).await;
    }
}

/// Value of the metric whose line begins with `name`, labels included; 0 if there is none.
pub fn metric(registry: &Registry, name: &str) -> u64 {
    let text = registry.gather_text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.trim().parse::<f64>().unwrap() as u64)
}
