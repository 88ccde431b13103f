//! A block's bytes on their way out of a node.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use shoal_runtime::clock;
use shoal_store::Found;
use shoal_types::{BlockRange, PageSums, Tier};

use crate::error::CacheError;
use crate::flight::{Flight, Head};
use crate::in_parts::InParts;
use crate::metrics::Meter;

/// Bytes of one block, piece by piece. Dropping it early is no error and stops no fill.
pub struct BlockStream {
    /// The tier the first bytes come from.
    pub tier: Tier,
    /// Bytes in the whole stored block.
    pub block_len: u32,
    /// What the stream gives: the range asked for, clamped to the block.
    pub range: BlockRange,
    /// Checksums of the bytes given last, if they are known.
    sums: Option<PageSums>,
    from: From,
    at: u32,
    asked: Instant,
    meter: Arc<Meter>,
}

/// Where a read's bytes will come from.
pub(crate) enum Source {
    /// The store had them.
    Found(Found),
    /// The store has them: the first are here, the others are being read.
    Stored(Found, Reading),
    /// They are on their way.
    Flight(OnTheWay),
}

/// Bytes of a block on their way.
pub(crate) struct OnTheWay {
    pub(crate) flight: Arc<Flight>,
    pub(crate) head: Head,
    /// Where in the block the flight's first byte lies.
    pub(crate) start: u32,
}

/// Bytes of a block in the store: some are here, the others may be being read.
pub(crate) struct Stored {
    first: Option<Found>,
    rest: Option<Reading>,
}

/// What the store is reading.
pub(crate) struct Reading {
    pub(crate) parts: InParts,
    /// Where the bytes come from if the store loses the block meanwhile; begun only then.
    pub(crate) instead: BoxFuture<'static, Result<OnTheWay, CacheError>>,
}

enum From {
    Store(Stored),
    Flight(OnTheWay),
    /// Everything was handed over, or the stream failed with this.
    Ended(Option<CacheError>),
}

/// What comes next of a stored block.
enum Step {
    Part(Found),
    Instead(OnTheWay),
}

impl Stored {
    /// Cancel-safe.
    async fn next(&mut self, block_len: u32) -> Result<Step, CacheError> {
        if let Some(found) = self.first.take() {
            return Ok(Step::Part(found));
        }
        let rest = self.rest.as_mut().expect("a block that is here in one piece has no more to ask for");
        match rest.parts.next().await {
            Some(part) if part.block_len == block_len && !part.bytes.is_empty() => Ok(Step::Part(part)),
            _ => (&mut rest.instead).await.map(Step::Instead),
        }
    }
}

impl OnTheWay {
    /// Some of the block's bytes from `at`, at most up to `end`, and where they came from.
    async fn piece(&self, at: u32, end: u32) -> Result<(Bytes, Tier), CacheError> {
        self.flight.piece(at - self.start, end - self.start).await
    }
}

impl BlockStream {
    /// What `source` has of `range`, asked for at `asked`.
    pub(crate) fn new(source: Source, range: BlockRange, asked: Instant, meter: Arc<Meter>) -> BlockStream {
        let stored = |first, rest| From::Store(Stored { first: Some(first), rest });
        let (tier, block_len, from) = match source {
            Source::Found(found) => (found.tier, found.block_len, stored(found, None)),
            Source::Stored(found, rest) => (found.tier, found.block_len, stored(found, Some(rest))),
            Source::Flight(coming) => (coming.head.tier, coming.head.block_len, From::Flight(coming)),
        };
        meter.answered(tier);
        let range = range.clamp(block_len);
        BlockStream { tier, block_len, range, sums: None, from, at: range.start, asked, meter }
    }

    /// The checksums of the bytes that [`BlockStream::next`] gave last, if the store knows them.
    pub fn sums(&self) -> Option<PageSums> {
        self.sums.clone()
    }

    /// The next bytes, never empty; `None` once all of `range` was given.
    ///
    /// Errors: what ended the fill; then on every further call too. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CacheError> {
        if self.at >= self.range.end && !matches!(self.from, From::Ended(_)) {
            self.from = From::Ended(None);
        }
        self.sums = None;
        let next = loop {
            match &mut self.from {
                From::Ended(None) => return Ok(None),
                From::Ended(Some(error)) => return Err(error.clone()),
                From::Flight(coming) => break coming.piece(self.at, self.range.end).await,
                From::Store(stored) => match stored.next(self.block_len).await {
                    Ok(Step::Part(found)) => {
                        self.sums = found.sums;
                        break Ok((found.bytes, found.tier));
                    }
                    Ok(Step::Instead(coming)) => self.from = From::Flight(coming),
                    Err(error) => break Err(error),
                },
            }
        };
        match next {
            Ok((bytes, tier)) => {
                self.at += bytes.len() as u32;
                self.meter.delivered(tier, bytes.len());
                if self.at >= self.range.end {
                    self.from = From::Ended(None);
                    self.meter.completed(self.tier, clock::now().saturating_duration_since(self.asked));
                }
                Ok(Some(bytes))
            }
            Err(error) => {
                self.meter.failed(error.kind());
                self.from = From::Ended(Some(error.clone()));
                Err(error)
            }
        }
    }
}

impl fmt::Debug for BlockStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockStream")
            .field("tier", &self.tier)
            .field("block_len", &self.block_len)
            .field("range", &self.range)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
