//! `shoal-bench peer`: a block from another node against bare quinn between the same two ends.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use shoal_net::{Endpoint, MtuChoice};
use shoal_runtime::{clock, task};
use shoal_store::StoreConfig;
use shoal_testkit::{Rng, TestDir};
use shoal_types::{BlockKey, Tier};
use shoal_wire::{GetMany, GetRequest, MAX_ITEMS, Status};
use tokio::runtime::Runtime;

use crate::cluster::{BlockNode, Certs, ClusterOptions, LocalCluster, disk_bytes, disk_store};
use crate::drive;
use crate::limits::pki::Pki;
use crate::limits::quic::{Mtu, Quic};
use crate::limits::uring::UringFile;
use crate::limits::{BLOCK, CHUNK, PAGE};
use crate::miss::Miss;
use crate::options::{RaceArgs, Rows};
use crate::placement::{Place, Placement};
use crate::race::Case;
use crate::report::{Goals, Report, Row};
use crate::sample::{Effort, Meter, Sample};
use crate::store::pick;

/// Blocks that are read from RAM: more than the CPU's caches hold.
const RAM_BLOCKS: u64 = 16;
/// Requests in one batch: the most there may be.
const BATCH: usize = MAX_ITEMS;
/// How much longer than bare QUIC's the network's part of a small read may take.
const QUIC_SHARE: f64 = 1.5;
/// Whole blocks fetched before anything is measured: path MTU discovery takes about one.
const WARM_UP: u64 = 20;

/// Measure blocks from another node against bare quinn.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    race: RaceArgs,
}

/// Measures, prints the table and writes the JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    Report::new("peer", rows(&args.race, Rows::All)?).publish(args.race.json())
}

/// Measures.
pub fn rows(args: &RaceArgs, rows: Rows) -> anyhow::Result<Vec<Row>> {
    let ends = Ends::start(args)?;
    let mut cases = ends.ram_cases();
    cases.extend(ends.disk_cases());
    cases.push(ends.miss_case());
    cases.extend(ends.thread_cases());
    cases.extend(ends.batch_cases());
    args.race(cases, rows)
}

/// Everything that is asked. Fields are dropped in this order: askers before answerers.
struct Ends {
    loopback: Quic,
    jumbo: Quic,
    internet: Quic,
    node: Peer,
    jumbo_node: Peer,
    internet_node: Peer,
    disk_node: Peer,
    miss: Miss,
    raw: RefCell<UringFile>,
    _cluster: LocalCluster,
    _nodes: [BlockNode; 3],
    _placement: Placement,
    _dir: TestDir,
}

impl Ends {
    fn start(args: &RaceArgs) -> anyhow::Result<Ends> {
        let placement = Placement::new(args.place.unwrap_or_else(Place::of_hosts))?;
        let pki = Pki::generate()?;
        let bare = |mtu| Quic::start(&pki, mtu, &placement);
        let dir = TestDir::inside(&args.dir, "bench");
        let certs = Certs::make(dir.path())?;
        let options = ClusterOptions { nodes: 1, file_bytes: RAM_BLOCKS * BLOCK as u64, cold_bytes: 0 };
        let cluster = placement.serving(|| LocalCluster::start(&args.dir, options))?;
        let at_mtu = |name, mtu: Mtu| {
            let (choice, memory) = (MtuChoice::Everywhere(mtu.payload()), 4 * RAM_BLOCKS * BLOCK as u64);
            let config = StoreConfig { memory, ..StoreConfig::default() };
            placement.serving(|| BlockNode::start(&certs, name, choice, config, RAM_BLOCKS))
        };
        let (internet, jumbo) = (at_mtu("internet", Mtu::Internet)?, at_mtu("jumbo", Mtu::Jumbo)?);
        let on_disk = disk_store(dir.mkdir("nvme"), disk_bytes(args.bytes()));
        let blocks = args.bytes() / BLOCK as u64;
        let disk = placement.serving(|| BlockNode::start(&certs, "nvme", MtuChoice::Auto, on_disk, blocks))?;
        let to = |node: &BlockNode, mtu: Option<Mtu>, tier| {
            let choice = mtu.map_or(MtuChoice::Auto, |mtu| MtuChoice::Everywhere(mtu.payload()));
            Peer::connect(&certs, choice, node.addr(), node.keys(), tier)
        };
        Ok(Ends {
            loopback: bare(Mtu::Loopback)?,
            jumbo: bare(Mtu::Jumbo)?,
            internet: bare(Mtu::Internet)?,
            node: Peer::connect(cluster.certs(), MtuChoice::Auto, cluster.node_addr(0), cluster.keys(), Tier::Ram)?,
            jumbo_node: to(&jumbo, Some(Mtu::Jumbo), Tier::Ram)?,
            internet_node: to(&internet, Some(Mtu::Internet), Tier::Ram)?,
            disk_node: to(&disk, None, Tier::Nvme)?,
            miss: Miss::start(&certs, &placement)?,
            raw: RefCell::new(UringFile::prepare(dir.path(), args.bytes()).context("raw disk")?),
            _cluster: cluster,
            _nodes: [internet, jumbo, disk],
            _placement: placement,
            _dir: dir,
        })
    }

