//! What a mount does with staged blocks when it ends: it leaves them to the next one, or stores them first if it was told so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use shoal_runtime::task;
use shoal_stage::Stage;
use tokio::signal::unix::{SignalKind, signal};

/// The staged blocks of a mount, and whether it is to store them before it ends: `shoal umount --flush` says so by SIGUSR1.
pub(crate) struct Staging {
    stage: Stage,
    flush: Arc<AtomicBool>,
}

impl Staging {
    /// Listens from now on. Errors: the handler cannot be installed.
    pub(crate) fn listen(stage: Stage) -> anyhow::Result<Staging> {
        let mut told = signal(SignalKind::user_defined1()).context("cannot listen for SIGUSR1")?;
        let staging = Staging { stage: stage.clone(), flush: Arc::default() };
        let flush = Arc::clone(&staging.flush);
        drop(task::spawn("flush signal", async move {
            while told.recv().await.is_some() {
                tracing::info!("storing staged blocks before the mount ends");
                flush.store(true, Ordering::SeqCst);
                stage.hurry();
            }
        }));
        Ok(staging)
    }

    /// The mount ends.
    pub(crate) async fn end(&self) {
        if self.flush.load(Ordering::SeqCst) {
            self.stage.flush().await;
        }
        let (blocks, bytes) = self.stage.size();
        if blocks > 0 {
            let dir = self.stage.dir().display();
            tracing::warn!(blocks, bytes, %dir, "staged blocks are not stored yet; the next mount with this --cache-dir stores them");
        }
    }
}
