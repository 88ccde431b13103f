//! Rings of real nodes on loopback addresses, real mounts, real files: what a user is promised, and every way to break it.
//!
//! One test at a time (`--test-threads=1`): each has up to three nodes and eight mounts.

mod rig;

#[path = "cluster/commands.rs"]
mod commands;
#[path = "cluster/damage.rs"]
mod damage;
#[path = "cluster/demo.rs"]
mod demo;
#[path = "cluster/failures.rs"]
mod failures;
#[path = "cluster/identity.rs"]
mod identity;
#[path = "cluster/joining.rs"]
mod joining;
#[path = "cluster/leaving.rs"]
mod leaving;
#[path = "cluster/local_io.rs"]
mod local_io;
#[path = "cluster/metrics.rs"]
mod metrics;
#[path = "cluster/mounts.rs"]
mod mounts;
#[path = "cluster/refusals.rs"]
mod refusals;
#[path = "cluster/sharing.rs"]
mod sharing;
#[path = "cluster/support.rs"]
mod support;
