//! The FUSE front door: translates kernel requests to `vfs` calls and nothing else.
//!
//! Layer 7. The only crate that names fuser, and the only place where errors become errno.

mod attr;
mod errno;
mod handles;
mod metrics;
mod mount;
mod ops;
mod options;
mod statfs;
mod virtual_files;

pub use mount::{MountError, Mounted, mount};
pub use options::FuseOptions;
pub use virtual_files::{CONFIG_NAME, STATS_NAME};
