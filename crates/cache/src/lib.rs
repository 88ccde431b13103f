//! The tiers: where a block's bytes come from, nearest first.
//!
//! Layer 4. Two sides of one flow. A node ([`NodeCache`]) has its own RAM and NVMe and, for blocks it owns, the origin; it never
//! asks another node. A client ([`ClientCache`]) has its own RAM, then asks the block's owner, then the next replica, then the
//! origin itself. Both fetch a block once however many ask, and stream it to all of them. Stored bytes become plain bytes in the
//! client, once. Knows no file, no inode and no socket.

mod client;
mod deadline;
mod error;
mod extent;
mod fetch;
mod fill;
mod flight;
mod health;
mod locate;
mod metrics;
mod node;
mod nodes;
mod origin;
mod origins;
mod ram;
pub mod serve;
mod single_flight;
mod stream;
mod warm;

pub use client::{ClientCache, ClientCacheConfig, MIN_MEMORY};
pub use error::CacheError;
pub use fetch::Block;
pub use metrics::TierCounts;
pub use node::{NodeCache, NodeCacheConfig, Warmed};
pub use nodes::Peers;
pub use origins::Origins;
pub use stream::BlockStream;
pub use warm::{WarmProgress, WarmReport};
