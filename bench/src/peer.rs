//! `shoal-bench peer`: a block from another node against bare quinn between the same two ends.

use std::cell::RefCell;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use shoal_net::{Endpoint, MtuChoice};
use shoal_runtime::{clock, task};
use shoal_store::StoreConfig;
use shoal_testkit::{Rng, TestDir};
use shoal_types::{BlockKey, Class, Tier};
use shoal_wire::{GetRequest, Status};
use tokio::runtime::Runtime;

use crate::buffer::Aligned;
use crate::cluster::{BlockNode, Certs, ClusterOptions, LocalCluster, disk_bytes, disk_store};
use crate::drive;
use crate::limits::pki::Pki;
use crate::limits::quic::{Mtu, Quic};
use crate::limits::uring::UringFile;
use crate::limits::{BLOCK, CHUNK, PAGE};
use crate::options::{RaceArgs, Rows};
use crate::placement::Placement;
use crate::race::Case;
use crate::report::{Goals, Report, Row};
use crate::sample::{Effort, Meter, Sample};
use crate::store::pick;

/// Blocks that are read from RAM: more than the CPU's caches hold.
const RAM_BLOCKS: u64 = 16;
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
    let placement = Placement::new(args.place)?;
    let pki = Pki::generate()?;
    let bare = |mtu| Quic::start(&pki, mtu, &placement);
    let (internet, jumbo, loopback) = (bare(Mtu::Internet)?, bare(Mtu::Jumbo)?, bare(Mtu::Loopback)?);
    let dir = TestDir::inside(&args.dir, "bench");
    let certs = Certs::make(dir.path())?;
    let options = ClusterOptions { nodes: 1, file_bytes: RAM_BLOCKS * BLOCK as u64 };
    let cluster = placement.serving(|| LocalCluster::start(&args.dir, options))?;
    let node = Peer::connect(cluster.certs(), MtuChoice::Auto, cluster.node_addr(0), cluster.keys(), Tier::Ram)?;
    let at_mtu = |name, mtu: Mtu| {
        let (choice, memory) = (MtuChoice::Everywhere(mtu.payload()), 4 * RAM_BLOCKS * BLOCK as u64);
        let config = StoreConfig { memory, ..StoreConfig::default() };
        placement.serving(|| BlockNode::start(&certs, name, choice, config, RAM_BLOCKS)).map(|node| (node, choice))
    };
    let (internet_node, internet_mtu) = at_mtu("internet", Mtu::Internet)?;
    let (jumbo_node, jumbo_mtu) = at_mtu("jumbo", Mtu::Jumbo)?;
    let on_disk = disk_store(dir.mkdir("nvme"), disk_bytes(args.bytes()));
    let blocks = args.bytes() / BLOCK as u64;
    let disk_node = placement.serving(|| BlockNode::start(&certs, "nvme", MtuChoice::Auto, on_disk, blocks))?;
    let to = |node: &BlockNode, mtu, tier| Peer::connect(&certs, mtu, node.addr(), node.keys(), tier);
    let internet_peer = to(&internet_node, internet_mtu, Tier::Ram)?;
    let jumbo_peer = to(&jumbo_node, jumbo_mtu, Tier::Ram)?;
    let disk_peer = to(&disk_node, MtuChoice::Auto, Tier::Nvme)?;
    let raw = RefCell::new(UringFile::prepare(dir.path(), args.bytes()).context("raw disk")?);

    let mut cases = Vec::new();
    for (mtu, quic, peer) in [
        (Mtu::Loopback, &loopback, &node),
        (Mtu::Jumbo, &jumbo, &jumbo_peer),
        (Mtu::Internet, &internet, &internet_peer),
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
    for (size, bytes) in [("4 MiB", BLOCK), ("4 KiB", PAGE)] {
        let (loopback, node) = (&loopback, &node);
        let bare = move |effort: &Effort| loopback.get(effort, bytes, 1);
        let fetch = move |effort: &Effort| node.fetch(effort, bytes);
        cases.push(
            Case::limit(format!("GET {size} RAM hit gathered on the network thread"), bare).ours(Goals::NONE, fetch),
        );
        let near = move |effort: &Effort| node.get_near(effort, bytes);
        cases
            .push(Case::limit(format!("GET {size} RAM hit asked on the network thread"), bare).ours(Goals::NONE, near));
    }
    for (size, bytes) in [("4 MiB", BLOCK), ("4 KiB", PAGE)] {
        let (raw, disk_peer) = (&raw, &disk_peer);
        let limit = move |effort: &Effort| raw.borrow_mut().read(effort, bytes, 1);
        let ours = move |effort: &Effort| disk_peer.get(effort, bytes, 1);
        cases.push(Case::limit(format!("GET {size} NVMe hit against raw io_uring"), limit).ours(Goals::NONE, ours));
    }
    args.race(cases, rows)
}

