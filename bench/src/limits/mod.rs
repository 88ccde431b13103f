//! `shoal-bench limits`: what memory, disk, network and FUSE of this machine give without Shoal.
//!
//! Each module here offers plain functions that return a sample, so that other subcommands race them with ours.

pub mod fuse;
pub mod memory;
pub mod pki;
pub mod quic;
pub mod settings;
pub mod tls;
pub mod uring;

mod command;

pub use command::{Args, run};

/// A whole block.
pub const BLOCK: usize = 4 << 20;
/// A FUSE request, and a small range of a block.
pub const MIB: usize = 1 << 20;
/// A kernel readahead window, and a chunk on Shoal's wire.
pub const CHUNK: usize = 128 << 10;
/// A page, the smallest read.
pub const PAGE: usize = 4 << 10;
