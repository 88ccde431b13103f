//! Measures Shoal against what the machine gives without it.
//!
//! Layer 8. One module for each subcommand (`limits`, `store`, `peer`, `mount`, `gate`), all built from the same parts: a plain
//! function does one kind of operation for a while and returns a [`sample::Sample`]; [`race`] runs ours and the limit in turns within
//! one process, because numbers from different minutes of a shared machine do not compare; [`report`] makes the table and the JSON.
//! [`cluster`] alone puts Shoal together.

pub mod buffer;
pub mod cli;
pub mod cluster;
pub mod drive;
pub mod files;
pub mod gate;
pub mod limits;
pub mod mount;
pub mod options;
pub mod peer;
pub mod placement;
pub mod race;
pub mod report;
pub mod sample;
pub mod store;
