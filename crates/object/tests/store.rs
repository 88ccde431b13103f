//! Public behaviour of the object stores: the conformance suite on every kind, and failures of each layer.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/decorators.rs"]
mod decorators;
#[path = "store/file.rs"]
mod file;
#[path = "store/http_server.rs"]
mod http_server;
#[path = "store/power.rs"]
mod power;
#[path = "store/rclone.rs"]
mod rclone;
#[path = "store/s3.rs"]
mod s3;
#[path = "store/tail.rs"]
mod tail;
