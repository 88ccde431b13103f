//! Everything together: a network, an origin, nodes, clients that read all the time, and the faults that strike them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use shoal_cluster::View;
use shoal_net::sim::{NetConfig, SimNet};
use shoal_runtime::simulation::Simulation;
use shoal_runtime::{clock, telemetry};
use shoal_store::testing::{DiskMood, FakeDisk};
use shoal_testkit::Rng;
use shoal_types::NodeId;

use crate::blocks;
use crate::client::Client;
use crate::ledger::Ledger;
use crate::node::{self, Node, Start};
use crate::origin::{Mood, Origin};

/// How long all must have been well before it can be a calm: longer than nodes leave each other alone after a failure.
pub const CALM_AFTER: Duration = Duration::from_secs(15);
/// No client leaves a node alone that has been well for so long.
const FORGIVEN_WITHIN: Duration = Duration::from_secs(60);
/// Longest time for which clients leave a node alone, and some more: whoever is asked after it is asked for good.
const TRIED_AFTER: Duration = Duration::from_secs(35);
/// How long a calm lasts.
const CALM: Duration = Duration::from_secs(5);
/// All views are the same so soon after the last fault was mended.
const AGREED_WITHIN: Duration = Duration::from_secs(12);
/// A killed node is in no node's view after this.
const GONE_WITHIN: Duration = Duration::from_secs(7);
/// No read waits longer while the origin answers: two owners in turn that say nothing, five seconds each, and the origin.
const PATIENCE: Duration = Duration::from_secs(12);
/// Nodes that newcomers ask.
const SEEDS: usize = 3;

/// How large a world is, and what is wrong with it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub nodes: u32,
    pub clients: u32,
    pub blocks: u32,
    /// A bug put in on purpose, which must be found.
    pub bug: Option<Bug>,
}

impl Size {
    pub fn new(nodes: u32, clients: u32, blocks: u32) -> Size {
        Size { nodes, clients, blocks, bug: None }
    }
}

/// Bugs that can be put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Clients do not go to the origin when nodes fail.
    NoWayToTheOrigin,
    /// A node fetches a block for every request that misses it.
    NoSingleFlight,
    /// A node's answer has a wrong byte now and then.
    WrongBytes,
    /// A dead node stays in the views.
    ImmortalNodes,
}

/// What can strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Crash,
    Freeze,
    Leave,
    Join,
    Partition,
    OneWay,
    SlowNode,
    Loss,
    SlowOrigin,
    FailingOrigin,
    HungOrigin,
    SlowDisk,
    FailingDisk,
    HungDisk,
}

impl Fault {
    pub const ALL: [Fault; 14] = [
        Fault::Crash,
        Fault::Freeze,
        Fault::Leave,
        Fault::Join,
        Fault::Partition,
        Fault::OneWay,
        Fault::SlowNode,
        Fault::Loss,
        Fault::SlowOrigin,
        Fault::FailingOrigin,
        Fault::HungOrigin,
        Fault::SlowDisk,
        Fault::FailingDisk,
        Fault::HungDisk,
    ];
}

/// A whole world. Its seed decides all that happens in it.
pub struct World {
    pub net: SimNet,
    pub ledger: Ledger,
    pub origin: Origin,
    pub rng: Rng,
    pub nodes: BTreeMap<u32, Node>,
    clients: Vec<Client>,
    /// Nodes to start again.
    crashed: BTreeSet<u32>,
    frozen: BTreeSet<u32>,
    slow: BTreeSet<u32>,
    /// Every node's disk, which outlives it.
    disks: BTreeMap<u32, FakeDisk>,
    ill_disks: BTreeSet<u32>,
    /// Times each node was started.
    lives: BTreeMap<u32, u32>,
    blocks: u32,
    bug: Option<Bug>,
    /// Blocks that nobody has read yet begin here.
    fresh: u32,
    /// Slowest agreement and slowest notice of a death so far.
    slowest: (Duration, Duration),
}

