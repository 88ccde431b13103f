//! A client's view of the ring: follows one node's views, and moves to another when that one falls silent.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use shoal_net::{Endpoint, ResponseStream};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, rng, task};
use shoal_wire::{Request, Response};

use crate::error::ClusterError;
use crate::member::Member;
use crate::metrics::ClusterMetrics;
use crate::seeds::{Seed, sample};
use crate::timing::Timing;
use crate::view::{View, ViewPublisher, ViewWatch};

/// Nodes asked in one search for a node to follow.
const CANDIDATES_MAX: usize = 32;
/// Nodes asked at the same time.
const ASKED_AT_ONCE: usize = 4;
/// Silence after which the next candidate is asked as well: dead nodes are common while a ring changes.
const ASK_NEXT_AFTER: Duration = Duration::from_millis(300);
/// First pause after a search without success; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between searches.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Keeps a client's view of the ring current. Cheap to clone.
///
/// Works for as long as a clone of it or one of its watches lives. Never goes back to an empty view: while no node answers, the
/// last view stays, and reads go past the nodes that do not answer.
#[derive(Clone)]
pub struct Follower {
    views: ViewWatch,
}

impl Follower {
    /// Follows the ring that one of `seeds` (see [`Seed`]; looked up at every attempt) belongs to. Returns with the first view.
    ///
    /// Call it inside a tokio runtime. Errors: `Unavailable` if none came within `patience`, naming every address that was tried
    /// and why it failed; `Invalid` without seeds or with one that is none.
    pub async fn start(
        seeds: Vec<String>,
        endpoint: Endpoint,
        patience: Duration,
        registry: &Registry,
    ) -> Result<Follower, ClusterError> {
        Follower::start_with(seeds, endpoint, patience, Timing::default(), registry).await
    }

    /// [`Follower::start`] with other paces than the default ones.
    pub async fn start_with(
        seeds: Vec<String>,
        endpoint: Endpoint,
        patience: Duration,
        timing: Timing,
        registry: &Registry,
    ) -> Result<Follower, ClusterError> {
        if seeds.is_empty() {
            return Err(ClusterError::NoSeeds);
        }
        let seeds = Seed::all(&seeds)?;
        let publisher = ViewPublisher::new(View::empty());
        let mut views = publisher.watch();
        let failures: Failures = Arc::default();
        seeds.iter().for_each(|seed| failures.note(&seed.to_string(), "no answer yet"));
        let chase = Chase {
            seeds,
            endpoint,
            timing,
            publisher,
            metrics: ClusterMetrics::register(registry),
            failures: Arc::clone(&failures),
        };
        let task = task::spawn("cluster-follow", chase.run());
        if clock::timeout(patience, views.changed()).await.is_err() {
            task.abort();
            return Err(ClusterError::NobodyAnswered { tried: failures.to_string() });
        }
        Ok(Follower { views })
    }

    /// The views, now and as they change; there is always at least one node in them.
    pub fn views(&self) -> ViewWatch {
        self.views.clone_seen()
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Follower({:?})", self.views.current())
    }
}

/// Why each address that was tried did not answer.
#[derive(Default)]
struct FailureList(Mutex<BTreeMap<String, String>>);

type Failures = Arc<FailureList>;

impl FailureList {
    fn note(&self, addr: &str, why: &str) {
        let mut list = self.0.lock();
        if list.len() < CANDIDATES_MAX || list.contains_key(addr) {
            list.insert(addr.to_owned(), why.to_owned());
        }
    }
}

impl fmt::Display for FailureList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.0.lock();
        let entries: Vec<String> = list.iter().map(|(addr, why)| format!("{addr} ({why})")).collect();
        f.write_str(&entries.join(", "))
    }
}

/// Where to ask, and the name it has in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    name: String,
    addr: SocketAddr,
}

/// A node that sends its views.
struct Followed {
    candidate: Candidate,
    stream: ResponseStream,
    first: Vec<Arc<Member>>,
}

struct Chase {
    seeds: Vec<Seed>,
    endpoint: Endpoint,
    timing: Timing,
    publisher: ViewPublisher,
    metrics: ClusterMetrics,
    failures: Failures,
}

impl Chase {
    async fn run(self) {
        tokio::select! {
            biased;
            () = self.publisher.unwatched() => {}
            () = self.chase() => {}
        }
    }

