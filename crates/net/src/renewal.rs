//! Certificates replaced on disk come into use without a restart.
//!
//! Connections that are open stay on the old certificate; new ones use the new one. Files that cannot be used change nothing: the
//! certificate in use stays in use, and one ERROR says why. Rotating an authority takes two steps, each while everything runs: first
//! every `ca.pem` gets the new authority beside the old one, then certificates signed by the new one replace the old.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shoal_runtime::{clock, task};

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::NetError;
use crate::identity::PeerIdentity;

/// Pause between two looks at the files.
pub const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Files must have been the same for so long before they are read: their writer puts one after the other.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// Watches the certificate directory of one endpoint.
#[derive(Debug)]
pub struct Renewal {
    endpoint: Endpoint,
    dir: PathBuf,
    identity: PeerIdentity,
    /// The files as they were when last read.
    seen: Stamp,
}

/// Modification time, inode and length of each of the three files; nothing for one that is not there.
type Stamp = [Option<(i64, i64, u64, u64)>; 3];

impl Renewal {
    /// For an endpoint whose credentials of this `identity` were loaded from `dir` a moment ago.
    pub fn new(endpoint: Endpoint, identity: PeerIdentity, dir: &Path) -> Renewal {
        Renewal { endpoint, dir: dir.to_owned(), identity, seen: stamp(dir) }
    }

    /// Looks at the files every [`LOOK_EVERY`], without end. Cancel-safe.
    pub async fn follow(&mut self) {
        loop {
            clock::sleep(LOOK_EVERY).await;
            self.look().await;
        }
    }

    /// Takes the files into use if they have changed since they were last read.
    pub async fn look(&mut self) {
        let mut now = self.stamp().await;
        if now == self.seen {
            return;
        }
        loop {
            clock::sleep(SETTLED_AFTER).await;
            let later = self.stamp().await;
            if std::mem::replace(&mut now, later) == later {
                break;
            }
        }
        self.reload().await;
    }

    /// Takes the files into use as they are now; says in the log what came of it.
    pub async fn reload(&mut self) {
        self.seen = self.stamp().await;
        let dir = self.dir.clone();
        let loaded = task::blocking("net-certificates", move || Credentials::load(&dir)).await;
        let used = loaded.and_then(|credentials| {
            self.check(credentials.identity())?;
            self.endpoint.reload(&credentials)?;
            Ok(credentials)
        });
        self.endpoint.reloaded(used.is_ok());
        match used {
            Ok(credentials) => {
                let days_left = credentials.expires().saturating_sub(clock::unix_now().as_secs()) / 86_400;
                tracing::info!(dir = %self.dir.display(), days_left, "new certificates are in use");
            }
            Err(error) => tracing::error!(
                dir = %self.dir.display(),
                error = &error as &dyn std::error::Error,
                "new certificates cannot be used; the ones in use stay"
            ),
        }
    }

    /// A process stays what it is: its peers know it by role and group.
    fn check(&self, identity: &PeerIdentity) -> Result<(), NetError> {
        if (identity.role, &identity.group) == (self.identity.role, &self.identity.group) {
            return Ok(());
        }
        let problem = format!("is of {identity}, but this process is {}", self.identity);
        Err(NetError::Credential { path: self.dir.join("cert.pem"), problem })
    }

    async fn stamp(&self) -> Stamp {
        let dir = self.dir.clone();
        task::blocking("net-certificates", move || stamp(&dir)).await
    }
}

fn stamp(dir: &Path) -> Stamp {
    ["ca.pem", "cert.pem", "key.pem"].map(|name| {
        let meta = fs::metadata(dir.join(name)).ok()?;
        Some((meta.mtime(), meta.mtime_nsec(), meta.ino(), meta.len()))
    })
}
