//! Which counters of mounts and nodes a fault moves: what an operator would see of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for a node that may be stopped or gone.
const PATIENCE: Duration = Duration::from_secs(1);
/// Counters that also move when nothing is wrong.
const EVERYDAY: [&str; 11] = [
    "_bytes_total",
    "_reads_total",
    "outcome=\"ok\"",
    "outcome=\"miss\"",
    "outcome=\"not_found\"",
    "shoal_cache_hot_answers_total",
    "shoal_cache_origin_requests_total",
    "shoal_net_gossip_total",
    "shoal_vfs_readahead_blocks_total",
    "shoal_store_evictions_total",
    "shoal_store_scrub_passes_total",
];

/// Where counters are read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Mount(PathBuf),
    Node(SocketAddr),
}

/// Counters of several processes at one time.
pub struct Counters(BTreeMap<Source, BTreeMap<String, u64>>);

impl Counters {
    /// As they are now; a node that does not answer is left out.
    pub fn of(sources: &[Source]) -> Counters {
        let read = sources.iter().filter_map(|source| Some((source.clone(), parsed(&source.text()?))));
        Counters(read.collect())
    }

    /// Those that have moved since `before`, in words: summed over the mounts, and over the nodes.
    pub fn moved_since(&self, before: &Counters) -> String {
        let mut moved: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (source, counters) in &self.0 {
            for (name, now) in counters {
                let then = before.0.get(source).and_then(|counters| counters.get(name)).copied().unwrap_or(0);
                // A process that was started anew counts from nothing.
                *moved.entry((source.kind(), name)).or_default() += now.checked_sub(then).unwrap_or(*now);
            }
        }
        let in_words = |kind: &str| {
            let of_kind = moved.iter().filter(|((found, _), by)| *found == kind && **by > 0);
            let words: Vec<String> = of_kind.map(|((_, name), by)| format!("{name} +{by}")).collect();
            if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
        };
        format!("mounts: {}; nodes: {}", in_words("mount"), in_words("node"))
    }
}

impl Source {
    fn kind(&self) -> &'static str {
        match self {
            Source::Mount(_) => "mount",
            Source::Node(_) => "node",
        }
    }

    fn text(&self) -> Option<String> {
        match self {
            Source::Mount(point) => std::fs::read_to_string(point.join(".stats")).ok(),
            Source::Node(addr) => page(*addr).ok(),
        }
    }
}

fn page(addr: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The counters that tell of something unusual, without the prefix they all have.
fn parsed(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("shoal_").map(|_| line)?.rsplit_once(' '));
    let counters = lines.filter(|(name, _)| name.split('{').next().is_some_and(|name| name.ends_with("_total")));
    let unusual = counters.filter(|(name, _)| !EVERYDAY.iter().any(|everyday| name.contains(everyday)));
    let values = unusual.filter_map(|(name, value)| {
        let name = name.strip_prefix("shoal_")?.replace("_total", "").replace('"', "");
        Some((name, value.parse::<f64>().ok()? as u64))
    });
    values.collect()
}
