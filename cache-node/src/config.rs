//! The node's configuration: flags, a TOML file with the same keys, and their checks. A flag wins over the file.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail, ensure};
use clap::Parser;
use serde::Deserialize;
use shoal_runtime::telemetry::LogLevel;
use shoal_store::IoChoice;
use shoal_types::ByteSize;

/// Default UDP port of a node.
pub const DEFAULT_PORT: u16 = 7100;

/// Smallest cache directory: below it a slab file would hold a handful of blocks.
const CACHE_DIR_MIN: u64 = 64 << 20;

/// Smallest RAM tier: room for a fill and a few blocks.
const MEMORY_MIN: u64 = 32 << 20;

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
    /// Other nodes to join through; any of them that answers is enough
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub join: Option<Vec<String>>,
    /// Directories for cached blocks and how many bytes each may take, such as /nvme0/shoal:500G
    #[arg(long, value_name = "PATH:SIZE,...", value_delimiter = ',')]
    pub cache_dir: Option<Vec<String>>,
    /// RAM tier, in bytes [default: 1G]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Share of the ring relative to other nodes, 1 to 1000 [default: 100]
    #[arg(long)]
    pub weight: Option<u32>,
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
    /// Zone (rack, availability zone) the node is in
    #[arg(long)]
    pub zone: Option<String>,
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
    weight: Option<u32>,
    volume: Option<Vec<String>>,
    bucket: Option<Vec<String>>,
    certs: Option<PathBuf>,
    metrics: Option<String>,
    zone: Option<String>,
    io: Option<String>,
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

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Group, if one was named.
    pub group: Option<String>,
    /// UDP address to bind.
    pub listen: SocketAddr,
    /// Address to tell others; with port 0, the port bound.
    pub advertise: Option<SocketAddr>,
    /// Seeds, `host:port`.
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
        let config = NodeConfig {
            group: args.group.or(file.group),
            listen,
            advertise,
            join: args.join.or(file.join).unwrap_or_default(),
            cache_dirs: cache_dirs.iter().map(|text| text.parse()).collect::<anyhow::Result<_>>()?,
            memory: args.memory.or(file.memory).unwrap_or(ByteSize(1 << 30)).0,
            weight: args.weight.or(file.weight).unwrap_or(100),
            volumes: args.volume.or(file.volume).unwrap_or_default(),
            buckets: args.bucket.or(file.bucket).unwrap_or_default(),
            certs,
            metrics: metrics_address(args.metrics.or(file.metrics))?,
            zone: args.zone.or(file.zone).unwrap_or_default(),
            io: io_choice(args.io.or(file.io).as_deref().unwrap_or("auto"))?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=1000).contains(&self.weight), "--weight {} is outside 1 to 1000", self.weight);
        ensure!(self.memory >= MEMORY_MIN, "--memory {} is less than {}", ByteSize(self.memory), ByteSize(MEMORY_MIN));
        ensure!(
            !self.volumes.is_empty() || !self.buckets.is_empty(),
            "nothing to serve: name a volume with --volume META-URL or a bucket with --bucket URL"
        );
        for seed in &self.join {
            ensure!(
                seed.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
                "--join `{seed}` is not HOST:PORT"
            );
        }
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
        assert_eq!((config.weight, config.memory), (100, 1 << 30));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("node.toml");
        std::fs::write(&path, "weight = 7\nmemory = \"64M\"\ncache-dir = [\"/nvme0:1G\", \"/nvme1:2G\"]\n")
            .expect("written");
        let path = path.to_str().expect("text");
        let config = load(&[&MINIMAL[..], &["--config", path, "--weight", "9"]].concat()).expect("valid");
        assert_eq!((config.weight, config.memory), (9, 64 << 20));
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
