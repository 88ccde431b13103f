//! Peers over real sockets of loopback.

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
#[path = "net/raw.rs"]
mod raw;
#[path = "net/support.rs"]
mod support;
