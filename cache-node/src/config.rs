//! The node's configuration: flags, a TOML file with the same keys, and their checks. A flag wins over the file.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clap::Parser;
use serde::Deserialize;
use shoal_cache::FillPolicy;
use shoal_cluster::{DEFAULT_PORT, Seed, ZONE_BYTES_MAX};
use shoal_net::MtuChoice;
use shoal_ring::{WEIGHT_MAX, weight_of_capacity};
use shoal_runtime::telemetry::LogLevel;
use shoal_store::{Admission, IoChoice};
use shoal_types::{ByteSize, Span};

/// Smallest cache directory: below it a slab file would hold a handful of blocks.
const CACHE_DIR_MIN: u64 = 64 << 20;

/// Smallest RAM tier: room for a fill and a few blocks.
const MEMORY_MIN: u64 = 32 << 20;

/// Default bound on a drain: a node of 1 TiB hands a third of its blocks over in it at 1 GB/s, and a supervisor that waits longer is
/// the exception.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Default of `--handover-window`: hand-over has moved the blocks by then, or the origin is the better place to ask.
const HANDOVER_WINDOW: Duration = Duration::from_secs(600);
/// Default of `--peer-patience`: a peer answers from what it holds within a few milliseconds.
const PEER_PATIENCE: Duration = Duration::from_millis(250);
/// What `--peer-patience` may be: below it a busy peer counts as hung, above it a hung one costs readers more than the origin does.
const PEER_PATIENCES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(60);

/// Default of `--free-space`, JuiceFS's too.
const FREE_SPACE: f64 = 0.1;

/// Default of `--scrub-rate`: 1 TiB in a day and a half, one part in a hundred of what a disk gives.
const SCRUB_RATE: ByteSize = ByteSize(8 << 20);

/// A cache node of a Shoal group.
#[derive(Debug, Clone, Parser)]
#[command(name = "shoal-node", version, about)]
pub struct Args {
    /// TOML file with the same keys as these flags; a flag wins over the file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Group of nodes and clients that share one ring; must be the certificate's [default: the certificate's]
    #[arg(long)]
    pub group: Option<String>,
    /// UDP address to serve on [default: 0.0.0.0:7100]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// Address that others reach this node at [default: the listen address]
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Other nodes to join through, any of them that answers is enough: HOST:PORT; file:PATH, a file with a HOST:PORT in each line, read
    /// again whenever it is needed; dns:NAME[:PORT], every address of a name, such as a headless Kubernetes service
    #[arg(long, value_name = "SEED,...", value_delimiter = ',')]
    pub join: Option<Vec<String>>,
    /// Directories for cached blocks and how many bytes each may take, such as /nvme0/shoal:500G
    #[arg(long, value_name = "PATH:SIZE,...", value_delimiter = ',')]
    pub cache_dir: Option<Vec<String>>,
    /// RAM tier, in bytes [default: 1G]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Share of the ring relative to other nodes: 1 to 1000, or auto: 100 for 2 TiB of cache, at least 10 [default: auto]
    #[arg(long, value_name = "auto|N")]
    pub weight: Option<String>,
    /// Metadata URL of a volume to serve; repeat for more
    #[arg(long, value_name = "META-URL")]
    pub volume: Option<Vec<String>>,
    /// URL of a plain bucket to serve; repeat for more
    #[arg(long, value_name = "URL")]
    pub bucket: Option<Vec<String>>,
    /// Directory with ca.pem, cert.pem and key.pem, as `shoal cert node` makes it
    #[arg(long, value_name = "DIR")]
    pub certs: Option<PathBuf>,
    /// TCP address of the metrics page; `none` turns it off [default: 127.0.0.1:9568]
    #[arg(long, value_name = "ADDR:PORT")]
    pub metrics: Option<String>,
    /// Zone (rack, availability zone) the node is in; readers started with --zone-aware prefer nodes of theirs
    #[arg(long)]
    pub zone: Option<String>,
    /// Largest UDP payload to other hosts in bytes, such as 8952 where the network carries jumbo frames; auto fits any Ethernet
    /// [default: auto]
    #[arg(long, value_name = "auto|BYTES")]
    pub mtu: Option<String>,
    /// Longest time for handing blocks over before leaving, after SIGTERM or `shoal node drain`; 0 leaves at once [default: 5m]
    #[arg(long, value_name = "TIME")]
    pub drain_timeout: Option<Span>,
    /// How long after a change of the ring other nodes are asked for blocks this one lacks before the origin is; 0 never asks them
    /// [default: 10m]
    #[arg(long, value_name = "TIME")]
    pub handover_window: Option<Span>,
    /// How long another node's answer may take to begin before that node is asked whether it is there, 10ms to 1m; longer where nodes are
    /// far apart or short of CPU [default: 250ms]
    #[arg(long, value_name = "TIME")]
    pub peer_patience: Option<Span>,
    /// What a small read of a block that is not cached fetches first: range-first, its own bytes and then the block, or whole
    /// [default: range-first]
    #[arg(long, value_name = "POLICY")]
    pub fill: Option<String>,
    /// Which blocks are let into full cache directories: all, or second-miss, those that are asked for again [default: second-miss]
    #[arg(long, value_name = "POLICY")]
    pub admission: Option<String>,
    /// Objects whose blocks are not evicted, by the start of their keys, as long as they take at most half of a cache directory
    #[arg(long, value_name = "PREFIX,...", value_delimiter = ',')]
    pub pin: Option<Vec<String>>,
    /// How old cached blocks of objects may get, by the start of the objects' keys, such as tmp/=1h
    #[arg(long, value_name = "PREFIX=TIME,...", value_delimiter = ',')]
    pub ttl: Option<Vec<String>>,
    /// Share of each cache directory's file system that stays free, 0 to 0.9: a cache takes less than its size if need be, and gives space
    /// back while others fill the disk [default: 0.1]
    #[arg(long, value_name = "RATIO")]
    pub free_space: Option<f64>,
    /// Bytes a second at which cached blocks are read again and checked while nothing else wants the disk; 0 is off [default: 8M]
    #[arg(long, value_name = "SIZE")]
    pub scrub_rate: Option<ByteSize>,
    /// How cache directories are read and written: auto, uring or plain [default: auto]
    #[arg(long, value_name = "ENGINE")]
    pub io: Option<String>,
    /// Least important messages to log: error, warn, info, debug or trace
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: LogLevel,
}