    async fn chase(&self) {
        let mut before = None;
        let mut pause = PAUSE;
        loop {
            let candidates = self.candidates(before).await;
            match self.find(candidates).await {
                Some(followed) => {
                    before = Some(followed.candidate.addr);
                    pause = PAUSE;
                    let name = followed.candidate.name.clone();
                    let why = self.follow(followed).await;
                    tracing::info!(node = name, why, "no more ring views from this node; asking another");
                    self.metrics.watch_moved();
                }
                None => {
                    tracing::debug!(tried = %self.failures, "no node of the ring answers");
                    clock::sleep(rng::jitter(pause, 0.25)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Members in random order, then seeds; the node that just fell silent last.
    async fn candidates(&self, before: Option<SocketAddr>) -> Vec<Candidate> {
        let view = self.publisher.current();
        let mut members: Vec<Candidate> =
            view.members.iter().map(|member| Candidate { name: member.addr.to_string(), addr: member.addr }).collect();
        shuffle(&mut members);
        let mut candidates = members;
        // A ring of dead members must not hide the seeds.
        candidates.truncate(CANDIDATES_MAX - ASKED_AT_ONCE);
        for seed in &self.seeds {
            // With company, names are only a fallback: do not wait long for a name server that may be down.
            let limit = if candidates.is_empty() { self.timing.call_timeout } else { ASK_NEXT_AFTER };
            let name = seed.to_string();
            match seed.addresses(limit).await {
                Ok(addrs) => {
                    let some = sample(&addrs, CANDIDATES_MAX);
                    candidates.extend(some.into_iter().map(|addr| Candidate { name: name.clone(), addr }));
                }
                Err(why) => self.failures.note(&name, &why),
            }
            if candidates.len() >= CANDIDATES_MAX {
                break;
            }
        }
        let mut seen = Vec::new();
        candidates.retain(|candidate| {
            let new = !seen.contains(&candidate.addr);
            seen.push(candidate.addr);
            new
        });
        candidates.sort_by_key(|candidate| Some(candidate.addr) == before);
        candidates.truncate(CANDIDATES_MAX);
        candidates
    }

    /// The first of `candidates` that sends a view; a slow one is overtaken by the next.
    async fn find(&self, candidates: Vec<Candidate>) -> Option<Followed> {
        let mut waiting = candidates.into_iter().peekable();
        let mut asked = FuturesUnordered::new();
        loop {
            if asked.len() < ASKED_AT_ONCE
                && let Some(candidate) = waiting.next()
            {
                asked.push(self.ask(candidate));
            }
            let more = asked.len() < ASKED_AT_ONCE && waiting.peek().is_some();
            tokio::select! {
                biased;
                answer = asked.next() => match answer? {
                    Ok(followed) => return Some(followed),
                    Err((candidate, why)) => self.failures.note(&candidate.name, &why),
                },
                () = clock::sleep(ASK_NEXT_AFTER), if more => {}
            }
        }
    }

    async fn ask(&self, candidate: Candidate) -> Result<Followed, (Candidate, String)> {
        let answer = clock::timeout(self.timing.call_timeout, async {
            let mut stream =
                self.endpoint.call_stream(candidate.addr, &Request::Watch).await.map_err(|error| error.to_string())?;
            let first = loop {
                if let Some(members) = next_view(&mut stream).await? {
                    break members;
                }
            };
            Ok((stream, first))
        });
        match answer.await {
            Ok(Ok((stream, first))) => Ok(Followed { candidate, stream, first }),
            Ok(Err(why)) => Err((candidate, why)),
            Err(_) => Err((candidate, "no answer in time".to_owned())),
        }
    }

    /// Publishes the node's views until they end; gives the reason.
    async fn follow(&self, followed: Followed) -> String {
        let Followed { mut stream, first, .. } = followed;
        self.publish(first);
        loop {
            match clock::timeout(self.timing.watch_silence, next_view(&mut stream)).await {
                Ok(Ok(Some(members))) => self.publish(members),
                Ok(Ok(None)) => {}
                Ok(Err(why)) => return why,
                Err(_) => return "silence".to_owned(),
            }
        }
    }

    fn publish(&self, members: Vec<Arc<Member>>) {
        if let Some(view) = self.publisher.publish(members) {
            self.metrics.published(&view);
            tracing::debug!(version = view.version, epoch = view.epoch(), members = view.members.len(), "ring view");
        }
    }
}

/// The stream's next view; `None` for a sign of life or for a view without members, which says nothing. Errors are sentences.
async fn next_view(stream: &mut ResponseStream) -> Result<Option<Vec<Arc<Member>>>, String> {
    match stream.next().await {
        Ok(Some(Response::View(bytes))) if bytes.is_empty() => Ok(None),
        Ok(Some(Response::View(bytes))) => {
            let view = View::decode(&bytes).map_err(|error| error.to_string())?;
            Ok(Some(view.members).filter(|members| !members.is_empty()))
        }
        Ok(Some(Response::Error { message, .. })) => Err(message),
        Ok(Some(_)) => Err("answered something other than a view".to_owned()),
        Ok(None) => Err("the node ended the stream".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Fisher-Yates.
fn shuffle<T>(items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, (rng::random_u64() % (i as u64 + 1)) as usize);
    }
}
