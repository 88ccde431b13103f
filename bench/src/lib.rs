//! Measures Shoal against what the machine gives without it.
//!
//! Layer 8. One module for each subcommand (`limits`, `store`, `peer`, `mount`, `classes`, `juicefs`, `gate`), all built from the same parts: a plain
//! function does one kind of operation for a while and returns a [`sample::Sample`]; [`race`] runs ours and the limit in turns within
//! one process, because numbers from different minutes of a shared machine do not compare; [`report`] makes the table and the JSON.
//! [`cluster`] alone puts Shoal together.

pub mod buffer;
pub mod classes;
pub mod cli;
pub mod cluster;
pub mod drive;
pub mod files;
#[cfg(feature = "foyer-disk")]
pub mod foyer;
pub mod gate;
pub mod limits;
pub mod miss;
mod mount;
pub mod options;
pub mod peer;
pub mod placement;
pub mod race;
pub mod report;
pub mod restart;
pub mod rival;
pub mod sample;
pub mod store;