/// The file's keys are the flags' names.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    group: Option<String>,
    listen: Option<String>,
    advertise: Option<String>,
    join: Option<Vec<String>>,
    cache_dir: Option<Vec<String>>,
    memory: Option<ByteSize>,
    weight: Option<Plain>,
    volume: Option<Vec<String>>,
    bucket: Option<Vec<String>>,
    certs: Option<PathBuf>,
    metrics: Option<String>,
    zone: Option<String>,
    mtu: Option<Plain>,
    drain_timeout: Option<Span>,
    handover_window: Option<Span>,
    peer_patience: Option<Span>,
    fill: Option<String>,
    admission: Option<String>,
    pin: Option<Vec<String>>,
    ttl: Option<Vec<String>>,
    free_space: Option<f64>,
    scrub_rate: Option<ByteSize>,
    io: Option<String>,
}

/// A value that is a number or a word, as a flag would spell it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Plain {
    Number(i64),
    Word(String),
}

impl From<Plain> for String {
    fn from(plain: Plain) -> String {
        match plain {
            Plain::Number(number) => number.to_string(),
            Plain::Word(word) => word,
        }
    }
}

/// One cache directory and its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheDir {
    /// The directory.
    pub path: PathBuf,
    /// Bytes it may take.
    pub bytes: u64,
}

impl FromStr for CacheDir {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<CacheDir> {
        let (path, size) = text.rsplit_once(':').with_context(|| {
            format!("cache directory `{text}` has no size; write PATH:SIZE, such as /nvme0/shoal:500G")
        })?;
        let bytes = size.parse::<ByteSize>().with_context(|| format!("cache directory `{text}`"))?.0;
        ensure!(!path.is_empty(), "cache directory `{text}` has no path; write PATH:SIZE");
        ensure!(bytes >= CACHE_DIR_MIN, "cache directory `{text}` is smaller than {}", ByteSize(CACHE_DIR_MIN));
        Ok(CacheDir { path: PathBuf::from(path), bytes })
    }
}

