//! Node processes and rings of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use shoal_testkit::{ChildGuard, PATIENCE, wait_until};

use super::Rig;

/// How a node is started.
#[derive(Clone)]
pub struct NodeOptions {
    /// RAM tier.
    pub memory: String,
    /// Limit of its one cache directory.
    pub cache: String,
    /// Further flags.
    pub flags: Vec<String>,
    /// Directory of its certificate in the rig; its own by default.
    pub certs: Option<String>,
    /// Where it listens; a free port of its own address by default.
    pub listen: Option<SocketAddr>,
}

impl Default for NodeOptions {
    fn default() -> NodeOptions {
        NodeOptions { memory: "64M".into(), cache: "512M".into(), flags: Vec::new(), certs: None, listen: None }
    }
}

/// A running node.
pub struct Node {
    pub name: String,
    /// Its id in the ring.
    pub id: String,
    pub addr: SocketAddr,
    pub metrics: SocketAddr,
    pub process: ChildGuard,
}

impl Node {
    /// Directory of its blocks.
    pub fn cache_dir(rig: &Rig, number: u8) -> PathBuf {
        rig.path(format!("node-{number}-cache"))
    }

    /// Its metrics page.
    pub fn metrics_text(&self) -> String {
        http_get(self.metrics, "/metrics")
    }

    /// One metric of its page, 0 where the page has no such line. `name` includes labels, such as `x_total{tier="ram"}`.
    pub fn metric(&self, name: &str) -> u64 {
        metric(&self.metrics_text(), name)
    }
}

/// The value of the line `name value` in a metrics text, rounded.
pub fn metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<f64>().ok());
    value.unwrap_or(0.0) as u64
}

/// The body of a page of ours.
pub fn http_get(addr: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).expect("the page is served");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

/// The `shoal-node` binary: the workspace builds it beside `shoal`.
pub fn node_binary() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_shoal")).with_file_name("shoal-node");
    assert!(path.is_file(), "{} is missing: `cargo build --workspace --bins` makes it", path.display());
    path
}

impl Rig {
    /// The command that starts node `number` of the volume at `url`, on 127.0.0.(number + 1), joined to `seeds`.
    pub fn node_command(&self, number: u8, url: &str, seeds: &[SocketAddr], options: &NodeOptions) -> Command {
        let certs = options.certs.clone().unwrap_or_else(|| {
            let name = format!("node-{number}");
            if !self.path(&name).is_dir() {
                self.issue("node", &name);
            }
            name
        });
        let cache = Node::cache_dir(self, number);
        std::fs::create_dir_all(&cache).expect("cache directory");
        let mut command = Command::new(node_binary());
        command.current_dir(self.path("")).env_remove("RUST_LOG");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let listen = options.listen.map_or_else(|| format!("127.0.0.{}:0", number + 1), |addr| addr.to_string());
        command.args(["--volume", url, "--listen", &listen]);
        if !options.flags.iter().any(|flag| flag == "--metrics") {
            command.args(["--metrics", "127.0.0.1:0"]);
        }
        if !options.flags.iter().any(|flag| flag == "--peer-patience") {
            // A node that is late for the machine's sake is waited for: tests count what is asked of the origin instead.
            command.args(["--peer-patience", "30s"]);
        }
        if !options.flags.iter().any(|flag| flag == "--free-space") {
            // What a test sees of a cache must not hang on how full the machine's disk is.
            command.args(["--free-space", "0"]);
        }
        command.args(["--memory", &options.memory]).arg("--certs").arg(self.path(certs));
        command.arg("--cache-dir").arg(format!("{}:{}", cache.display(), options.cache));
        if !seeds.is_empty() {
            let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
            command.args(["--join", &seeds.join(",")]);
        }
        command.args(&options.flags);
        command
    }

    /// Starts node `number` and waits until it serves.
    #[track_caller]
    pub fn start_node(&self, number: u8, url: &str, seeds: &[SocketAddr], options: &NodeOptions) -> Node {
        self.started(&format!("node-{number}"), &mut self.node_command(number, url, seeds, options))
    }

    /// Starts the node `name` by `command` and waits until it serves.
    #[track_caller]
    pub fn started(&self, name: &str, command: &mut Command) -> Node {
        let name = name.to_owned();
        let process = ChildGuard::spawn(&name, command);
        let line = process
            .wait_for_line("ready", PATIENCE, |line| line.starts_with("shoal-node ready").then(|| line.to_owned()));
        let field = |key: &str| {
            let found = line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {key} in `{line}`"))
        };
        let addr = |key: &str| field(key).parse().unwrap_or_else(|error| panic!("{key} in `{line}`: {error}"));
        Node { id: field("id").to_owned(), addr: addr("addr"), metrics: addr("metrics"), name, process }
    }

    /// Starts nodes 1 to `count` and waits until each sees them all.
    #[track_caller]
    pub fn start_ring(&self, count: u8, url: &str, options: &NodeOptions) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        for number in 1..=count {
            let seeds: Vec<SocketAddr> = nodes.iter().map(|node| node.addr).collect();
            nodes.push(self.start_node(number, url, &seeds, options));
        }
        self.wait_for_members(&nodes, u64::from(count), PATIENCE);
        nodes
    }

    /// Waits until every node of `nodes` sees `members` members.
    #[track_caller]
    pub fn wait_for_members(&self, nodes: &[Node], members: u64, limit: Duration) {
        for node in nodes {
            wait_until(&format!("{} sees {members} members", node.name), limit, || {
                node.metric("shoal_cluster_members") == members
            });
        }
    }
}

/// Addresses of nodes as `--join` takes them.
pub fn join_list(nodes: &[Node]) -> String {
    nodes.iter().map(|node| node.addr.to_string()).collect::<Vec<_>>().join(",")
}

/// Requests all nodes have made of the origin.
pub fn origin_requests(nodes: &[Node]) -> u64 {
    nodes.iter().map(|node| node.metric("shoal_cache_origin_requests_total")).sum()
}
