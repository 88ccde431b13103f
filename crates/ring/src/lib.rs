//! Who owns a block: a consistent-hash ring over node ids and weights.
//!
//! Layer 1, pure: no I/O, no clock, no randomness. Two processes with the same members and weights compute the same owners
//! on every platform and in every build, so a reader finds a block's owner without asking anyone. Positions are part of the
//! protocol and pinned by golden tests: changing them moves every cached block.
//!
//! A block has [`PROBES`] places on the circle, and the node whose point follows one of them most closely owns it (multi-probe consistent
//! hashing, Appleton and O'Reilly, 2015, arXiv:1505.00062). With one place a block, a ring needs fifteen times the points for the same balance.

mod balance;
mod position;
mod ring;
mod weight;

pub use position::PROBES;
pub use ring::{Ring, RingMember};
pub use weight::{WEIGHT_MAX, weight_of_capacity};
