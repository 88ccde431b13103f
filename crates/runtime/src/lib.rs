//! The process around the logic: clock, tasks, randomness, shutdown, memory budgets, metrics, logs and the admin HTTP port.
//!
//! Layer 1. The only crate that may read the clock, sleep, spawn or draw randomness (clippy's `disallowed-methods` refuses it
//! elsewhere), so that every task has a name, every wait a bound, and paused time moves everything. Knows no block, no ring and
//! no volume.

pub mod budget;
pub mod clock;
pub mod estimate;
pub mod hangup;
pub mod http;
pub mod metrics;
#[cfg(test)]
mod polled;
pub mod ranked;
pub mod rng;
pub mod shutdown;
#[cfg(feature = "testing")]
pub mod simulation;
pub mod task;
pub mod telemetry;
