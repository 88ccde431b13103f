//! A volume from its metadata URL: settings checked, engine and object store opened, codec at hand; and the two ways to make one,
//! `format` and `import`.
//!
//! Layer 6. Assembly only: rules live in `meta`, bytes in `object`, encodings in `format`.

mod attach;
mod bucket;
mod config;
mod destroy;
pub mod dump;
mod engine;
mod error;
mod format;
pub mod import;
mod open;
mod redact;
mod stage;
mod stored_slices;
pub mod upkeep;

pub use attach::{AttachOptions, Attached, RingClient, RingOptions, RingReads, Writing, connect};
pub use bucket::{Bucket, open_bucket};
pub use config::{ConfigOptions, ConfigPlan, apply_config, plan_config};
pub use destroy::Doomed;
pub use error::VolumeError;
pub use format::{FormatOptions, Formatted, format};
pub use open::{Access, BYTES_PER_S_OF_MBPS, OpenOptions, Volume, open_meta};
pub use redact::redact;
pub use shoal_stage::Hours;
pub use stage::StageOptions;