/// What holds for the blocks of some objects of every origin the node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRule {
    /// Start of the objects' keys.
    pub prefix: String,
    /// Whether their blocks are kept before others.
    pub pin: bool,
    /// How old they may get.
    pub ttl: Option<Duration>,
}

/// The rules that `--pin` and `--ttl` make together: one for each prefix.
fn key_rules(pins: &[String], ttls: &[String]) -> anyhow::Result<Vec<KeyRule>> {
    let mut rules: BTreeMap<String, KeyRule> = BTreeMap::new();
    let mut rule = |prefix: &str, change: &dyn Fn(&mut KeyRule)| {
        let new = KeyRule { prefix: prefix.to_owned(), pin: false, ttl: None };
        change(rules.entry(prefix.to_owned()).or_insert(new));
    };
    pins.iter().for_each(|prefix| rule(prefix, &|rule| rule.pin = true));
    for text in ttls {
        let (prefix, time) = text.rsplit_once('=').with_context(|| format!("--ttl `{text}` is not PREFIX=TIME"))?;
        let Span(ttl) = time.parse().with_context(|| format!("--ttl `{text}`"))?;
        ensure!(ttl >= Duration::from_secs(1), "--ttl `{text}` is less than a second");
        rule(prefix, &|rule| rule.ttl = Some(ttl));
    }
    Ok(rules.into_values().collect())
}

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Group, if one was named.
    pub group: Option<String>,
    /// UDP address to bind.
    pub listen: SocketAddr,
    /// Address to tell others; with port 0, the port bound.
    pub advertise: Option<SocketAddr>,
    /// Seeds, each a [`shoal_cluster::Seed`].
    pub join: Vec<String>,
    /// Cache directories.
    pub cache_dirs: Vec<CacheDir>,
    /// RAM tier in bytes.
    pub memory: u64,
    /// Share of the ring.
    pub weight: u32,
    /// Metadata URLs of volumes.
    pub volumes: Vec<String>,
    /// URLs of plain buckets.
    pub buckets: Vec<String>,
    /// Where the certificates are.
    pub certs: PathBuf,
    /// Metrics page.
    pub metrics: Option<SocketAddr>,
    /// Zone.
    pub zone: String,
    /// Size of packets to other hosts.
    pub mtu: MtuChoice,
    /// Longest hand-over before leaving; zero for none.
    pub drain_timeout: Duration,
    /// How long after a change of the ring other nodes are asked first.
    pub handover_window: Duration,
    /// How long another node's answer may take to begin before it is doubted.
    pub peer_patience: Duration,
    /// What a small read of a missed block fetches first.
    pub fill: FillPolicy,
    /// Which blocks are let into full cache directories.
    pub admission: Admission,
    /// What holds for blocks of some objects.
    pub rules: Vec<KeyRule>,
    /// Share of a cache directory's file system that stays free.
    pub free_space: f64,
    /// Bytes a second at which cached blocks are checked; 0 is off.
    pub scrub_rate: u64,
    /// I/O engine.
    pub io: IoChoice,
}

