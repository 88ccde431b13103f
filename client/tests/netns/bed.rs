//! One scenario's hosts: four for nodes, two for mounts, one for the origin, one to look on from.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use shoal_testkit::{ChildGuard, InNamespace, PATIENCE, wait_until};

use crate::counters::{Counters, Source};
use crate::net::{Host, Net};
use crate::reader::{Files, Found, Reader};
use crate::rig::node::metric;
use crate::rig::origin::Origin;
use crate::rig::{Mount, Node, NodeOptions, Rig};

/// Hosts of nodes.
pub const NODES: [Host; 4] = [1, 2, 3, 4];
/// Hosts of the mounts.
pub const MOUNTS: [Host; 2] = [5, 6];
/// Host of the origin.
pub const ORIGIN: Host = 7;
/// Host of the test itself: what it asks of nodes and what it reads of their metrics passes no broken link.
pub const LOOKOUT: Host = 8;

/// UDP port of every node, in a namespace where nothing else is.
const NODE_PORT: u16 = 7100;
/// TCP port of every node's metrics page.
const METRICS_PORT: u16 = 9568;

/// What the 99th percentile of pauses should stay below.
const PAUSE_GOAL: Duration = Duration::from_secs(2);
/// What it must stay below on any machine, however loaded.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Of a hundred warm blocks, how many the origin may be asked for again because a node came or went.
const GETS_MAX_PERCENT: u64 = 1;
/// Everything of one scenario but its nodes and mounts.
pub struct Bed {
    pub rig: Rig,
    pub net: Net,
    pub origin: Origin,
    /// The files of the volume that a reader reads.
    pub files: Files,
    url: String,
    /// The test's thread is at the lookout.
    _lookout: InNamespace,
}

/// A reader at work, and the counts from before it.
pub struct Watch<'a> {
    bed: &'a Bed,
    pub reader: Reader,
    received: u64,
    gets: u64,
    sent_to_nodes: u64,
    sources: Vec<Source>,
    counters: Counters,
}

impl Bed {
    /// A volume of `files`, in blocks of 256 KiB, that the origin holds. `None`, and a loud word, where it cannot be.
    pub fn new(name: &str, files: Files) -> Option<Bed> {
        let rig = Rig::new(&format!("netns-{name}"))?;
        let net = Net::new(LOOKOUT)?;
        let lookout = net.enter(LOOKOUT);
        let origin = net.inside(ORIGIN, || Origin::start(net.addr(ORIGIN)));
        let (url, source) = (rig.url("train"), rig.mkdir("source"));
        let bucket = ["--storage", "s3", "--bucket", &origin.bucket(), "--access-key", "k", "--secret-key", "s"];
        rig.ok(rig.shoal().args(["format", &url, "train", "--block-size", "256K"]).args(bucket));
        files.write(&source);
        rig.import(&source, &url);
        Some(Bed { rig, net, origin, files, url, _lookout: lookout })
    }

    /// A volume of some large and many small files: what every scenario of nodes and links reads.
    pub fn with_tree(name: &str) -> Option<Bed> {
        Bed::new(name, Files::new("tree", 11, 8, 4 << 20, 100))
    }

    /// Starts node `host` on its host, joined to `seeds`.
    #[track_caller]
    pub fn start_node(&self, host: Host, seeds: &[SocketAddr]) -> Node {
        let addr = self.net.addr(host);
        let metrics = SocketAddr::from((addr, METRICS_PORT)).to_string();
        let options = NodeOptions {
            cache: "128M".into(),
            // A node that is late for the machine's sake is waited for; one that is gone costs seconds.
            flags: ["--metrics", &metrics, "--peer-patience", "2s"].map(String::from).into(),
            listen: Some(SocketAddr::from((addr, NODE_PORT))),
            ..NodeOptions::default()
        };
        let mut command = leashed(&self.rig.node_command(host, &self.url, seeds, &options));
        self.net.inside(host, || self.rig.started(&format!("node-{host}"), &mut command))
    }

    /// Starts nodes 1 to `count`, waits until they see each other, and brings every block into them.
    #[track_caller]
    pub fn start_ring(&self, count: Host) -> Vec<Node> {
        let nodes: Vec<Node> = (1..=count).map(|host| self.start_node(host, &self.seeds(host - 1))).collect();
        self.converge(&nodes, &[]);
        nodes
    }

    /// Brings every block into the ring.
    #[track_caller]
    pub fn warm_up(&self, nodes: &[Node]) {
        self.rig.ok(self.rig.on_ring("warmup", nodes).args(["--quiet", "--meta", &self.url, "/"]));
    }

    /// Where nodes 1 to `count` serve.
    pub fn seeds(&self, count: Host) -> Vec<SocketAddr> {
        (1..=count).map(|host| SocketAddr::from((self.net.addr(host), NODE_PORT))).collect()
    }

    /// Waits until each of `nodes` and `mounts` sees all of `nodes`, nobody else, and the same ring.
    #[track_caller]
    pub fn converge(&self, nodes: &[Node], mounts: &[&Mount]) {
        wait_until(&format!("{} nodes and {} mounts see the same ring", nodes.len(), mounts.len()), PATIENCE, || {
            let texts = nodes.iter().map(Node::metrics_text).chain(mounts.iter().map(|mount| mount.stats()));
            let views: Vec<(u64, u64)> = texts
                .map(|text| (metric(&text, "shoal_cluster_members"), metric(&text, "shoal_cluster_epoch")))
                .collect();
            views.iter().all(|view| *view == views[0] && view.0 == nodes.len() as u64)
        });
    }