/// A client of one node.
struct Peer {
    endpoint: Endpoint,
    node: SocketAddr,
    keys: Vec<BlockKey>,
    /// Where the node must find the blocks.
    tier: Tier,
    rng: RefCell<Rng>,
    /// Where answers are gathered, as a reader of blocks would.
    target: RefCell<Aligned>,
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
            target: RefCell::new(Aligned::zeroed(BLOCK)),
            runtime: drive::runtime()?,
        };
        peer.get(&Effort::ops(WARM_UP), BLOCK, 1)?;
        Ok(peer)
    }

    /// Requests of `size` bytes at random multiples of it in random blocks, asked on a thread of the caller's as clients do.
    fn get(&self, effort: &Effort, size: usize, depth: usize) -> anyhow::Result<Sample> {
        self.runtime.block_on(drive::repeat(effort, depth, async |_| {
            let request = self.request(size);
            let reply = self.endpoint.get(self.node, &request).await?;
            ensure!(reply.head.status == Status::Ok && reply.head.tier == self.tier, "answered {:?}", reply.head);
            let (mut body, mut at) = (reply.body, 0);
            while let Some(piece) = body.next().await? {
                self.target.borrow_mut()[at..at + piece.len()].copy_from_slice(&piece);
                at += piece.len();
            }
            ensure!(at == size, "{at} bytes instead of {size}");
            Ok(size)
        }))
    }

    /// The same, one at a time, with [`Endpoint::fetch`]: the caller's thread is woken once an answer.
    fn fetch(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        self.runtime.block_on(drive::repeat(effort, 1, async |_| {
            let (head, bytes) = self.endpoint.fetch(self.node, self.request(size)).await?;
            ensure!(head.status == Status::Ok && bytes.len() == size, "answered {head:?} and {} bytes", bytes.len());
            Ok(size)
        }))
    }

    /// The same as [`Peer::get`], one at a time, on the thread that moves the packets: what is left without a hand-over to another thread.
    fn get_near(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let (endpoint, node, effort) = (self.endpoint.clone(), self.node, *effort);
        let requests: Vec<GetRequest> = (0..64).map(|_| self.request(size)).collect();
        let work = task::spawn_on(&self.endpoint.runtime(), "bench", async move {
            let mut target = Aligned::zeroed(size);
            let mut meter = Meter::start(&effort);
            for request in requests.iter().cycle() {
                if !meter.goes_on(0) {
                    break;
                }
                let began = clock::now();
                endpoint.get(node, request).await?.body.read_into(&mut target).await?;
                meter.done(began, size as u64);
            }
            anyhow::Ok(meter.finish())
        });
        self.runtime.block_on(work).context("the network thread ended")?
    }

    fn request(&self, size: usize) -> GetRequest {
        let (key, range) = pick(&mut self.rng.borrow_mut(), &self.keys, size);
        GetRequest { key: key.clone(), range, class: Class::Foreground, deadline_ms: 0, epoch: 0 }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.runtime.block_on(self.endpoint.close());
    }
}
