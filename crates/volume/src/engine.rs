//! Which metadata engine a URL asks for.

use std::sync::Arc;

use shoal_meta::{Engine, OpenMode};

use crate::error::VolumeError;
use crate::redact::redact;

/// Engines of the format that are not built yet: refused by name rather than as unknown.
const NOT_YET: [&str; 5] = ["tikv", "etcd", "fdb", "badger", "memkv"];

/// Opens the engine that `url` names.
pub(crate) async fn open_engine(url: &str, mode: OpenMode) -> Result<Arc<dyn Engine>, VolumeError> {
    match url.split_once("://").map(|(scheme, _)| scheme) {
        Some(scheme) if shoal_meta_sql::SCHEMES.contains(&scheme) => Ok(shoal_meta_sql::open(url, mode).await?),
        Some(scheme) if shoal_meta_redis::SCHEMES.contains(&scheme) => Ok(shoal_meta_redis::open(url, mode).await?),
        Some(scheme) if NOT_YET.contains(&scheme) => Err(VolumeError::EngineNotYet { scheme: scheme.to_owned() }),
        _ => Err(VolumeError::UnknownScheme { url: redact(url) }),
    }
}
