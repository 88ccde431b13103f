//! One flag that tells every task of a process, or of one node inside a test, to finish.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::task;

/// A flag that goes from "run" to "stop" once; clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown {
    flag: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

impl Shutdown {
    /// A flag that nothing but [`Shutdown::trigger`] sets.
    pub fn new() -> Shutdown {
        Shutdown { flag: Arc::new(watch::Sender::new(false)) }
    }

    /// A flag that the first SIGINT or SIGTERM sets; a second one ends the process at once with status 128 + signal number.
    ///
    /// The second signal is the way out when an orderly stop hangs. Needs a tokio runtime. Errors: the handler cannot be installed.
    pub fn on_signals() -> io::Result<Shutdown> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = Shutdown::new();
        let ours = shutdown.clone();
        task::spawn("shutdown-signals", async move {
            loop {
                let kind = tokio::select! {
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = terminate.recv() => SignalKind::terminate(),
                };
                let number = kind.as_raw_value();
                if ours.is_triggered() {
                    tracing::warn!(signal = number, "second signal: leaving without an orderly stop");
                    std::process::exit(128 + number);
                }
                tracing::info!(signal = number, "stopping");
                ours.trigger();
            }
        });
        Ok(shutdown)
    }

    /// Tells everyone to stop. Calling it again changes nothing.
    pub fn trigger(&self) {
        self.flag.send_replace(true);
    }

    /// Whether [`Shutdown::trigger`] was called.
    pub fn is_triggered(&self) -> bool {
        *self.flag.borrow()
    }

    /// Returns once the flag is set, at once if it already is. Cancel-safe.
    pub async fn wait(&self) {
        // The sender lives in `self`, so the channel cannot close under us.
        let _ = self.flag.subscribe().wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_wakes_and_late_waiters_return_at_once() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_triggered());
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let clone = shutdown.clone();
                task::spawn("waiter", async move { clone.wait().await })
            })
            .collect();
        shutdown.trigger();
        shutdown.trigger();
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert!(shutdown.is_triggered());
        shutdown.wait().await;
    }

    #[tokio::test]
    async fn sigterm_sets_the_flag() {
        let shutdown = Shutdown::on_signals().unwrap();
        let this_process = std::process::id().to_string();
        let status = std::process::Command::new("kill").args(["-TERM", &this_process]).status().unwrap();
        assert!(status.success());
        crate::clock::timeout(std::time::Duration::from_secs(60), shutdown.wait()).await.unwrap();
    }
}
