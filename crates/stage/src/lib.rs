//! Blocks on this host's disk that are still to be stored: written and synced there first, put into the object store later.
//!
//! Layer 3. Files lie where a JuiceFS client keeps them (spec section 5, `rawstaging`), so that either finishes what the other left.
//! Knows nothing of files or slices: a block is its object's key, its plain bytes and how they are encoded.

mod disk;
mod error;
mod file;
mod hours;
mod index;
mod metrics;
mod objects;
mod open;
mod stage;
mod upload;

pub use error::StageError;
pub use hours::Hours;
pub use objects::staged_objects;
pub use stage::{Admit, Stage, StageConfig, Staged, has_staged_blocks};
