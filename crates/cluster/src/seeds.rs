//! Where to find nodes of a ring: what the places are, their addresses now, and asking those for the ring.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use shoal_net::Endpoint;
use shoal_runtime::{clock, rng, task};
use shoal_wire::{Request, Response};
use tokio::net::lookup_host;
use tokio::sync::mpsc;

use crate::error::ClusterError;
use crate::member::Member;
use crate::view::{MEMBERS_MAX, View};

/// UDP port of a node where none is named.
pub const DEFAULT_PORT: u16 = 7100;

/// Most seeds asked in one round; with more configured, each round takes others.
pub(crate) const SEEDS_ASKED_MAX: usize = 16;
/// Most addresses of one host that are asked in one round.
const HOST_ASKED_MAX: usize = 4;
/// Most addresses of a file or a service's name that are asked in one round: many of them may be gone.
const LIST_ASKED_MAX: usize = 16;
/// Largest file of seeds, bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Names of a file that are resolved at the same time.
const RESOLVED_AT_ONCE: usize = 16;

/// A place that says where nodes of the ring are. Nothing is kept of what it says: it is read anew for every round.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seed {
    /// `HOST:PORT`: a node, or a few nodes under one name.
    Host(String),
    /// `file:PATH`: a text file with a `HOST:PORT` in each line; `#` begins a comment.
    File(PathBuf),
    /// `dns:NAME` or `dns:NAME:PORT`: every address of a name is a node's, as with a headless service of Kubernetes.
    Dns(String),
}

impl FromStr for Seed {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Seed, ClusterError> {
        let seed = if let Some(path) = text.strip_prefix("file:") {
            (!path.is_empty()).then(|| Seed::File(path.into()))
        } else if let Some(name) = text.strip_prefix("dns:") {
            let full = if name.contains(':') { name.to_owned() } else { format!("{name}:{DEFAULT_PORT}") };
            is_host_port(&full).then_some(Seed::Dns(full))
        } else {
            is_host_port(text).then(|| Seed::Host(text.to_owned()))
        };
        seed.ok_or_else(|| ClusterError::BadSeed { seed: text.to_owned() })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seed::Host(host) => f.write_str(host),
            Seed::File(path) => write!(f, "file:{}", path.display()),
            Seed::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

impl Seed {
    /// Every one of `texts` as a seed. Errors: `Invalid`, naming the first that is none.
    pub(crate) fn all(texts: &[String]) -> Result<Vec<Seed>, ClusterError> {
        texts.iter().map(|text| text.parse()).collect()
    }

    /// Its addresses now, distinct; else why there are none, in a sentence. Each name may take `limit`.
    pub async fn addresses(&self, limit: Duration) -> Result<Vec<SocketAddr>, String> {
        let found = match self {
            Seed::Host(name) | Seed::Dns(name) => resolve(name, limit).await?,
            Seed::File(path) => listed(path, limit).await?,
        };
        let mut distinct = Vec::with_capacity(found.len());
        for addr in found {
            if !distinct.contains(&addr) {
                distinct.push(addr);
            }
        }
        match distinct.is_empty() {
            true => Err("it has no address".to_owned()),
            false => Ok(distinct),
        }
    }

