//! `shoal-bench classes`: what a warm-up at full speed costs the reads of programs at the same node.
//!
//! The limit is the same reads without the warm-up, and, in rows of their own, beside the same warm-up at *another* node of this machine:
//! what the second leaves is the node's own order of work, the rest is CPUs, memory and disk that both nodes share here and would not on
//! two hosts. Whoever warms up stands for other hosts too: its threads have a lower priority for the operating system. That
//! needs CPUs to spare: a warm-up that moved next to nothing, which is printed, was kept from working by something else.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use shoal_net::{Endpoint, MtuChoice};
use shoal_runtime::{clock, task};
use shoal_store::StoreConfig;
use shoal_testkit::{Rng, TestDir};
use shoal_types::{BlockKey, BlockRange, Class};
use shoal_volume::Attached;
use shoal_wire::{GetRequest, Status};
use tokio::runtime::{Builder, Runtime};

use crate::cluster::{BlockNode, Certs, ClusterOptions, LocalCluster, disk_bytes, disk_store};
use crate::drive;
use crate::limits::{BLOCK, CHUNK};
use crate::options::{RaceArgs, Rows};
use crate::placement::{Place, Placement};
use crate::race::Case;
use crate::report::{Goals, Report, Row};
use crate::sample::{Effort, Sample};
use crate::store::pick;

/// Blocks that are read from RAM.
const RAM_BLOCKS: u64 = 16;
/// Bytes that are filled, for each byte of `--size`: far more than the node has room for, so that the fills never end.
const COLD_SIZES: u64 = 4;
/// Blocks asked of the node in one request, and requests under way: more blocks than it fills at once.
const FILLS: (usize, usize) = (32, 3);
/// Blocks a warm-up takes from a node at once.
const PULLS: usize = 16;
/// Of the threads that warm up: a tenth of the others' share of a contended CPU.
const NICENESS: i32 = 10;
/// Longest wait for the first bytes of a warm-up.
const PATIENCE: Duration = Duration::from_secs(10);
/// A node that is busy and gives no advice is asked again after this.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// How much longer than alone one in a hundred reads may take.
const P99_GOAL: f64 = 2.0;

/// Measure what a warm-up at full speed costs the reads of programs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    race: RaceArgs,
}

/// Measures, prints the table and writes the JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    Report::new("classes", rows(&args.race, Rows::All)?).publish(args.race.json())
}

