//! One client: reads blocks at random, for ever, and has every byte of them checked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shoal_cache::{ClientCache, ClientCacheConfig, Peers};
use shoal_cluster::{Follower, View, ViewWatch};
use shoal_net::sim::SimNet;
use shoal_net::{Endpoint, PeerIdentity, Role};
use shoal_runtime::metrics::{Gauge, Registry};
use shoal_runtime::simulation::Process;
use shoal_runtime::{clock, rng, task};
use shoal_testkit::Rng;
use shoal_types::{BlockRange, Ctx};
use tokio::sync::RwLock;

use crate::blocks;
use crate::ledger::{Caller, Ledger};
use crate::origin::Origin;
use crate::world::{Bug, Size};

/// Reads each client has under way at once.
const READERS: u32 = 3;
/// Average pause between two reads of a reader.
const PAUSE: Duration = Duration::from_millis(250);

/// A client that reads.
pub struct Client {
    pub addr: SocketAddr,
    views: ViewWatch,
    process: Process,
    reader: Reader,
    /// Nodes it leaves alone.
    avoided: Gauge,
}

/// What reads, and how. A reader holds the gate open while it reads.
#[derive(Clone)]
struct Reader {
    cache: ClientCache,
    ledger: Ledger,
    client: u32,
    gate: Arc<RwLock<()>>,
}

/// Where client `number` lives.
fn addr(number: u32) -> SocketAddr {
    let [_, _, b, c] = number.to_be_bytes();
    SocketAddr::from(([192, 168, b, c], 7070))
}

impl Client {
    /// Starts a client that reads the world's blocks, once it has found the ring.
    pub async fn start(
        net: &SimNet,
        origin: &Origin,
        ledger: &Ledger,
        number: u32,
        size: Size,
        seeds: Vec<String>,
    ) -> Client {
        let (process, addr) = (Process::new(), addr(number));
        let (net, origin, ledger) = (net.clone(), origin.clone(), ledger.clone());
        let started = process.run(|| {
            task::spawn("client", async move {
                let registry = Registry::new();
                let identity = PeerIdentity::new(Role::Client, "sim", &format!("c{number}")).unwrap();
                let endpoint = Endpoint::simulated(&net, addr, identity, &registry).unwrap();
                let patience = Duration::from_secs(30);
                let follower = Follower::start(seeds, endpoint.clone(), patience, &registry).await.unwrap();
                let peers = Peers { endpoint, views: follower.views() };
                let store = match size.bug {
                    Some(Bug::NoWayToTheOrigin) => origin.shut(&registry),
                    _ => origin.for_caller(Caller::Client(number), &registry),
                };
                // As little memory as there can be: reads are to reach the ring.
                let config = ClientCacheConfig { memory: 0, ..ClientCacheConfig::default() };
                let cache = ClientCache::new(config, store, Some(peers), &registry);
                let reader = Reader { cache, ledger, client: number, gate: Arc::default() };
                for _ in 0..READERS {
                    task::spawn("reader", reader.clone().read_on(size.blocks, Rng::new(rng::random_u64())));
                }
                (follower.views(), reader, registry.gauge("shoal_cache_avoided_nodes", ""))
            })
        });
        let (views, reader, avoided) = started.await.unwrap();
        Client { addr, views, process, reader, avoided }
    }

    /// Its view of the ring.
    pub fn view(&self) -> Arc<View> {
        self.views.current()
    }

    /// How many nodes it leaves alone because they failed or were slow.
    pub fn avoids(&self) -> i64 {
        self.avoided.get()
    }

    /// Reads `blocks` one after the other, and nothing else meanwhile. With one of each node, a client asks every node again that it
    /// has left alone because of a failure.
    pub async fn visit(&self, blocks: Vec<u32>) {
        let reader = self.reader.clone();
        let visit = self.process.run(|| {
            task::spawn("visit", async move {
                let _alone = reader.gate.write().await;
                for block in blocks {
                    reader.read(block, BlockRange::WHOLE).await;
                }
            })
        });
        visit.await.unwrap();
    }
}

impl Reader {
    async fn read_on(self, blocks: u32, mut rng: Rng) {
        loop {
            clock::sleep(PAUSE.mul_f64(2.0 * rng.below(1000) as f64 / 1000.0)).await;
            // Some blocks are wanted more than others.
            let block = rng.below(u64::from(blocks)).min(rng.below(u64::from(blocks))) as u32;
            let range = match rng.below(4) {
                0 => BlockRange::new(rng.below(4096) as u32, 4096),
                _ => BlockRange::WHOLE,
            };
            let _open = self.gate.read().await;
            self.read(block, range).await;
        }
    }

    async fn read(&self, number: u32, range: BlockRange) {
        let block = blocks::block(number);
        let read = self.ledger.read(self.client, number);
        let result = self.cache.read(&Ctx::foreground(), &block, range).await;
        self.ledger.read_ended(read, range, result.map_err(|error| error.to_string()));
    }
}
