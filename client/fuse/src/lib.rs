//! The FUSE front door: translates kernel requests to `vfs` calls and nothing else.
//!
//! Layer 7. The only crate that names fuser, and the only place where errors become errno.

mod access_log;
mod acl;
mod asked;
mod asker;
mod attr;
mod caller;
mod changes;
mod errno;
mod handles;
mod listing;
mod locks;
mod metrics;
mod mount;
mod ops;
mod options;
mod removal;
mod seek;
mod statfs;
mod virtual_files;
mod write;

pub use caller::{Squash, Squashed};
pub use mount::{MountError, Mounted, mount};
pub use options::FuseOptions;
pub use statfs::Space;
pub use virtual_files::{ACCESS_LOG_NAME, CONFIG_NAME, INTERNAL_PREFIX, STATS_NAME};
