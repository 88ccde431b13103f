//! One block from the origin into memory, streamed to its readers on the way.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shoal_runtime::budget::{Budget, Permit};
use shoal_types::{BlockKey, BlockSpan, Tier};

use crate::error::CacheError;
use crate::flight::Flight;
use crate::metrics::Meter;
use crate::origin;
use crate::origins::Origins;

/// A guess at a block's length before the origin has told it, in bytes: the largest seen. Starts at a volume's usual 4 MiB.
#[derive(Debug)]
pub(crate) struct Typical(AtomicU32);

impl Default for Typical {
    fn default() -> Typical {
        Typical(AtomicU32::new(4 << 20))
    }
}

/// What a fill needs.
pub(crate) struct Fill<'a> {
    pub(crate) key: &'a BlockKey,
    pub(crate) origins: &'a Origins,
    pub(crate) memory: &'a Budget,
    pub(crate) typical: &'a Typical,
    pub(crate) patience: Duration,
    pub(crate) meter: &'a Meter,
}

/// A block that has come, and the memory it is charged to.
pub(crate) struct Filled {
    pub(crate) whole: Bytes,
    pub(crate) permit: Permit,
}

impl Fill<'_> {
    /// Fetches the whole block; `flight`'s readers get its bytes as they come.
    ///
    /// Errors: those of [`origin::open`] and of the body, and `NoOrigin`. The flight is left for the caller to fail.
    pub(crate) async fn run(&self, flight: &Flight) -> Result<Filled, CacheError> {
        let key = self.key;
        let store = self.origins.get(key.origin());
        let store = store.ok_or_else(|| CacheError::NoOrigin { key: key.clone(), origin: key.origin() })?;
        // Charged before the request is sent, so that no answer waits, half read, for memory that others hold.
        let guess = match key.span() {
            BlockSpan::Part { len, .. } => *len,
            BlockSpan::Whole => self.typical.0.load(Ordering::Relaxed),
        };
        let mut permit = self.memory.acquire(guess.into()).await;
        self.meter.origin_request();
        let mut body = origin::open(store.as_ref(), key, None, self.patience).await?;
        let len = body.len();
        if len <= guess {
            permit.shrink_to(len.into());
        } else {
            self.typical.0.fetch_max(len, Ordering::Relaxed);
            drop(permit);
            permit = self.memory.acquire(len.into()).await;
        }
        flight.announce(len);
        while let Some(bytes) = body.next().await? {
            flight.push(bytes, Tier::Origin);
        }
        // The joined copy and the pieces exist together for the time of one copy: at most once on each thread of the runtime,
        // which is why the budget is charged once.
        Ok(Filled { whole: flight.assemble(), permit })
    }
}