/// Runs `scenario` in a world of `size`. Panics, saying how to run it again, if anything was wrong in it.
pub fn simulate(name: &str, seed: u64, size: Size, scenario: impl AsyncFnOnce(&mut World)) -> Outcome {
    let _replay = Replay { name, seed, size };
    if std::env::var_os("RUST_LOG").is_some() {
        telemetry::init(telemetry::LogLevel::Warn);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let outcome = runtime.block_on(async {
        let _simulation = Simulation::begin(seed);
        let began = clock::now();
        let mut world = World::start(seed, size).await;
        scenario(&mut world).await;
        let (agreed, noticed) = world.slowest;
        println!("{name} seed {seed}: {} ({:.0} simulated s)", world.ledger, (clock::now() - began).as_secs_f64());
        println!("    slowest agreement after a storm {agreed:?}, slowest notice of a death {noticed:?}");
        Outcome { trace: world.net.trace(), violations: world.ledger.violations() }
    });
    drop(runtime);
    outcome
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Fingerprint of every message.
    pub trace: u64,
    pub violations: Vec<String>,
}

impl Outcome {
    /// Panics if anything was wrong.
    pub fn check(&self, name: &str, seed: u64, size: Size) {
        let _replay = Replay { name, seed, size };
        assert!(
            self.violations.is_empty(),
            "{} violations:\n  {}",
            self.violations.len(),
            self.violations.join("\n  ")
        );
    }
}

/// Says how to run a failed simulation again.
struct Replay<'a> {
    name: &'a str,
    seed: u64,
    size: Size,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Replay { name, seed, size } = self;
            eprintln!(
                "seed {seed} failed with {} nodes; again: SHOAL_SIM_SEED={seed} SHOAL_SIM_NODES={} cargo test -p shoal-sim {name} -- \
                 --include-ignored --nocapture",
                size.nodes, size.nodes
            );
        }
    }
}

impl World {
    async fn start(seed: u64, size: Size) -> World {
        let ledger = Ledger::new();
        let mut world = World {
            net: SimNet::new(NetConfig::default()),
            origin: Origin::new(ledger.clone()),
            ledger,
            rng: Rng::new(seed),
            nodes: BTreeMap::new(),
            clients: Vec::new(),
            crashed: BTreeSet::new(),
            frozen: BTreeSet::new(),
            slow: BTreeSet::new(),
            disks: BTreeMap::new(),
            ill_disks: BTreeSet::new(),
            lives: BTreeMap::new(),
            blocks: size.blocks,
            bug: size.bug,
            fresh: size.blocks,
            slowest: Default::default(),
        };
        for number in 0..size.nodes {
            world.start_node(number).await;
            clock::sleep(Duration::from_millis(world.rng.below(2000 / u64::from(size.nodes) + 2))).await;
        }
        world.agree("at the start").await;
        for number in 0..size.clients {
            let client = Client::start(&world.net, &world.origin, &world.ledger, number, size, world.seeds(0));
            world.clients.push(client.await);
        }
        world
    }

    /// Starts node `number`, for the first time or again.
    pub async fn start_node(&mut self, number: u32) {
        let seeds = self.seeds(number);
        let life = self.lives.entry(number).or_default();
        *life += 1;
        let (net, origin) = (self.net.clone(), self.origin.clone());
        let disk = self.disks.entry(number).or_default().clone();
        let start = Start { net, origin, number, life: *life, seeds, disk, bug: self.bug };
        self.nodes.insert(number, Node::start(start).await);
    }

    /// Starts a node that was never there; gives its number.
    pub async fn join(&mut self) -> u32 {
        let number = self.lives.keys().last().map_or(0, |last| last + 1);
        self.start_node(number).await;
        number
    }

    /// Ends node `number` without a word, for good unless it is started again.
    pub fn kill(&mut self, number: u32) {
        if let Some(node) = self.nodes.remove(&number) {
            node.kill(&self.net);
        }
    }

    /// Kills a node at random for good; gives its number.
    pub fn pick_and_kill(&mut self) -> u32 {
        let number = self.pick();
        self.kill(number);
        number
    }

    /// A node that is well, at random.
    pub fn pick(&mut self) -> u32 {
        let well: Vec<u32> =
            self.nodes.keys().copied().filter(|n| !self.frozen.contains(n) && !self.slow.contains(n)).collect();
        *self.rng.pick(&well)
    }

