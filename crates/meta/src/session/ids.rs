//! Ids taken from the volume in batches and given out one by one (spec section 12).

use std::ops::Range;

use tokio::sync::Mutex;

use super::now;
use crate::changelog::LogWriter;
use crate::engine::Engine;
use crate::error::MetaError;
use crate::ops::TakeIds;
use crate::record::IdKind;
use crate::retry::transact;

/// Ids of one kind. What is left at the end is lost, which is normal.
#[derive(Debug)]
pub(super) struct IdPool {
    kind: IdKind,
    batch: u64,
    /// Held while more are taken, so that one batch serves everyone who waits.
    left: Mutex<Range<u64>>,
}

impl IdPool {
    /// An empty pool that takes `batch` ids at a time.
    pub(super) fn new(kind: IdKind, batch: u64) -> IdPool {
        IdPool { kind, batch, left: Mutex::new(0..0) }
    }

    /// An id that nobody else gets.
    pub(super) async fn next(&self, engine: &dyn Engine, log: &LogWriter) -> Result<u64, MetaError> {
        let mut left = self.left.lock().await;
        if left.is_empty() {
            *left = {
                let taken = TakeIds { at: engine.name(), log, now: now(), kind: self.kind, n: self.batch };
                transact(engine, &taken).await?
            };
        }
        let id = left.start;
        left.start += 1;
        Ok(id)
    }
}
