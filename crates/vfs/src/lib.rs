//! Files over a volume: names and attributes from `meta`, bytes from `cache`, and what lies between: chunk maps, reads that span
//! blocks, read-ahead and walks.
//!
//! Layer 5. Knows nothing of FUSE, of databases or of object stores.

mod chunk_map;
mod cursor;
mod error;
mod inode;
mod metrics;
mod open_file;
mod reader;
mod vfs;
mod walk;

pub use error::VfsError;
pub use open_file::OpenFile;
pub use vfs::{Opened, Parts, Vfs, VfsOptions};
pub use walk::{WalkEntry, WalkReport};
