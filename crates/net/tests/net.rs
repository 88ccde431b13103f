//! Peers over real sockets of loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

#[path = "net/certificates.rs"]
mod certificates;
#[path = "net/control.rs"]
mod control;
#[path = "net/failures.rs"]
mod failures;
#[path = "net/files.rs"]
mod files;
#[path = "net/get.rs"]
mod get;
#[path = "net/gossip.rs"]
mod gossip;
#[path = "net/jumbo.rs"]
mod jumbo;
#[path = "net/many.rs"]
mod many;
#[path = "net/overload.rs"]
mod overload;
#[path = "net/raw.rs"]
mod raw;
#[path = "net/simulated.rs"]
mod simulated;
#[path = "net/support.rs"]
mod support;
