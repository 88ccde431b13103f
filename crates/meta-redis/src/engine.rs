//! The engine: opening a database, and beginning transactions.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Pipeline;
use shoal_meta::{Accounting, Engine, MetaError, OpenMode, Records, Txn};

use crate::address::Address;
use crate::keys::{Keys, SETTING};
use crate::listing::Listings;
use crate::records::Space;
use crate::server::Server;
use crate::txn::Overlaid;
use crate::view::{Asking, Base, Direct};

/// Metadata in Redis.
pub(crate) struct RedisEngine {
    records: Space<Direct>,
    mode: OpenMode,
}

impl std::fmt::Debug for RedisEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedisEngine").field(&self.records.base().at()).finish()
    }
}

impl RedisEngine {
    /// Opens the database at `address`.
    pub(crate) async fn open(address: Address, mode: OpenMode) -> Result<RedisEngine, MetaError> {
        let server = Server::connect(address).await?;
        let keys = Keys::new(server.prefix());
        let base = Arc::new(Base { server, keys, listings: Listings::default() });
        let asking = Asking { base: &base, slot: 0, answered: None };
        if asking.strings(&[base.keys.single(SETTING)]).await? == [None] && mode != OpenMode::Create {
            return Err(MetaError::NoVolume { at: base.at().to_owned() });
        }
        if mode != OpenMode::ReadOnly {
            warn_of_eviction(&asking).await;
        }
        Ok(RedisEngine { records: Space(Direct { base }), mode })
    }
}

/// A server that forgets keys when its memory is full loses files. One that does not say is taken at its best.
async fn warn_of_eviction(asking: &Asking<'_>) {
    let mut request = Pipeline::new();
    request.cmd("INFO").arg("memory");
    let Ok((info,)) = asking.ask::<(String,)>(&request).await else { return };
    let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    if let Some(policy) = policy.filter(|policy| *policy != "noeviction") {
        let at = asking.base.at();
        tracing::warn!(
            at,
            policy,
            "the server forgets keys when its memory is full; set its maxmemory-policy to noeviction"
        );
    }
}

#[async_trait]
impl Engine for RedisEngine {
    fn name(&self) -> &str {
        self.records.base().at()
    }

    fn records(&self) -> &dyn Records {
        &self.records
    }

    fn accounting(&self) -> Accounting {
        Accounting::Batched
    }

    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError> {
        if self.mode == OpenMode::ReadOnly {
            return Err(MetaError::ReadOnly { at: self.name().to_owned() });
        }
        Ok(Box::new(Space(Overlaid::new(self.records.0.base.clone()))))
    }

    async fn sync(&self) -> Result<(), MetaError> {
        Ok(())
    }

    async fn close(&self) {
        self.records.base().server.close();
    }
}
