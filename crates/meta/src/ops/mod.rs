//! What can be done with a volume's metadata, one file an operation.

mod alloc;
mod import;
mod import_plan;
mod init;
mod lookup;
mod mkdir_p;
mod path;
mod readdir;
mod settings;
mod statfs;
mod usage;
mod xattr;

pub(crate) use alloc::TakeIds;
pub(crate) use import::Import;
pub use import_plan::{ImportBatch, ImportEntry, ImportLink};
pub(crate) use init::{Init, UpdateSettings};
pub(crate) use lookup::lookup;
pub(crate) use mkdir_p::CreatePath;
pub use mkdir_p::MkdirP;
pub(crate) use path::resolve_path;
pub(crate) use readdir::{readdir, readdir_page};
pub(crate) use settings::settings;
pub use statfs::StatFs;
pub(crate) use statfs::statfs;
pub(crate) use xattr::{getxattr, listxattr};
