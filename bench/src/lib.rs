//! Measures Shoal against what the machine gives without it.
//!
//! Layer 8. One module for each subcommand (`limits` so far), all built from the same parts: a plain function does one kind of
//! operation for a while and returns a [`sample::Sample`]; [`race`] runs ours and the limit in turns within one process, because
//! numbers from different minutes of a shared machine do not compare; [`report`] makes the table and the JSON.

pub mod buffer;
pub mod cli;
pub mod limits;
pub mod race;
pub mod report;
pub mod sample;
