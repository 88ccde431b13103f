//! A volume from its metadata URL: settings checked, engine and object store opened, codec at hand; and the two ways to make one,
//! `format` and `import`.
//!
//! Layer 6. Assembly only: rules live in `meta`, bytes in `object`, encodings in `format`.

mod attach;
mod bucket;
mod engine;
mod error;
mod format;
pub mod import;
mod open;
mod redact;

pub use attach::{AttachOptions, Attached, RingClient, RingOptions, connect};
pub use bucket::{Bucket, open_bucket};
pub use error::VolumeError;
pub use format::{FormatOptions, Formatted, format};
pub use open::{Access, OpenOptions, Volume};
pub use redact::redact;
