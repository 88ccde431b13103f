//! Asks addresses for the ring: resolves names, skips what needs no asking, takes the first view that comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shoal_net::Endpoint;
use shoal_runtime::clock;
use shoal_wire::{Request, Response};
use tokio::net::lookup_host;
use tokio::sync::mpsc;

use crate::member::Member;
use crate::view::View;

/// Most seeds asked in one round; with more configured, each round takes others.
pub(crate) const SEEDS_ASKED_MAX: usize = 16;
/// Most addresses of one seed's name that are asked in one round.
const ADDRS_ASKED_MAX: usize = 4;

/// What came of asking one seed.
pub(crate) struct Asked {
    pub(crate) seed: String,
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
    seeds: Vec<String>,
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

async fn ask_seed(endpoint: &Endpoint, seed: &str, known: &[SocketAddr], limit: Duration) -> Answer {
    let addrs = match resolve(seed, limit).await {
        Ok(addrs) => addrs,
        Err(why) => return Answer::Failed(why),
    };
    let mut asks: FuturesUnordered<_> = addrs
        .into_iter()
        .filter(|addr| !known.contains(addr))
        .take(ADDRS_ASKED_MAX)
        .map(|addr| ask(endpoint, addr, limit))
        .collect();
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

/// The addresses behind `host:port`, now: names may move, so nothing is kept.
pub(crate) async fn resolve(seed: &str, limit: Duration) -> Result<Vec<SocketAddr>, String> {
    match clock::timeout(limit, lookup_host(seed)).await {
        Ok(Ok(addrs)) => {
            let mut distinct = Vec::new();
            addrs.for_each(|addr| {
                if !distinct.contains(&addr) {
                    distinct.push(addr);
                }
            });
            match distinct.is_empty() {
                true => Err("the name has no address".to_owned()),
                false => Ok(distinct),
            }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the name was not resolved in time".to_owned()),
    }
}
