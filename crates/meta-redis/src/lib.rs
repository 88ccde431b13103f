//! Metadata of a volume in Redis, in the schema of JuiceFS CE: one server, Sentinel or Cluster.
//!
//! Maps the record primitives of `shoal-meta` to keys (spec section 21) and knows no rule about them. A volume made by the real
//! client opens unchanged, and both may use it at once. A transaction reads as it goes and remembers what it saw; its commit is
//! one script, which writes everything if all of that is still true and nothing otherwise. So writers never wait for each other,
//! and those that touch different names of one directory do not disturb each other.

mod address;
mod changelog;
mod chunks;
mod commit;
mod connect;
mod detached;
mod engine;
mod failure;
mod keys;
mod listing;
mod lists;
mod locks;
mod options;
mod overlay;
mod quotas;
mod records;
mod scan;
mod script;
mod server;
mod txn;
mod view;

use std::sync::Arc;

use shoal_meta::{Engine, MetaError, OpenMode};

use crate::address::{Address, Passwords};

/// Metadata URL schemes that [`open`] knows.
pub const SCHEMES: &[&str] = &["redis", "rediss", "unix"];

/// Opens the metadata database at `url`, spelled as JuiceFS spells it: `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, `rediss://` for
/// TLS, `unix:///PATH?db=DB`; several hosts are a cluster, and a name before the first of them is a master that they guard as sentinels.
///
/// Errors: `Invalid` for a URL that cannot be opened; `NotFound` if it holds no volume, except for [`OpenMode::Create`]; `Unavailable`
/// or `Timeout` if no server answers; `Denied` for a wrong password.
pub async fn open(url: &str, mode: OpenMode) -> Result<Arc<dyn Engine>, MetaError> {
    let address = Address::parse(url, &Passwords::of_environment()?)?;
    Ok(Arc::new(engine::RedisEngine::open(address, mode).await?))
}