    fn asked_max(&self) -> usize {
        match self {
            Seed::Host(_) => HOST_ASKED_MAX,
            Seed::File(_) | Seed::Dns(_) => LIST_ASKED_MAX,
        }
    }
}

fn is_host_port(text: &str) -> bool {
    let sound = |host: &str| !host.is_empty() && !host.contains(char::is_whitespace);
    text.rsplit_once(':').is_some_and(|(host, port)| sound(host) && port.parse::<u16>().is_ok())
}

/// The addresses behind `host:port`.
async fn resolve(name: &str, limit: Duration) -> Result<Vec<SocketAddr>, String> {
    match clock::timeout(limit, lookup_host(name)).await {
        Ok(Ok(addrs)) => Ok(addrs.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the name was not resolved in time".to_owned()),
    }
}

/// The addresses behind all lines of a file; a line that cannot be used does not spoil the others.
async fn listed(path: &Path, limit: Duration) -> Result<Vec<SocketAddr>, String> {
    let owned = path.to_owned();
    let text =
        task::blocking("cluster-seeds", move || read_bounded(&owned)).await.map_err(|error| error.to_string())?;
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .take(MEMBERS_MAX)
        .collect();
    let mut lookups = stream::iter(lines.into_iter().map(|line| async move {
        match is_host_port(&line) {
            true => resolve(&line, limit).await.map_err(|why| format!("`{line}`: {why}")),
            false => Err(format!("`{line}` is not HOST:PORT")),
        }
    }))
    .buffer_unordered(RESOLVED_AT_ONCE);
    let (mut addrs, mut why) = (Vec::new(), None);
    while let Some(found) = lookups.next().await {
        match found {
            Ok(found) => addrs.extend(found),
            Err(error) => why = Some(error),
        }
    }
    match (addrs.is_empty(), why) {
        (true, Some(why)) => Err(why),
        _ => Ok(addrs),
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What came of asking one seed.
pub(crate) struct Asked {
    pub(crate) seed: Seed,
    pub(crate) answer: Answer,
}

/// What one seed said.
pub(crate) enum Answer {
    /// Its addresses are this node or members already: there was nothing to ask.
    Known,
    /// The members it knows, itself included.
    Members(Vec<Arc<Member>>),
    /// Why it did not answer.
    Failed(String),
}

/// Asks every one of `seeds` for its view, except where all its addresses are in `known`, and sends what came of it to `out`
/// as it comes. Each takes at most twice `limit`.
pub(crate) async fn ask_all(
    endpoint: &Endpoint,
    seeds: Vec<Seed>,
    known: &[SocketAddr],
    limit: Duration,
    out: mpsc::Sender<Asked>,
) {
    let mut asks: FuturesUnordered<_> = seeds
        .into_iter()
        .map(|seed| async move {
            let answer = ask_seed(endpoint, &seed, known, limit).await;
            Asked { seed, answer }
        })
        .collect();
    while let Some(asked) = asks.next().await {
        if out.send(asked).await.is_err() {
            return;
        }
    }
}

async fn ask_seed(endpoint: &Endpoint, seed: &Seed, known: &[SocketAddr], limit: Duration) -> Answer {
    let mut addrs = match seed.addresses(limit).await {
        Ok(addrs) => addrs,
        Err(why) => return Answer::Failed(why),
    };
    addrs.retain(|addr| !known.contains(addr));
    let asked = sample(&addrs, seed.asked_max());
    let mut asks: FuturesUnordered<_> = asked.into_iter().map(|addr| ask(endpoint, addr, limit)).collect();
    let mut answer = Answer::Known;
    while let Some(asked) = asks.next().await {
        match asked {
            Ok(members) => return Answer::Members(members),
            Err(why) => answer = Answer::Failed(why),
        }
    }
    answer
}

/// The view of the node at `addr`; else why not, in a sentence.
async fn ask(endpoint: &Endpoint, addr: SocketAddr, limit: Duration) -> Result<Vec<Arc<Member>>, String> {
    match endpoint.call(addr, &Request::View, limit).await {
        Ok(Response::View(bytes)) => View::decode(&bytes).map(|view| view.members).map_err(|error| error.to_string()),
        Ok(Response::Error { message, .. }) => Err(message),
        Ok(_) => Err("answered something other than a view".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Up to `n` of `all`, at random if there are more.
pub(crate) fn sample<T: Clone>(all: &[T], n: usize) -> Vec<T> {
    let mut picked = all.to_vec();
    for i in 0..n.min(all.len()) {
        let j = i + (rng::random_u64() % (all.len() - i) as u64) as usize;
        picked.swap(i, j);
    }
    picked.truncate(n);
    picked
}

#[cfg(test)]
mod tests {
    use shoal_types::ErrorKind;

    use super::*;

    #[test]
    fn seeds_are_hosts_files_and_names_of_services() {
        for (text, seed) in [
            ("10.0.0.1:7100", Seed::Host("10.0.0.1:7100".into())),
            ("[::1]:7100", Seed::Host("[::1]:7100".into())),
            ("file:/etc/shoal/nodes", Seed::File("/etc/shoal/nodes".into())),
            ("dns:shoal.train.svc", Seed::Dns("shoal.train.svc:7100".into())),
            ("dns:shoal:71", Seed::Dns("shoal:71".into())),
        ] {
            let parsed: Seed = text.parse().unwrap();
            assert_eq!(parsed, seed);
            assert_eq!(parsed.to_string().parse::<Seed>().unwrap(), seed);
        }
        for text in ["", "host", "host:", ":7100", "host:70000", "a b:1", "file:", "dns:", "dns::1", "dns:name:x"] {
            let error = text.parse::<Seed>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_of_seeds_is_read_anew_and_bad_lines_do_not_spoil_it() {
        const LIMIT: Duration = Duration::from_secs(20);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes");
        let seed = Seed::File(path.clone());
        assert!(seed.addresses(LIMIT).await.unwrap_err().contains("No such file"));
        std::fs::write(&path, "# the ring\n127.0.0.1:1 # first\n\nnonsense\n127.0.0.1:2\n127.0.0.1:1\n").unwrap();
        let mut addrs = seed.addresses(LIMIT).await.unwrap();
        addrs.sort();
        assert_eq!(addrs, ["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
        std::fs::write(&path, "127.0.0.1:3\n").unwrap();
        assert_eq!(seed.addresses(LIMIT).await.unwrap(), ["127.0.0.1:3".parse().unwrap()]);
        std::fs::write(&path, "nonsense\n").unwrap();
        assert!(seed.addresses(LIMIT).await.unwrap_err().contains("`nonsense` is not HOST:PORT"));
        std::fs::write(&path, "").unwrap();
        assert!(seed.addresses(LIMIT).await.is_err());
    }

    #[tokio::test]
    async fn a_service_name_gives_every_address() {
        let seed: Seed = "dns:localhost:9".parse().unwrap();
        let addrs = seed.addresses(Duration::from_secs(20)).await.unwrap();
        assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 9), "{addrs:?}");
    }

    #[test]
    fn samples_are_distinct_and_bounded() {
        let all: Vec<u32> = (0..50).collect();
        let mut picked = sample(&all, 8);
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked.len(), 8);
        assert_eq!(sample(&all[..3], 8).len(), 3);
    }
}
