//! What a node answers its peers about blocks: the body of the node's `Service`, kept here so that every node, and every test,
//! answers alike.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};
use shoal_net::{GetSink, ResponseSink};
use shoal_runtime::clock;
use shoal_types::{BlockKey, Class, Ctx};
use shoal_wire::{GetHead, GetRequest, Response, Status};

use crate::error::CacheError;
use crate::node::{NodeCache, Warmed};

/// How often a warm-up reports, whether something was done or not.
pub const WARM_REPORT: Duration = Duration::from_millis(500);
/// Blocks of one warm-up request that are looked at together; how many are fetched together is the cache's own bound.
const WARM_AHEAD: usize = 64;

/// Answers a request for bytes of a block, to the last byte or to a failure.
///
/// Cancel-safe: when the peer no longer wants the answer, a fill that was started goes on.
pub async fn answer_get(cache: &NodeCache, request: GetRequest, out: &mut GetSink) {
    let mut ctx = Ctx::new(request.class);
    if request.deadline_ms > 0 {
        ctx = ctx.with_deadline(clock::now() + Duration::from_millis(request.deadline_ms.into()));
    }
    let GetRequest { key, range, spread, local, .. } = request;
    let (found, hint) = match local {
        true => (cache.read_local(&ctx, &key, range).await, 0),
        false => {
            let hint = cache.asked(&key);
            (cache.read_spread(&ctx, &key, range, spread).await.map(Some), hint)
        }
    };
    let mut stream = match found {
        Ok(Some(stream)) => stream,
        Ok(None) => return out.fail(Status::NotFound, format!("block {key} is not held here")).await,
        Err(error) => return refuse(&error, out).await,
    };
    let head = GetHead { spread: hint, ..GetHead::ok(stream.tier, stream.block_len, stream.range) };
    if out.head(head).await.is_err() {
        return;
    }
    loop {
        match stream.next().await {
            // A peer that is gone is no error of ours.
            Ok(Some(bytes)) => {
                let sent = match stream.sums() {
                    Some(sums) => out.send_summed(bytes, &sums).await,
                    None => out.send(bytes).await,
                };
                if sent.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return out.fail(status_of(&error), error.to_string()).await,
        }
    }
}

/// Says why there is no answer, and when to come back if that is the reason.
async fn refuse(error: &CacheError, out: &mut GetSink) {
    let mut head = GetHead::refusal(status_of(error), error.to_string());
    if let CacheError::Busy { retry, .. } = error {
        head.retry_ms = u16::try_from(retry.as_millis()).unwrap_or(u16::MAX);
    }
    // A peer that is gone is no error of ours.
    let _ = out.head(head).await;
}

/// In which tier each block is.
pub fn answer_has(cache: &NodeCache, keys: &[BlockKey]) -> Response {
    Response::Has { tiers: cache.has(keys) }
}

/// Warms `keys` and reports at least every [`WARM_REPORT`], to the last report or until the peer is gone.
///
/// `from` is a peer that has the blocks and is asked first: only another node may name one.
pub async fn answer_warm(cache: &NodeCache, keys: Vec<BlockKey>, from: Option<SocketAddr>, out: &mut ResponseSink) {
    let ctx = Ctx::new(Class::WarmUp);
    let mut report = Report::default();
    let warmed = warm_all(cache, &ctx, keys, from);
    let mut warmed = std::pin::pin!(warmed);
    let mut next_report = clock::now() + WARM_REPORT;
    loop {
        tokio::select! {
            biased;
            result = warmed.next() => match result {
                Some(result) => report.count(result),
                None => break,
            },
            () = clock::sleep_until(next_report) => {}
        }
        if clock::now() >= next_report {
            next_report = clock::now() + WARM_REPORT;
            if out.send(report.response(false)).await.is_err() {
                return;
            }
        }
    }
    // If the peer is gone by now, the blocks are here all the same.
    let _ = out.send(report.response(true)).await;
}

/// Blocks as they are warmed: small ones that a peer hands over in batches, the others one by one.
fn warm_all(
    cache: &NodeCache,
    ctx: &Ctx,
    keys: Vec<BlockKey>,
    from: Option<SocketAddr>,
) -> impl Stream<Item = Result<(u64, Warmed), CacheError>> {
    let batched = async move {
        let (blocks, bytes, left) = match from {
            Some(from) => cache.take_small(ctx, keys, from).await,
            None => (0, 0, keys),
        };
        let taken = (blocks > 0).then_some(Ok((blocks, Warmed::Fetched(bytes))));
        let warm = move |key: BlockKey| async move { Ok((1, cache.warm(ctx, &key, from).await?)) };
        stream::iter(taken).chain(stream::iter(left).map(warm).buffer_unordered(WARM_AHEAD))
    };
    batched.flatten_stream()
}

#[derive(Default)]
struct Report {
    already: u64,
    fetched: u64,
    failed: u64,
    bytes: u64,
    first_error: String,
}

impl Report {
    fn count(&mut self, result: Result<(u64, Warmed), CacheError>) {
        match result {
            Ok((blocks, Warmed::Already)) => self.already += blocks,
            Ok((blocks, Warmed::Fetched(bytes))) => {
                self.fetched += blocks;
                self.bytes += bytes;
            }
            Err(error) => {
                self.failed += 1;
                if self.first_error.is_empty() {
                    self.first_error = error.to_string();
                }
            }
        }
    }

    fn response(&self, last: bool) -> Response {
        Response::WarmProgress {
            done: self.already + self.fetched + self.failed,
            already: self.already,
            fetched: self.fetched,
            failed: self.failed,
            bytes: self.bytes,
            last,
            first_error: self.first_error.clone(),
        }
    }
}

/// How the wire spells a failure.
fn status_of(error: &CacheError) -> Status {
    match error {
        CacheError::NotOwner { .. } => Status::NotOwner,
        CacheError::Busy { .. } => Status::Busy,
        other => other.kind().into(),
    }
}