impl NodeConfig {
    /// Merges flags over the file they name, fills in defaults, checks bounds.
    pub fn load(args: Args) -> anyhow::Result<NodeConfig> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let listen = address("listen", args.listen.or(file.listen).as_deref().unwrap_or("0.0.0.0"))?;
        let advertise = args.advertise.or(file.advertise).map(|text| address("advertise", &text)).transpose()?;
        ensure!(
            advertise.is_some() || !listen.ip().is_unspecified(),
            "--listen {listen} is every address of this host: say which one others reach it at with --advertise HOST:PORT"
        );
        if let Some(addr) = advertise {
            ensure!(!addr.ip().is_unspecified(), "--advertise {addr} is no address that others could reach");
        }
        let certs = args.certs.or(file.certs).context(
            "no certificates: a node needs --certs DIR with a node certificate; make one with `shoal cert init` and `shoal cert node`",
        )?;
        let cache_dirs = args.cache_dir.or(file.cache_dir).unwrap_or_default();
        let cache_dirs: Vec<CacheDir> = cache_dirs.iter().map(|text| text.parse()).collect::<anyhow::Result<_>>()?;
        let memory = args.memory.or(file.memory).unwrap_or(ByteSize(1 << 30)).0;
        let weight = args.weight.or(file.weight.map(String::from));
        let config = NodeConfig {
            group: args.group.or(file.group),
            listen,
            advertise,
            join: args.join.or(file.join).unwrap_or_default(),
            weight: weight_choice(weight.as_deref().unwrap_or("auto"), capacity(&cache_dirs, memory))?,
            cache_dirs,
            memory,
            volumes: args.volume.or(file.volume).unwrap_or_default(),
            buckets: args.bucket.or(file.bucket).unwrap_or_default(),
            certs,
            metrics: metrics_address(args.metrics.or(file.metrics))?,
            zone: args.zone.or(file.zone).unwrap_or_default(),
            mtu: mtu_choice(args.mtu.or(file.mtu.map(String::from)).as_deref().unwrap_or("auto"))?,
            drain_timeout: args.drain_timeout.or(file.drain_timeout).map_or(DRAIN_TIMEOUT, |span| span.0),
            handover_window: args.handover_window.or(file.handover_window).map_or(HANDOVER_WINDOW, |span| span.0),
            peer_patience: args.peer_patience.or(file.peer_patience).map_or(PEER_PATIENCE, |span| span.0),
            fill: fill_choice(args.fill.or(file.fill).as_deref().unwrap_or("range-first"))?,
            admission: admission_choice(args.admission.or(file.admission).as_deref().unwrap_or("second-miss"))?,
            rules: key_rules(&args.pin.or(file.pin).unwrap_or_default(), &args.ttl.or(file.ttl).unwrap_or_default())?,
            free_space: args.free_space.or(file.free_space).unwrap_or(FREE_SPACE),
            scrub_rate: args.scrub_rate.or(file.scrub_rate).unwrap_or(SCRUB_RATE).0,
            io: io_choice(args.io.or(file.io).as_deref().unwrap_or("auto"))?,
        };
        config.check()?;
        Ok(config)
    }

    /// Bytes of cache the node offers: its cache directories, or the RAM tier without any.
    pub fn capacity(&self) -> u64 {
        capacity(&self.cache_dirs, self.memory)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.memory >= MEMORY_MIN, "--memory {} is less than {}", ByteSize(self.memory), ByteSize(MEMORY_MIN));
        ensure!(
            !self.volumes.is_empty() || !self.buckets.is_empty(),
            "nothing to serve: name a volume with --volume META-URL or a bucket with --bucket URL"
        );
        ensure!((0.0..=0.9).contains(&self.free_space), "--free-space {} is outside 0 to 0.9", self.free_space);
        ensure!(
            PEER_PATIENCES.contains(&self.peer_patience),
            "--peer-patience {} is outside 10ms to 1m",
            Span(self.peer_patience)
        );
        for seed in &self.join {
            seed.parse::<Seed>().context("--join")?;
        }
        ensure!(self.zone.len() <= ZONE_BYTES_MAX, "--zone is longer than {ZONE_BYTES_MAX} bytes");
        Ok(())
    }
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read configuration {}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        // The library's own text is a drawing of several lines.
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        anyhow!("configuration {} is wrong: line {line}: {}", path.display(), error.message())
    })
}

/// `HOST[:PORT]` as an address; the default port where none is given.
fn address(flag: &str, text: &str) -> anyhow::Result<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DEFAULT_PORT));
    }
    let full = if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        text.to_owned()
    } else {
        format!("{text}:{DEFAULT_PORT}")
    };
    let found = full.to_socket_addrs().with_context(|| format!("--{flag} `{text}` cannot be resolved"))?.next();
    found.with_context(|| format!("--{flag} `{text}` has no address"))
}

fn metrics_address(text: Option<String>) -> anyhow::Result<Option<SocketAddr>> {
    match text.as_deref() {
        Some("none") => Ok(None),
        Some(text) => Ok(Some(text.parse().with_context(|| format!("--metrics `{text}` is not ADDR:PORT"))?)),
        None => Ok(Some(SocketAddr::from(([127, 0, 0, 1], 9568)))),
    }
}

