//! What a node's and a client's tiers promise, with real stores, real sockets on loopback and an object store that can fail.
#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with the place, which is what it is for")]

#[path = "cache/client.rs"]
mod client;
#[path = "cache/model.rs"]
mod model;
#[path = "cache/node.rs"]
mod node;
#[path = "cache/ring.rs"]
mod ring;
#[path = "cache/support.rs"]
mod support;
#[path = "cache/warm.rs"]
mod warm;
