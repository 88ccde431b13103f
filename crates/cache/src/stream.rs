//! A block's bytes on their way out of a node.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shoal_runtime::clock;
use shoal_store::Found;
use shoal_types::{BlockRange, Tier};

use crate::error::CacheError;
use crate::flight::Flight;
use crate::metrics::Meter;

/// Bytes of one block, piece by piece. Dropping it early is no error and stops no fill.
pub struct BlockStream {
    /// The tier the bytes come from.
    pub tier: Tier,
    /// Bytes in the whole stored block.
    pub block_len: u32,
    /// What the stream gives: the range asked for, clamped to the block.
    pub range: BlockRange,
    from: From,
    at: u32,
    asked: Instant,
    meter: Arc<Meter>,
}

enum From {
    Memory(Bytes),
    Fill(Arc<Flight>),
    /// Everything was handed over, or the stream failed with this.
    Ended(Option<CacheError>),
}

impl BlockStream {
    pub(crate) fn found(found: Found, range: BlockRange, asked: Instant, meter: Arc<Meter>) -> BlockStream {
        let range = range.clamp(found.block_len);
        BlockStream::new(found.tier, found.block_len, range, From::Memory(found.bytes), asked, meter)
    }

    pub(crate) fn fill(
        flight: Arc<Flight>,
        len: u32,
        range: BlockRange,
        asked: Instant,
        meter: Arc<Meter>,
    ) -> BlockStream {
        BlockStream::new(Tier::Origin, len, range.clamp(len), From::Fill(flight), asked, meter)
    }

    fn new(
        tier: Tier,
        block_len: u32,
        range: BlockRange,
        from: From,
        asked: Instant,
        meter: Arc<Meter>,
    ) -> BlockStream {
        meter.answered(tier);
        BlockStream { tier, block_len, range, from, at: range.start, asked, meter }
    }

    /// The next bytes, never empty; `None` once all of `range` was given.
    ///
    /// Errors: what ended the fill; then on every further call too. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CacheError> {
        if self.at >= self.range.end && !matches!(self.from, From::Ended(_)) {
            self.from = From::Ended(None);
        }
        let next = match &mut self.from {
            From::Ended(None) => return Ok(None),
            From::Ended(Some(error)) => return Err(error.clone()),
            From::Memory(bytes) => Ok(std::mem::take(bytes)),
            From::Fill(flight) => flight.piece(self.at, self.range.end).await.map(|(bytes, _)| bytes),
        };
        match next {
            Ok(bytes) => {
                self.at += bytes.len() as u32;
                self.meter.delivered(self.tier, bytes.len());
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