fn capacity(dirs: &[CacheDir], memory: u64) -> u64 {
    if dirs.is_empty() { memory } else { dirs.iter().map(|dir| dir.bytes).sum() }
}

fn admission_choice(text: &str) -> anyhow::Result<Admission> {
    Ok(match text {
        "all" => Admission::All,
        "second-miss" => Admission::SecondMiss,
        other => bail!("--admission `{other}` is not one of all, second-miss"),
    })
}

fn fill_choice(text: &str) -> anyhow::Result<FillPolicy> {
    Ok(match text {
        "range-first" => FillPolicy::RangeFirst,
        "whole" => FillPolicy::Whole,
        other => bail!("--fill `{other}` is not one of range-first, whole"),
    })
}

fn weight_choice(text: &str, capacity: u64) -> anyhow::Result<u32> {
    if text == "auto" {
        return Ok(weight_of_capacity(capacity));
    }
    let weight = text.parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight));
    weight.with_context(|| format!("--weight {text} is neither auto nor 1 to {WEIGHT_MAX}"))
}

fn mtu_choice(text: &str) -> anyhow::Result<MtuChoice> {
    match text {
        "auto" => Ok(MtuChoice::Auto),
        bytes => Ok(MtuChoice::Bytes(
            bytes.parse().with_context(|| format!("--mtu `{bytes}` is neither auto nor a number of bytes"))?,
        )),
    }
}