    /// Mounts the volume on `host` through `nodes`. With as little memory as there can be: reads are to reach the ring.
    #[track_caller]
    pub fn mount(&self, host: Host, nodes: &[Node]) -> Mount {
        let name = format!("mount-{host}");
        let flags = ["--memory", "16M", "--peer-timeout", "5"];
        let (command, point) = self.rig.mount_command(&name, &self.url, nodes, &flags);
        let process = self.net.inside(host, || ChildGuard::spawn(&name, &mut leashed(&command)));
        process.wait_for_line("ready", PATIENCE, |line| line.starts_with("shoal mount ready").then_some(()));
        Mount { point, process }
    }

    /// Starts reading the files in `mounts`.
    pub fn watch(&self, mounts: &[&Mount]) -> Watch<'_> {
        self.watch_files(&self.files, mounts)
    }

    /// Starts reading these files in `mounts`.
    pub fn watch_files(&self, files: &Files, mounts: &[&Mount]) -> Watch<'_> {
        let points: Vec<&Path> = mounts.iter().map(|mount| mount.point.as_path()).collect();
        let (received, gets, sent_to_nodes) = (self.received(), self.origin.gets(), self.sent_to_nodes());
        let of_nodes = NODES.map(|host| Source::Node(SocketAddr::from((self.net.addr(host), METRICS_PORT))));
        let sources: Vec<Source> =
            points.iter().map(|point| Source::Mount(point.to_path_buf())).chain(of_nodes).collect();
        let counters = Counters::of(&sources);
        Watch { bed: self, reader: Reader::start(files, &points), received, gets, sent_to_nodes, sources, counters }
    }

    /// Bytes that came to the mounts' hosts.
    fn received(&self) -> u64 {
        MOUNTS.iter().map(|host| self.net.received(*host)).sum()
    }

    fn sent_to_nodes(&self) -> u64 {
        self.origin.sent_to_nodes(&MOUNTS.map(|host| self.net.addr(host)))
    }
}

impl Watch<'_> {
    /// Stops the reader, prints what `what` cost it, and refuses errors, wrong bytes and pauses beyond measure.
    #[track_caller]
    pub fn end(self, what: &str) -> Cost {
        let found = self.reader.stop();
        let cost = Cost {
            blocks: self.bed.origin.blocks(),
            gets: self.bed.origin.gets() - self.gets,
            received: self.bed.received() - self.received,
            from_origin: self.bed.sent_to_nodes() - self.sent_to_nodes,
            found,
        };
        // Past the harness's capture: the figures of a scenario that holds are what it is for.
        let moved = Counters::of(&self.sources).moved_since(&self.counters);
        let _ = writeln!(std::io::stderr(), "{}\nnetns:   moved: {moved}", cost.line(what));
        let errors = &cost.found.errors;
        assert!(errors.is_empty(), "{what}: {} errors, among them {errors:#?}", cost.found.errors_count);
        let p99 = cost.found.pause(99);
        assert!(p99 <= PAUSE_MAX, "{what}: one read in a hundred took {p99:?} or longer");
        cost
    }
}

/// What a fault cost a reader.
pub struct Cost {
    /// Blocks of the volume.
    blocks: u64,
    /// GETs the origin answered.
    gets: u64,
    /// Bytes that came to the reader's hosts.
    received: u64,
    /// Bytes of blocks that the origin sent to nodes.
    from_origin: u64,
    found: Found,
}

impl Cost {
    /// Refuses it if `changes` changes of a warm ring have sent readers to the origin.
    #[track_caller]
    pub fn spared_the_origin(&self, changes: u64) {
        let Cost { blocks, gets, .. } = *self;
        assert!(
            gets * 100 <= GETS_MAX_PERCENT * changes * blocks,
            "the origin was asked for {gets} of {blocks} warm blocks after {changes} changes of the ring"
        );
    }

    fn line(&self, what: &str) -> String {
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (found, p99) = (&self.found, self.found.pause(99));
        let held = if p99 < PAUSE_GOAL { "held" } else { "MISSED" };
        let moved = self.received + self.from_origin;
        let mut line = format!("netns: {what:<44} {:>5} reads", found.pauses.len());
        let (p50, max) = (ms(found.pause(50)), ms(found.pause(100)));
        let _ =
            write!(line, " | pause ms p50 {p50} p99 {} max {max}, over 2 s {}", ms(p99), found.longer_than(PAUSE_GOAL));
        let _ = write!(line, " (goal p99 < 2 s {held}) | read {:.1} MiB,", mib(found.bytes));
        let _ = write!(line, " extra {:+.1} MiB", mib(moved) - mib(found.bytes));
        let _ = write!(line, " | origin GETs {} | errors {}", self.gets, found.errors_count);
        line
    }
}

/// The same command, killed with the suite even if that is killed.
fn leashed(command: &Command) -> Command {
    let mut leashed = Command::new("setpriv");
    leashed.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => leashed.env(name, value),
            None => leashed.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        leashed.current_dir(dir);
    }
    leashed
}

/// How long a fault lasts: `long` as an operator sees it, on demand; `short` in CI.
pub fn lasting(short: u64, long: u64) -> Duration {
    Duration::from_secs(if std::env::var_os("SHOAL_LONG").is_some() { long } else { short })
}
