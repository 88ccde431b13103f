//! What a node's and a client's tiers promise, with real stores, real sockets on loopback and an object store that can fail.
#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with the place, which is what it is for")]

#[path = "cache/client.rs"]
mod client;
#[path = "cache/former.rs"]
mod former;
#[path = "cache/handover.rs"]
mod handover;
#[path = "cache/hot.rs"]
mod hot;
#[path = "cache/model.rs"]
mod model;
#[path = "cache/node.rs"]
mod node;
#[path = "cache/parts.rs"]
mod parts;
#[path = "cache/ring.rs"]
mod ring;
#[path = "cache/support.rs"]
mod support;
#[path = "cache/tail.rs"]
mod tail;
#[path = "cache/warm.rs"]
mod warm;
