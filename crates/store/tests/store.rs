//! The store as its users see it: on real files, with both ways of doing I/O.
#![allow(clippy::unwrap_used, reason = "a test may panic; clippy knows only #[test] functions")]

#[path = "store/common.rs"]
mod common;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/faults.rs"]
mod faults;
#[path = "store/model.rs"]
mod model;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/speed.rs"]
mod speed;
#[path = "store/tiers.rs"]
mod tiers;