    fn ram_cases(&self) -> Vec<Case<'_>> {
        let mut cases = Vec::new();
        for (mtu, quic, peer) in [
            (Mtu::Loopback, &self.loopback, &self.node),
            (Mtu::Jumbo, &self.jumbo, &self.jumbo_node),
            (Mtu::Internet, &self.internet, &self.internet_node),
        ] {
            for (size, bytes, depth, goals) in [
                ("4 MiB", BLOCK, 1, Goals::rate(0.9).and_cpu(1.15)),
                ("128 KiB", CHUNK, 1, Goals::NONE),
                ("4 KiB", PAGE, 1, Goals::p50(1.5)),
                ("4 KiB", PAGE, 64, Goals::NONE),
            ] {
                let name = format!("GET {size} depth {depth} RAM hit, packets of {}", mtu.payload());
                let limit = move |effort: &Effort| quic.get(effort, bytes, depth);
                cases.push(Case::limit(name, limit).ours(goals, move |effort: &Effort| peer.get(effort, bytes, depth)));
            }
        }
        cases
    }

    fn disk_cases(&self) -> Vec<Case<'_>> {
        let mut cases = Vec::new();
        for (size, bytes) in [("4 MiB", BLOCK), ("4 KiB", PAGE)] {
            let limit = move |effort: &Effort| self.raw.borrow_mut().read(effort, bytes, 1);
            let ours = move |effort: &Effort| self.disk_node.get(effort, bytes, 1);
            cases.push(Case::limit(format!("GET {size} NVMe hit against raw io_uring"), limit).ours(Goals::NONE, ours));
        }
        let both = |effort: &Effort| {
            let disk = self.raw.borrow_mut().read(effort, PAGE, 1)?;
            let network = self.loopback.get(effort, PAGE, 1)?;
            Ok(in_turn(&disk, &network, QUIC_SHARE))
        };
        let ours = |effort: &Effort| self.disk_node.get(effort, PAGE, 1);
        let name = format!("GET 4 KiB NVMe hit against raw io_uring and then {QUIC_SHARE} bare QUIC");
        cases.push(Case::limit(name, both).ours(Goals::p50(1.0), ours));
        cases
    }

    /// A block that must be fetched first, against the smallest exchange there is; its p50 should stay below 2 ms.
    fn miss_case(&self) -> Case<'_> {
        let bare = |effort: &Effort| self.loopback.get(effort, PAGE, 1);
        let name = "fill: first byte after the origin's first byte";
        Case::limit(name, bare).ours(Goals::NONE, |effort: &Effort| self.miss.first_byte(effort))
    }

    /// What the hand-over between the caller's thread and the network's costs.
    fn thread_cases(&self) -> Vec<Case<'_>> {
        let mut cases = Vec::new();
        for (size, bytes) in [("4 MiB", BLOCK), ("4 KiB", PAGE)] {
            let bare = move |effort: &Effort| self.loopback.get(effort, bytes, 1);
            let fetch = move |effort: &Effort| self.node.fetch(effort, bytes, 1);
            let name = format!("GET {size} RAM hit gathered on the network thread");
            cases.push(Case::limit(name, bare).ours(Goals::NONE, fetch));
            let near = move |effort: &Effort| self.node.get_near(effort, bytes);
            let name = format!("GET {size} RAM hit asked on the network thread");
            cases.push(Case::limit(name, bare).ours(Goals::NONE, near));
        }
        cases
    }

    /// Many small ranges in one request against as many requests.
    fn batch_cases(&self) -> Vec<Case<'_>> {
        let ours = |effort: &Effort| self.node.get_many(effort, BATCH, PAGE);
        [1, 64]
            .map(|depth| {
                let one_by_one = move |effort: &Effort| self.node.get(effort, PAGE, depth);
                let name = format!("GET {BATCH} x 4 KiB in one request against requests at depth {depth}");
                Case::limit(name, one_by_one).ours(Goals::NONE, ours)
            })
            .into()
    }
}