    /// True if every node and every client has the same view, of the nodes that there are.
    pub fn agreed(&self) -> bool {
        let ids: Vec<NodeId> = self.nodes.values().map(|node| node.id).collect();
        let mut views = self.nodes.values().map(Node::view).chain(self.clients.iter().map(Client::view));
        let first = views.next().map(|view| view.epoch());
        let mut all = self.nodes.values().map(Node::view).chain(self.clients.iter().map(Client::view));
        all.all(|view| {
            Some(view.epoch()) == first && view.members.iter().map(|member| member.id).eq(ids.iter().copied())
        })
    }

    /// Waits until all agree; gives how long that took. A violation if it takes too long.
    pub async fn agree(&mut self, when: &str) -> Duration {
        let began = clock::now();
        while !self.agreed() {
            if clock::now() - began > 5 * AGREED_WITHIN {
                self.ledger.violation(format!("{when}: the views differ for good: {}", self.differences()));
                break;
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
        let took = clock::now() - began;
        if took > AGREED_WITHIN && when != "at the start" {
            self.ledger.violation(format!("{when}: it took {took:?} until all views were the same"));
        }
        took
    }

    /// Who sees something else than there is, in words.
    fn differences(&self) -> String {
        let there: BTreeSet<NodeId> = self.nodes.values().map(|node| node.id).collect();
        let mut words = Vec::new();
        let nodes = self.nodes.iter().map(|(number, node)| (format!("node {number}"), node.view()));
        let clients = self.clients.iter().map(|client| (format!("client {}", client.addr), client.view()));
        for (who, view) in nodes.chain(clients) {
            let seen: BTreeSet<NodeId> = view.members.iter().map(|member| member.id).collect();
            let (lacks, dead) = (there.difference(&seen).count(), seen.difference(&there).count());
            if (lacks, dead) != (0, 0) {
                words.push(format!("{who} lacks {lacks} and has {dead} that are gone"));
            }
        }
        words.truncate(5);
        words.join(", ")
    }

    /// Waits until no node that is well has dead node `number` in its view. A violation if that takes too long.
    pub async fn notice(&mut self, number: u32) -> Duration {
        let (began, id) = (clock::now(), node::id(number));
        let seen = |world: &World| {
            let well = world.nodes.iter().filter(|(number, _)| !world.frozen.contains(number));
            well.filter(|(_, node)| node.view().member(id).is_some()).count()
        };
        loop {
            let (left, took) = (seen(self), clock::now() - began);
            if left == 0 {
                self.slowest.1 = self.slowest.1.max(took);
                return took;
            }
            if took > GONE_WITHIN {
                self.ledger.violation(format!("node {number} died {took:?} ago and is in {left} views"));
                return took;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Strikes with `fault`.
    pub async fn strike(&mut self, fault: Fault) {
        self.ledger.storm();
        let number = self.pick();
        let addr = node::addr(number);
        println!("    {}: {fault:?} (of node {number}, if of one)", self.ledger.time());
        match fault {
            Fault::Crash => {
                self.kill(number);
                self.crashed.insert(number);
            }
            Fault::Freeze => {
                self.nodes[&number].process.freeze();
                self.net.freeze(addr);
                self.frozen.insert(number);
            }
            Fault::Leave => {
                if let Some(node) = self.nodes.remove(&number) {
                    node.leave().await;
                }
            }
            Fault::Join => drop(self.join().await),
            Fault::Partition => {
                let percent = 10 + self.rng.below(41);
                let everyone = self.nodes.keys().map(|number| node::addr(*number));
                let mut far: Vec<SocketAddr> = everyone.chain(self.clients.iter().map(|client| client.addr)).collect();
                far.retain(|_| self.rng.chance(percent));
                self.net.part(&far);
            }
            Fault::OneWay => {
                let other = node::addr(self.pick());
                self.net.cut(addr, other);
            }
            Fault::SlowNode => {
                self.net.slow(addr, Duration::from_millis(20 + self.rng.below(200)), Some(1 << 20));
                self.slow.insert(number);
            }
            Fault::Loss => self.net.lose(0.02 + self.rng.below(80) as f64 / 1000.0),
            Fault::SlowOrigin => self.origin.turns(Mood::Slow(Duration::from_millis(500))),
            Fault::FailingOrigin => self.origin.turns(Mood::Failing(20)),
            Fault::HungOrigin => self.origin.turns(Mood::Hung),
            Fault::SlowDisk => self.upset(number, DiskMood::Answers(Duration::from_millis(300))),
            Fault::FailingDisk => self.upset(number, DiskMood::Fails),
            Fault::HungDisk => self.upset(number, DiskMood::Hangs),
        }
    }

    fn upset(&mut self, number: u32, mood: DiskMood) {
        self.disks[&number].turns(mood);
        self.ill_disks.insert(number);
    }

    /// Ends every fault; who crashed starts again.
    pub async fn mend(&mut self) {
        self.net.heal();
        self.net.lose(NetConfig::default().loss);
        self.origin.turns(Mood::Well);
        for number in std::mem::take(&mut self.frozen) {
            self.net.thaw(node::addr(number));
            self.nodes[&number].process.thaw();
        }
        for number in std::mem::take(&mut self.slow) {
            self.net.slow(node::addr(number), Duration::ZERO, None);
        }
        for number in std::mem::take(&mut self.ill_disks) {
            self.disks[&number].turns(DiskMood::Answers(Duration::from_millis(1)));
            self.ledger.lost(node::id(number));
        }
        for number in std::mem::take(&mut self.crashed) {
            self.start_node(number).await;
        }
    }

    /// Mends, waits until all agree and no client avoids anyone, and then holds everyone to what must be in a calm.
    pub async fn settle(&mut self) {
        self.mend().await;
        println!("    {}: mended", self.ledger.time());
        let mended = clock::now();
        let took = self.agree("after a storm").await;
        self.slowest.0 = self.slowest.0.max(took);
        // A request that the origin has swallowed hangs until its timeout.
        while self.ledger.oldest_get().is_some_and(|began| began < mended) {
            self.rest(Duration::from_secs(1)).await;
        }
        self.rest(CALM_AFTER).await;
        self.forgive(mended).await;
        if !self.agreed() {
            self.ledger.violation(format!("views changed without a reason: {}", self.differences()));
        }
        if let Some(view) = self.view() {
            let lives = self.nodes.values().map(|node| (node.id, node.life)).collect();
            self.ledger.calm(view, lives);
        }
        println!("    {}: calm", self.ledger.time());
        self.herd().await;
        self.rest(CALM).await;
    }

    /// Has every client ask every node, until none leaves any alone. A violation if that takes too long after `mended`.
    async fn forgive(&mut self, mended: Instant) {
        let visits = self.one_block_of_each_node();
        loop {
            join_all(self.clients.iter().map(|client| client.visit(visits.clone()))).await;
            let avoided: i64 = self.clients.iter().map(Client::avoids).sum();
            // Clients go on counting nodes that are gone for good.
            let gone = self.lives.len() > self.nodes.len();
            if avoided == 0 || (gone && clock::now() - mended > TRIED_AFTER) {
                return;
            }
            if clock::now() - mended > FORGIVEN_WITHIN {
                return self.ledger.violation(format!("clients still leave {avoided} nodes alone"));
            }
            self.rest(Duration::from_secs(2)).await;
        }
    }

    /// All clients read a block at once that nobody has read before.
    async fn herd(&mut self) {
        self.fresh += 1;
        join_all(self.clients.iter().map(|client| client.visit(vec![self.fresh]))).await;
    }

    /// Lets time pass and looks after those who wait.
    pub async fn rest(&mut self, time: Duration) {
        let end = clock::now() + time;
        while clock::now() < end {
            clock::sleep(Duration::from_millis(250)).await;
            self.ledger.check_patience(PATIENCE);
        }
    }

    /// A node's view.
    pub fn view(&self) -> Option<Arc<View>> {
        self.nodes.values().next().map(Node::view)
    }

    /// The oldest nodes that there are, or will be again.
    fn seeds(&self, newcomer: u32) -> Vec<String> {
        let mut numbers: BTreeSet<u32> = self.nodes.keys().chain(&self.crashed).copied().collect();
        numbers.insert(newcomer);
        numbers.iter().take(SEEDS).map(|number| node::addr(*number).to_string()).collect()
    }

    fn one_block_of_each_node(&self) -> Vec<u32> {
        let Some(view) = self.view() else { return Vec::new() };
        let mut found = BTreeMap::new();
        for number in 0..self.blocks {
            for owner in view.owners(&blocks::block(number).key, 1) {
                found.entry(owner.id).or_insert(number);
            }
        }
        found.into_values().collect()
    }
}
