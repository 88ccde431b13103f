//! Blocks that this client has written, on their way into the ring: their owners are asked to fetch them, as in a warm-up.
//!
//! Best effort. Asked for are blocks that are in the origin by now, in batches; what finds the list full is left out, and what
//! fails is a miss later.

use shoal_runtime::metrics::{Counter, Registry};
use shoal_types::BlockKey;
use tokio::sync::mpsc;

use crate::error::CacheError;
use crate::warm::WarmReport;

/// Blocks that wait to be offered, at most: 4 GiB of large ones.
const WAITING_MAX: usize = 1024;
/// Blocks offered at once, at most.
const BATCH: usize = 256;

/// The list of blocks to offer.
#[derive(Debug)]
pub(crate) struct Offers {
    list: mpsc::Sender<BlockKey>,
    dropped: Counter,
}

/// Its other end.
#[derive(Debug)]
pub(crate) struct Offered {
    list: mpsc::Receiver<BlockKey>,
    taken: Counter,
    failed: Counter,
}

impl Offers {
    /// An empty list.
    pub(crate) fn new(registry: &Registry) -> (Offers, Offered) {
        let help = "Blocks written here and offered to their owners on the ring, by what became of that";
        let counters = registry.counters("shoal_cache_offered_blocks_total", help, &["outcome"]);
        let counter = |outcome| counters.with(&[outcome]);
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let offers = Offers { list: sender, dropped: counter("dropped") };
        (offers, Offered { list: receiver, taken: counter("taken"), failed: counter("failed") })
    }

    pub(crate) fn add(&self, key: BlockKey) {
        if self.list.try_send(key).is_err() {
            self.dropped.add(1);
        }
    }
}

impl Offered {
    /// Offers what comes by `warm`, until that says that nobody is left to do it.
    pub(crate) async fn deliver<Warm>(mut self, warm: impl Fn(Vec<BlockKey>) -> Option<Warm>)
    where
        Warm: Future<Output = Result<WarmReport, CacheError>>,
    {
        let mut batch = Vec::new();
        while self.list.recv_many(&mut batch, BATCH).await > 0 {
            let keys = std::mem::take(&mut batch);
            let count = keys.len() as u64;
            let Some(warming) = warm(keys) else { return };
            match warming.await {
                Ok(report) => {
                    self.taken.add(report.already + report.fetched);
                    self.failed.add(report.failed);
                }
                Err(error) => {
                    tracing::debug!(%error, "written blocks could not be offered");
                    self.failed.add(count);
                }
            }
        }
    }
}