/// Measures.
pub fn rows(args: &RaceArgs, rows: Rows) -> anyhow::Result<Vec<Row>> {
    let placement = Placement::new(args.place.unwrap_or(Place::Free))?;
    let dir = TestDir::inside(&args.dir, "bench");
    let certs = Certs::make(dir.path())?;
    let ram = StoreConfig { memory: 4 * RAM_BLOCKS * BLOCK as u64, ..StoreConfig::default() };
    let disk = disk_store(dir.mkdir("nvme"), disk_bytes(args.bytes()));
    let node =
        |name, config, blocks| placement.serving(|| BlockNode::start(&certs, name, MtuChoice::Auto, config, blocks));
    let disk_blocks = args.bytes() / BLOCK as u64;
    let other_disk = disk_store(dir.mkdir("other-nvme"), disk_bytes(args.bytes()));
    let (other_ram, other_disk) =
        (node("other-ram", ram.clone(), RAM_BLOCKS)?, node("other-nvme", other_disk, disk_blocks)?);
    let (ram, disk) = (node("ram", ram, RAM_BLOCKS)?, node("nvme", disk, disk_blocks)?);
    let (ram_pull, disk_pull) = (pulling(&certs, &ram)?, pulling(&certs, &disk)?);
    let reads = |node: &BlockNode| Reads::of(&certs, node.addr(), node.keys());
    let (from_ram, from_disk) = (reads(&ram)?, reads(&disk)?);
    let (from_other_ram, from_other_disk) = (reads(&other_ram)?, reads(&other_disk)?);

    let options =
        ClusterOptions { nodes: 1, file_bytes: RAM_BLOCKS * BLOCK as u64, cold_bytes: COLD_SIZES * args.bytes() };
    let cluster = placement.serving(|| LocalCluster::start(&args.dir, options))?;
    let filling = Neighbour::start(|runtime| {
        let client = cluster.client(runtime)?;
        let keys = runtime.block_on(cluster.cold_keys(&client))?;
        Ok(Work::Fill { client: Arc::new(client), keys: keys.into(), next: Arc::default() })
    })?;
    let while_filling = Reads::of(cluster.certs(), cluster.node_addr(0), cluster.keys())?;

    let cases = [
        ("128 KiB from RAM, warm-up reading from", &from_ram, &from_other_ram, &ram_pull),
        ("128 KiB from NVMe, warm-up reading from", &from_disk, &from_other_disk, &disk_pull),
        ("128 KiB from RAM, warm-up filling", &while_filling, &from_other_ram, &filling),
    ];
    let cases = cases.into_iter().flat_map(|(name, reads, others, neighbour)| {
        let beside = move |effort: &Effort| neighbour.during(|| reads.sample(effort));
        [
            Case::limit(format!("{name} the same node"), move |effort: &Effort| reads.sample(effort))
                .ours(Goals::p99(P99_GOAL), beside),
            Case::limit(format!("{name} the same node, against one beside it"), move |effort: &Effort| {
                neighbour.during(|| others.sample(effort))
            })
            .ours(Goals::p99(P99_GOAL), beside),
        ]
    });
    args.race(cases.collect(), rows)
}

/// A neighbour that warms up from `node`.
fn pulling(certs: &Certs, node: &BlockNode) -> anyhow::Result<Neighbour> {
    Neighbour::start(|runtime| {
        let endpoint = runtime.block_on(async { certs.client(MtuChoice::Auto) })?;
        Ok(Work::Pull { endpoint, node: node.addr(), keys: node.keys().into() })
    })
}

/// A program's reads: one at a time.
struct Reads {
    endpoint: Endpoint,
    node: SocketAddr,
    keys: Vec<BlockKey>,
    rng: RefCell<Rng>,
    runtime: Runtime,
}

impl Reads {
    fn of(certs: &Certs, node: SocketAddr, keys: &[BlockKey]) -> anyhow::Result<Reads> {
        let reads = Reads {
            endpoint: certs.client(MtuChoice::Auto)?,
            node,
            keys: keys.to_vec(),
            rng: RefCell::new(Rng::new(15)),
            runtime: drive::runtime()?,
        };
        // Path MTU discovery, and every block touched once.
        reads.sample(&Effort::ops(2 * (BLOCK / CHUNK * reads.keys.len()).min(2048) as u64))?;
        Ok(reads)
    }

    fn sample(&self, effort: &Effort) -> anyhow::Result<Sample> {
        self.runtime.block_on(drive::repeat(effort, 1, async |_| {
            let (key, range) = pick(&mut self.rng.borrow_mut(), &self.keys, CHUNK);
            let (head, bytes) = self.endpoint.fetch(self.node, GetRequest::new(key.clone(), range)).await?;
            ensure!(head.status == Status::Ok && bytes.len() == CHUNK, "answered {head:?} and {} bytes", bytes.len());
            Ok(CHUNK)
        }))
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        self.runtime.block_on(self.endpoint.close());
    }
}

/// Another host, which warms up.
struct Neighbour {
    runtime: Runtime,
    work: Work,
}

/// How it does that.
#[derive(Clone)]
enum Work {
    /// Takes blocks from a node, as a node that joins does.
    Pull { endpoint: Endpoint, node: SocketAddr, keys: Arc<[BlockKey]> },
    /// Has blocks brought in that the node has not, or has dropped for others since: it goes round these, from the `next` one.
    Fill { client: Arc<Attached>, keys: Arc<[BlockKey]>, next: Arc<AtomicUsize> },
}

