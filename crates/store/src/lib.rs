//! A node's local tiers: blocks in RAM and on NVMe.
//!
//! Layer 2. Stores *stored bytes* under opaque block keys and checks every page it reads; knows no ring, no origin, no codec.

mod config;
mod error;
mod store;

pub use config::{DirConfig, IoChoice, MIN_DIR_BYTES, StoreConfig};
pub use error::StoreError;
pub use store::{DirStats, Found, Store, StoreStats};
