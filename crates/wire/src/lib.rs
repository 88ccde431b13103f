//! Messages between peers as bytes: pure codecs, no I/O, no clock, no allocation that the bytes alone decide.
//!
//! What travels on one QUIC stream:
//!
//! | direction | stream opened with | answered with |
//! |---|---|---|
//! | get a block | one [`FrameKind::Get`] frame | one [`FrameKind::GetHead`] frame, then [`chunk`]s |
//! | get ranges of many blocks | one [`FrameKind::GetMany`] frame | for each, one [`FrameKind::GetHead`] frame, then [`chunk`]s |
//! | control | one [`FrameKind::Request`] frame | one or more [`FrameKind::Response`] frames |
//!
//! A frame is a [`FrameHeader`] (8 bytes, the same in every version) and its payload. The hot pair, get and head, is laid out
//! by hand in little-endian fields; control messages are postcard. Every length has a bound, checked before anything is
//! allocated for it. A stream that fails after its head is reset with [`Status::reset_code`].
//!
//! Versions: [`VERSION`] is in every header. A process that meets another version answers [`Status::Invalid`] with a
//! sentence, in its own version; so new readers must keep understanding old heads and old responses.

pub mod chunk;
mod control;
mod error;
mod fields;
mod frame;
mod get;
mod get_many;
mod reader;
mod status;

pub use control::{NodeStat, Request, Response, batches};
pub use error::WireError;
pub use fields::MAX_KEYS;
pub use frame::{FrameHeader, FrameKind, MAX_CONTROL_BYTES, MAX_GET_BYTES, MAX_GET_MANY_BYTES, VERSION};
pub use get::{GetHead, GetRequest, MAX_ETAG_BYTES, MAX_MESSAGE_BYTES, MAX_OBJECT_BYTES, SPREAD_MAX};
pub use get_many::{GetMany, MAX_ITEMS, MAX_MANY_BYTES};
pub use status::Status;
