//! What is written to one file and not in the volume yet. Pure but for locks: who stores and records it is `writer`.

mod file;
mod pending;
mod slice;

pub(crate) use file::{Failure, FileWrites};
pub(crate) use pending::{Front, Overlay, Ready};
pub(crate) use slice::{Held, SliceId, Upload};
