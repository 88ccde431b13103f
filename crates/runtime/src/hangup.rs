//! SIGHUP: "read your files again".

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The hang-ups this process is sent; while one exists, they do not end the process.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Listens from now on. Needs a tokio runtime. Errors: the handler cannot be installed.
    pub fn listen() -> io::Result<Hangups> {
        Ok(Hangups(signal(SignalKind::hangup())?))
    }

    /// Returns with the next one; several at once are one. Cancel-safe.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hangup_is_heard_and_ends_nothing() {
        let mut hangups = Hangups::listen().unwrap();
        let this_process = std::process::id().to_string();
        let status = std::process::Command::new("kill").args(["-HUP", &this_process]).status().unwrap();
        assert!(status.success());
        crate::clock::timeout(std::time::Duration::from_secs(60), hangups.next()).await.unwrap();
    }
}
