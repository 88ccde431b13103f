//! Golden bytes, round trips and mutated inputs of every message.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to stop")]

#[path = "wire/golden.rs"]
mod golden;
#[path = "wire/mutate.rs"]
mod mutate;
#[path = "wire/samples.rs"]
mod samples;
