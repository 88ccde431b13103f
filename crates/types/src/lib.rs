//! Words every Shoal crate shares: block keys, ranges, classes of work, tiers, error kinds, sizes and checksums.
//!
//! Layer 0. Nothing here does I/O, reads a clock or knows a format.

mod block;
mod bytesize;
pub mod checksum;
mod ctx;
mod error;
mod id;
mod pages;
mod span;
mod tier;

pub use block::{BlockKey, BlockRange, BlockSpan, MAX_BLOCK_BYTES};
pub use bytesize::{ByteSize, ParseByteSizeError};
pub use ctx::{Class, Ctx};
pub use error::ErrorKind;
pub use id::{BlockId, NodeId, OriginId, ParseIdError};
pub use pages::{PageSums, PageTable};
pub use span::{ParseSpanError, Span};
pub use tier::Tier;