fn io_choice(text: &str) -> anyhow::Result<IoChoice> {
    Ok(match text {
        "auto" => IoChoice::Auto,
        "uring" => IoChoice::Uring,
        "plain" => IoChoice::Plain,
        other => bail!("--io `{other}` is not one of auto, uring, plain"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &[&str]) -> anyhow::Result<NodeConfig> {
        NodeConfig::load(Args::try_parse_from([&["shoal-node"], flags].concat())?)
    }

    const MINIMAL: [&str; 6] = ["--listen", "127.0.0.2:0", "--certs", "/c", "--volume", "sqlite3:///v.db"];

    #[test]
    fn minimal_flags_are_enough() {
        let config = load(&MINIMAL).expect("valid");
        assert_eq!(config.listen.to_string(), "127.0.0.2:0");
        assert_eq!((config.weight, config.memory), (10, 1 << 30));
        assert_eq!((config.mtu, config.drain_timeout), (MtuChoice::Auto, Duration::from_secs(300)));
    }

    #[test]
    fn weight_follows_the_cache_directories_unless_it_is_given() {
        let weight = |flags: &[&str]| load(&[&MINIMAL[..], flags].concat()).expect("valid").weight;
        assert_eq!(weight(&["--cache-dir", "/a:3T,/b:5T"]), 400);
        assert_eq!(weight(&["--cache-dir", "/a:3T,/b:5T", "--weight", "auto"]), 400);
        assert_eq!(weight(&["--cache-dir", "/a:3T,/b:5T", "--weight", "70"]), 70);
        assert_eq!(weight(&["--memory", "1T"]), 50);
    }

    #[test]
    fn pins_and_ages_of_one_prefix_are_one_rule() {
        let flags = ["--pin", "models/,hot/", "--ttl", "tmp/=1h,models/=7d"];
        let rules = load(&[&MINIMAL[..], &flags].concat()).expect("valid").rules;
        let rule = |prefix: &str, pin, hours: Option<u64>| KeyRule {
            prefix: prefix.to_owned(),
            pin,
            ttl: hours.map(|hours| Duration::from_secs(3600 * hours)),
        };
        assert_eq!(rules, [rule("hot/", true, None), rule("models/", true, Some(168)), rule("tmp/", false, Some(1))]);
    }

    #[test]
    fn every_kind_of_seed_and_every_new_flag_is_taken() {
        let seeds = "10.0.0.1:7100,file:/etc/shoal/nodes,dns:shoal.train.svc";
        let flags = [
            "--join",
            seeds,
            "--mtu",
            "8952",
            "--drain-timeout",
            "0",
            "--zone",
            "z1",
            "--peer-patience",
            "2s",
            "--fill",
            "whole",
            "--free-space",
            "0",
            "--scrub-rate",
            "0",
        ];
        let config = load(&[&MINIMAL[..], &flags].concat()).expect("valid");
        assert_eq!(config.join, ["10.0.0.1:7100", "file:/etc/shoal/nodes", "dns:shoal.train.svc"]);
        assert_eq!((config.mtu, config.drain_timeout), (MtuChoice::Bytes(8952), Duration::ZERO));
        assert_eq!((config.free_space, config.scrub_rate), (0.0, 0));
        assert_eq!(config.peer_patience, Duration::from_secs(2));
        assert_eq!((config.zone.as_str(), config.fill), ("z1", FillPolicy::Whole));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "weight = 7\nmtu = 9000\ndrain-timeout = \"90s\"\nmemory = \"64M\"\ncache-dir = [\"/nvme0:1G\", \"/nvme1:2G\"]\n")
            .expect("written");
        let path = path.to_str().expect("text");
        let config = load(&[&MINIMAL[..], &["--config", path, "--weight", "9"]].concat()).expect("valid");
        assert_eq!((config.weight, config.memory), (9, 64 << 20));
        assert_eq!((config.mtu, config.drain_timeout), (MtuChoice::Bytes(9000), Duration::from_secs(90)));
        assert_eq!(config.cache_dirs[1], CacheDir { path: "/nvme1".into(), bytes: 2 << 30 });
        std::fs::write(path, "wieght = 7\n").expect("written");
        let error = format!("{:#}", load(&[&MINIMAL[..], &["--config", path]].concat()).expect_err("refused"));
        assert!(error.contains("line 1: ") && error.contains("wieght") && error.lines().count() == 1, "{error}");
        std::fs::write(path, "# a comment\n\nmemory = [1\n").expect("written");
        let error = format!("{:#}", load(&[&MINIMAL[..], &["--config", path]].concat()).expect_err("refused"));
        assert!(error.contains("line 3: ") && error.lines().count() == 1, "{error}");
    }

    #[test]
    fn the_example_configuration_is_valid() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/node.toml");
        let config = load(&["--config", path]).expect("valid");
        assert_eq!(config.cache_dirs.len(), 2);
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (flags, word) in [
            (&["--weight", "0"][..], "--weight 0"),
            (&["--weight", "1001"], "1 to 1000"),
            (&["--fill", "slow"], "range-first, whole"),
            (&["--free-space", "0.95"], "--free-space 0.95"),
            (&["--admission", "none"], "all, second-miss"),
            (&["--peer-patience", "2m"], "--peer-patience 2m"),
            (&["--ttl", "tmp/"], "PREFIX=TIME"),
            (&["--ttl", "tmp/=0"], "less than a second"),
            (&["--mtu", "jumbo"], "--mtu `jumbo`"),
            (&["--drain-timeout", "soon"], "is not a time"),
            (&["--join", "dns:"], "file:PATH or dns:NAME"),
            (&["--memory", "1M"], "--memory 1M"),
            (&["--cache-dir", "/x"], "has no size"),
            (&["--cache-dir", "/x:1M"], "smaller than"),
            (&["--join", "nohost"], "not HOST:PORT"),
            (&["--io", "magic"], "not one of"),
            (&["--metrics", "x"], "not ADDR:PORT"),
        ] {
            let error = format!("{:#}", load(&[&MINIMAL[..], flags].concat()).expect_err("refused"));
            assert!(error.contains(word), "{error}");
        }
        let error =
            format!("{:#}", load(&["--listen", "0.0.0.0", "--certs", "/c", "--volume", "x"]).expect_err("refused"));
        assert!(error.contains("--advertise"), "{error}");
        let error = format!("{:#}", load(&["--listen", "127.0.0.1", "--volume", "x"]).expect_err("refused"));
        assert!(error.contains("shoal cert"), "{error}");
        let error = format!("{:#}", load(&["--listen", "127.0.0.1", "--certs", "/c"]).expect_err("refused"));
        assert!(error.contains("nothing to serve"), "{error}");
    }
}
