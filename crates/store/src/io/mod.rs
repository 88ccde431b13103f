//! File I/O on one slab file: page-aligned buffers, and devices that read and write them without blocking the caller.
//!
//! The only place of this crate with `unsafe`. A device owns a buffer from submission to completion, so a caller that goes away
//! in between costs nothing but the read.

pub(crate) mod buffer;
pub(crate) mod device;
pub(crate) mod engine;
mod local;
mod psync;
mod transfers;
mod uring;
