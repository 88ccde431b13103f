//! Golden bytes, round trips and mutated inputs of every message.

#[path = "wire/golden.rs"]
mod golden;
#[path = "wire/mutate.rs"]
mod mutate;
#[path = "wire/samples.rs"]
mod samples;
