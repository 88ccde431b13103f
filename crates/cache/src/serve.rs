//! What a node answers its peers about blocks: the body of the node's `Service`, kept here so that every node, and every test,
//! answers alike.

use std::time::Duration;

use futures::{StreamExt, stream};
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
    let mut stream = match cache.read(&ctx, &request.key, request.range).await {
        Ok(stream) => stream,
        Err(error) => return out.fail(status_of(&error), error.to_string()).await,
    };
    if out.head(GetHead::ok(stream.tier, stream.block_len, stream.range)).await.is_err() {
        return;
    }
    loop {
        match stream.next().await {
            // A peer that is gone is no error of ours.
            Ok(Some(bytes)) => {
                if out.send(bytes).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return out.fail(status_of(&error), error.to_string()).await,
        }
    }
}

/// In which tier each block is.
pub fn answer_has(cache: &NodeCache, keys: &[BlockKey]) -> Response {
    Response::Has { tiers: cache.has(keys) }
}

/// Warms `keys` and reports at least every [`WARM_REPORT`], to the last report or until the peer is gone.
pub async fn answer_warm(cache: &NodeCache, keys: Vec<BlockKey>, out: &mut ResponseSink) {
    let ctx = Ctx::new(Class::WarmUp);
    let mut report = Report::default();
    let warmed = stream::iter(keys).map(|key| async move { cache.warm(&ctx, &key).await }).buffer_unordered(WARM_AHEAD);
    let mut warmed = std::pin::pin!(warmed);
    let mut next_report = clock::now() + WARM_REPORT;
    loop {
        tokio::select! {
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

#[derive(Default)]
struct Report {
    already: u64,
    fetched: u64,
    failed: u64,
    bytes: u64,
    first_error: String,
}

impl Report {
    fn count(&mut self, result: Result<Warmed, CacheError>) {
        match result {
            Ok(Warmed::Already) => self.already += 1,
            Ok(Warmed::Fetched(bytes)) => {
                self.fetched += 1;
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
        other => other.kind().into(),
    }
}
