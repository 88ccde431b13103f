//! Files over a volume: names and attributes from `meta`, bytes from `cache`, and what lies between: chunk maps, reads that span
//! blocks, read-ahead and walks; and the way back, from written bytes to objects and slice records.
//!
//! Layer 5. Knows nothing of FUSE or of databases, and of object stores only that blocks are put there.

mod changes;
mod chunk_map;
mod cursor;
mod error;
mod inode;
mod locks;
mod metrics;
mod open_cache;
mod open_file;
mod reader;
mod removal;
mod seek;
mod vfs;
mod walk;
mod write;
mod writer;
mod writers;

pub use error::VfsError;
pub use open_file::OpenFile;
pub use seek::Seek;
pub use vfs::{Opened, Parts, Vfs, VfsOptions};
pub use walk::{WalkEntry, WalkReport};
pub use writers::{UPLOADS_MAX, WriteParts};
