//! Leaving in order: out of the ring, blocks handed over to their next owners, and only then gone.

use std::time::Duration;

use shoal_cache::{HandOver, NodeCache};
use shoal_cluster::Cluster;
use shoal_net::ResponseSink;
use shoal_runtime::clock;
use shoal_runtime::shutdown::Shutdown;
use shoal_types::ByteSize;
use shoal_wire::Response;
use tokio::sync::watch;

/// Pause between two words about progress to whoever asked for the drain.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Pause between two lines about progress in the log.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Longest wait for the last word to reach those who wait for it.
const LAST_WORD: Duration = Duration::from_secs(2);

/// One node's drain: asked for by a signal or a peer, carried out once.
#[derive(Debug)]
pub(crate) struct Drain {
    asked: Shutdown,
    done: Shutdown,
    progress: watch::Sender<HandOver>,
}

impl Drain {
    pub(crate) fn new() -> Drain {
        Drain { asked: Shutdown::new(), done: Shutdown::new(), progress: watch::Sender::new(HandOver::default()) }
    }

    /// Returns once a peer has asked for it. Cancel-safe.
    pub(crate) async fn asked(&self) {
        self.asked.wait().await;
    }

    /// Takes the node out of the ring and hands its blocks over, in at most `limit`; hands nothing over if that is zero.
    pub(crate) async fn run(&self, cluster: &Cluster, cache: &NodeCache, limit: Duration) {
        tracing::info!(limit_s = limit.as_secs(), "leaving the ring: it owns no blocks any more");
        cluster.set_leaving().await;
        if !limit.is_zero() {
            let report = tokio::select! {
                report = cache.drain(limit, &self.progress) => report,
                () = self.log_progress() => HandOver::default(),
            };
            let HandOver { total, moved, already, failed, bytes, first_error, .. } = report;
            let bytes = ByteSize(bytes);
            match first_error {
                None => tracing::info!(total, moved, already, %bytes, "blocks are handed over"),
                Some(error) => {
                    tracing::warn!(total, moved, already, failed, %bytes, error, "not all blocks are handed over")
                }
            }
        }
        self.done.trigger();
        let _ = clock::timeout(LAST_WORD, self.progress.closed()).await;
    }

    async fn log_progress(&self) {
        loop {
            clock::sleep(LOG_EVERY).await;
            let HandOver { total, done, bytes, failed, .. } = self.progress.borrow().clone();
            tracing::info!(total, done, failed, bytes = %ByteSize(bytes), "handing blocks over");
        }
    }

    /// Asks for the drain, and tells `out` how it goes until it is done. It goes on if whoever asked goes away.
    pub(crate) async fn answer(&self, out: &mut ResponseSink) {
        let progress = self.progress.subscribe();
        self.asked.trigger();
        loop {
            let last = self.done.is_triggered();
            let HandOver { total, done, moved, already, failed, bytes, first_error } = progress.borrow().clone();
            let first_error = first_error.unwrap_or_default();
            let moved = moved + already;
            let response = Response::DrainProgress { total, done, moved, failed, bytes, last, first_error };
            if out.send(response).await.is_err() || last {
                return;
            }
            let _ = clock::timeout(REPORT_EVERY, self.done.wait()).await;
        }
    }
}
