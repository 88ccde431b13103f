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
#[path = "store/health.rs"]
mod health;
#[path = "store/lent.rs"]
mod lent;
#[path = "store/model.rs"]
mod model;
#[path = "store/opening.rs"]
mod opening;
#[path = "store/policy.rs"]
mod policy;
#[path = "store/scan.rs"]
mod scan;
#[path = "store/speed.rs"]
mod speed;
#[path = "store/tiers.rs"]
mod tiers;
#[path = "store/torture.rs"]
mod torture;
#[path = "store/upkeep.rs"]
mod upkeep;
