//! Where volumes of tests keep their metadata: a file of the rig, or a server that all tests of the process share.

use shoal_testkit::{RedisServer, SqlKind, SqlServer};

use super::Rig;

/// Where a volume keeps its metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    Sqlite,
    Postgres,
    MariaDb,
    Redis,
}

impl Rig {
    /// URL of an empty database of `kind`; `None`, and a loud word, where there is no such server. `name` is the file's in the rig.
    pub fn fresh_url(&self, kind: EngineKind, name: &str) -> Option<String> {
        Some(match kind {
            EngineKind::Sqlite => self.url(name),
            EngineKind::Postgres => SqlServer::shared(SqlKind::Postgres)?.fresh_url(),
            EngineKind::MariaDb => SqlServer::shared(SqlKind::MariaDb)?.fresh_url(),
            EngineKind::Redis => RedisServer::shared()?.fresh_url(),
        })
    }
}
