//! A node's local tiers: blocks in RAM and on NVMe.
//!
//! Layer 2. Stores *stored bytes* under opaque block keys and checks every page it reads; knows no ring, no origin, no codec.
//! A miss is an answer here, never an error; what is lost (a crash, a bad sector, a dead device) is a miss.

mod config;
mod error;
mod flight;
mod io;
mod metrics;
mod nvme;
mod ram;
mod store;
mod sums;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::{Admission, DirConfig, IoChoice, MIN_DIR_BYTES, StoreConfig};
pub use error::StoreError;
pub use nvme::rules::GroupRule;
pub use nvme::scan::{ScanCursor, StoredBlock};
pub use store::{DirStats, Found, InsertHint, Store, StoreStats};
