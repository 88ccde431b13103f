//! The tiers: where a block's bytes come from, nearest first.
//!
//! Layer 4. Two sides of one flow. A node ([`NodeCache`]) has its own RAM and NVMe and, for blocks it owns, peers that may hold
//! them and the origin; no node asks another for what that one would have to fetch. A client ([`ClientCache`]) has its own RAM, then asks the block's owner, then the next replica, then the
//! origin itself. Both fetch a block once however many ask, and stream it to all of them. Stored bytes become plain bytes in the
//! client, once. Knows no file, no inode and no socket.

mod arrival;
mod avoided;
mod client;
mod deadline;
mod demand;
mod disk_turns;
mod error;
mod extent;
mod fetch;
mod fill;
mod flight;
mod handover;
mod health;
mod hedge;
mod holders;
mod in_parts;
mod intake;
mod lane;
mod last_resort;
mod latency;
mod locate;
mod metrics;
mod node;
mod node_metrics;
mod nodes;
mod offer;
mod origin;
mod origins;
mod part;
mod pull;
mod race;
mod ram;
mod room;
pub mod serve;
mod single_flight;
mod spread;
mod standing;
mod stream;
mod warm;

pub use client::{ClientCache, ClientCacheConfig, MIN_MEMORY};
pub use error::CacheError;
pub use fetch::Block;
pub use handover::HandOver;
pub use metrics::TierCounts;
pub use node::{NodeCache, NodeCacheConfig, Warmed};
pub use nodes::Peers;
pub use origins::Origins;
pub use part::FillPolicy;
pub use stream::BlockStream;
pub use warm::{WarmProgress, WarmReport};