/// A sample whose every latency is the median of `first` and `share` of that of `second`: what one after the other takes.
fn in_turn(first: &Sample, second: &Sample, share: f64) -> Sample {
    let took = Duration::from_secs_f64((first.p50_us() + share * second.p50_us()) / 1e6);
    let (ops, bytes) = (first.ops, first.bytes);
    let cpu_s = first.cpu_s + share * second.cpu_s * ops as f64 / second.ops.max(1) as f64;
    let wall = took.mul_f64(ops as f64);
    Sample { bytes, ops, wall, cpu_s, latencies: vec![took] }
}

/// A client of one node.
struct Peer {
    endpoint: Endpoint,
    node: SocketAddr,
    keys: Vec<BlockKey>,
    /// Where the node must find the blocks.
    tier: Tier,
    rng: RefCell<Rng>,
    runtime: Runtime,
}

impl Peer {
    fn connect(certs: &Certs, mtu: MtuChoice, node: SocketAddr, keys: &[BlockKey], tier: Tier) -> anyhow::Result<Peer> {
        let peer = Peer {
            endpoint: certs.client(mtu)?,
            node,
            keys: keys.to_vec(),
            tier,
            rng: RefCell::new(Rng::new(14)),
            runtime: drive::runtime()?,
        };
        peer.get(&Effort::ops(WARM_UP), BLOCK, 1)?;
        Ok(peer)
    }

    /// Requests of `size` bytes at random multiples of it in random blocks, asked on a thread of the caller's as clients do: small
    /// answers are fetched, larger ones streamed.
    fn get(&self, effort: &Effort, size: usize, depth: usize) -> anyhow::Result<Sample> {
        if size <= CHUNK {
            return self.fetch(effort, size, depth);
        }
        self.runtime.block_on(drive::repeat(effort, depth, async |_| {
            let request = self.request(size);
            let reply = self.endpoint.get(self.node, &request).await?;
            ensure!(reply.head.status == Status::Ok && reply.head.tier == self.tier, "answered {:?}", reply.head);
            // In one piece of memory, as a client's cache keeps it.
            let bytes = reply.body.collect().await?;
            ensure!(bytes.len() == size, "{} bytes instead of {size}", bytes.len());
            Ok(size)
        }))
    }

    /// The same with [`Endpoint::fetch`]: the caller's thread is woken once an answer.
    fn fetch(&self, effort: &Effort, size: usize, depth: usize) -> anyhow::Result<Sample> {
        self.runtime.block_on(drive::repeat(effort, depth, async |_| {
            let (head, bytes) = self.endpoint.fetch(self.node, self.request(size)).await?;
            ensure!(head.status == Status::Ok && head.tier == self.tier, "answered {head:?}");
            ensure!(bytes.len() == size, "{} bytes instead of {size}", bytes.len());
            Ok(size)
        }))
    }

    /// Batches of `count` requests of `size` bytes, one batch at a time. An operation is one of the requests.
    fn get_many(&self, effort: &Effort, count: usize, size: usize) -> anyhow::Result<Sample> {
        let batches = self.runtime.block_on(drive::repeat(effort, 1, async |_| {
            let items = (0..count).map(|_| self.request(size)).map(|request| (request.key, request.range)).collect();
            let mut reply = self.endpoint.get_many(self.node, GetMany::new(items)).await?;
            let mut bytes = 0;
            while let Some((head, body)) = reply.next().await? {
                ensure!(head.status == Status::Ok && body.len() == size, "answered {head:?}");
                bytes += body.len();
            }
            ensure!(bytes == count * size, "{bytes} bytes instead of {}", count * size);
            Ok(bytes)
        }))?;
        Ok(Sample { ops: batches.ops * count as u64, ..batches })
    }

    /// The same as [`Peer::get`], one at a time, on the thread that moves the packets: what is left without a hand-over to another thread.
    fn get_near(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let (endpoint, node, effort) = (self.endpoint.clone(), self.node, *effort);
        let requests: Vec<GetRequest> = (0..64).map(|_| self.request(size)).collect();
        let work = task::spawn_on(&self.endpoint.runtime(), "bench", async move {
            let mut meter = Meter::start(&effort);
            for request in requests.iter().cycle() {
                if !meter.goes_on(0) {
                    break;
                }
                let began = clock::now();
                endpoint.get(node, request).await?.body.collect().await?;
                meter.done(began, size as u64);
            }
            anyhow::Ok(meter.finish())
        });
        self.runtime.block_on(work).context("the network thread ended")?
    }

    fn request(&self, size: usize) -> GetRequest {
        let (key, range) = pick(&mut self.rng.borrow_mut(), &self.keys, size);
        GetRequest::new(key.clone(), range)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.runtime.block_on(self.endpoint.close());
    }
}
