//! Object stores: the last tier, and the only place where a volume's blocks are sure to be.
//!
//! One trait, [`ObjectStore`]; three kinds of store behind [`open`] (`file`, `s3`, `mem`); decorators, each itself a
//! store, one file each: `verify`, `retry`, `pace`, `limit`, `hedge`, `measure`, `timeout`, `rate`, and [`fault`] for tests. A caller sees bytes
//! or an [`ObjectError`], never the library underneath, and never fewer bytes than promised without an error.
//!
//! This crate knows nothing of volumes, blocks, caches or rings: keys are strings, bytes are bytes.

mod body;
mod error;
mod extra;
pub mod fault;
mod file;
mod hedge;
mod limit;
mod location;
mod measure;
mod memory;
mod metrics;
mod open;
mod operator;
mod pace;
mod rate;
mod retry;
mod s3_url;
mod sharded;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tiers;
mod timeout;
mod transport;
mod verify;

pub use body::{MAX_CHUNK_BYTES, ObjectBody};
pub use error::{ObjectError, Op};
pub use location::{Backoff, Location, ObjectOptions};
pub use memory::memory;
pub use open::{SUPPORTED, create, decorate, open};
pub use sharded::sharded;
pub use store::{MAX_KEY_BYTES, ObjectEntry, ObjectMeta, ObjectStore, check_key, probe};
pub use tiers::TierStores;
