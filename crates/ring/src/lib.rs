//! Who owns a block: a consistent-hash ring over node ids and weights.
//!
//! Layer 1, pure: no I/O, no clock, no randomness. Two processes with the same members and weights compute the same owners
//! on every platform and in every build, so a reader finds a block's owner without asking anyone. Positions are part of the
//! protocol and pinned by golden tests: changing them moves every cached block.

mod diff;
mod position;
mod ring;
mod weight;

pub use diff::moved_share;
pub use ring::{Ring, RingMember};
pub use weight::{VNODES_PER_100, WEIGHT_MAX, vnodes};
