//! Whole rings under faults, simulated.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

#[path = "sim/blocks.rs"]
mod blocks;
#[path = "sim/client.rs"]
mod client;
#[path = "sim/large.rs"]
mod large;
#[path = "sim/ledger.rs"]
mod ledger;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/origin.rs"]
mod origin;
#[path = "sim/scenarios.rs"]
mod scenarios;
#[path = "sim/world.rs"]
mod world;
