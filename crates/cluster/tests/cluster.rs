//! Membership and following over real sockets on loopback.

#[path = "cluster/follow.rs"]
mod follow;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/nodes.rs"]
mod nodes;