impl Neighbour {
    /// `prepare` and the threads it starts, on the lowest priority.
    fn start(prepare: impl FnOnce(&Runtime) -> anyhow::Result<Work> + Send) -> anyhow::Result<Neighbour> {
        let start = move || {
            rustix::process::nice(NICENESS).context("cannot lower a thread's priority")?;
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let work = prepare(&runtime)?;
            anyhow::Ok(Neighbour { runtime, work })
        };
        std::thread::scope(|scope| {
            let started = std::thread::Builder::new().name("neighbour".to_owned()).spawn_scoped(scope, start)?;
            started.join().map_err(|_| anyhow::anyhow!("the neighbour could not start"))?
        })
    }

    /// Measures while it works at full speed.
    fn during(&self, measure: impl FnOnce() -> anyhow::Result<Sample>) -> anyhow::Result<Sample> {
        let moved = Arc::new(AtomicU64::new(0));
        let (work, counted) = (self.work.clone(), moved.clone());
        let mut running = task::spawn_on(self.runtime.handle(), "warm-up", async move { work.run(&counted).await });
        let start = clock::now();
        while moved.load(Ordering::Relaxed) == 0 && !running.is_finished() && start.elapsed() < PATIENCE {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let (before, start) = (moved.load(Ordering::Relaxed), clock::now());
        let sample = measure();
        let rate = (moved.load(Ordering::Relaxed) - before) as f64 / 1e6 / start.elapsed().as_secs_f64();
        running.abort();
        if let Ok(ended) = self.runtime.block_on(&mut running) {
            ended.context("the warm-up failed")?;
            anyhow::bail!("the warm-up came to an end");
        }
        println!("warm-up meanwhile: {rate:.0} MB/s");
        sample
    }
}

impl Work {
    /// Goes on until it is dropped; counts the bytes.
    async fn run(self, moved: &AtomicU64) -> anyhow::Result<()> {
        match self {
            Work::Pull { endpoint, node, keys } => {
                let (endpoint, keys) = (&endpoint, &keys);
                let pull_on = async |first: usize| {
                    for key in keys.iter().cycle().skip(first * keys.len() / PULLS) {
                        pull(endpoint, node, key, moved).await?;
                    }
                    anyhow::Ok(())
                };
                try_join_all((0..PULLS).map(pull_on)).await.map(|_| ())
            }
            Work::Fill { client, keys, next } => {
                let (blocks, requests) = FILLS;
                let (client, keys, next) = (&client, &keys, &next);
                let fill_on = async |_| loop {
                    let first = next.fetch_add(blocks, Ordering::Relaxed);
                    let some = (first..first + blocks).map(|index| keys[index % keys.len()].clone()).collect();
                    let report = client.cache.warm(some, |_| ()).await?;
                    ensure!(report.failed == 0, "{} blocks failed: {:?}", report.failed, report.first_error);
                    moved.fetch_add(report.bytes, Ordering::Relaxed);
                };
                try_join_all((0..requests).map(fill_on)).await.map(|_: Vec<()>| ())
            }
        }
    }
}

/// One whole block at class warm-up, whenever the node has time for it.
async fn pull(endpoint: &Endpoint, node: SocketAddr, key: &BlockKey, moved: &AtomicU64) -> anyhow::Result<()> {
    let request = GetRequest { class: Class::WarmUp, ..GetRequest::new(key.clone(), BlockRange::new(0, BLOCK as u32)) };
    loop {
        let mut reply = endpoint.get(node, &request).await?;
        match reply.head.status {
            Status::Ok => {
                while let Some(piece) = reply.body.next().await? {
                    moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
                }
                return Ok(());
            }
            Status::Busy => clock::sleep(BUSY_PAUSE.max(Duration::from_millis(reply.head.retry_ms.into()))).await,
            _ => anyhow::bail!("answered {:?}", reply.head),
        }
    }
}
