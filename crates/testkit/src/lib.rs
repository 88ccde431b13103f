//! What tests share: seeded data, random directory trees and their snapshots, waiting with a bound, temporary directories and disks,
//! guarded child processes, ports for servers, database servers, network namespaces, and probes of what this machine can do.
//!
//! A dev-dependency of every crate and a dependency of none that ships. Its functions panic instead of returning errors where a
//! test could only unwrap them. `tests/tidy.rs` holds the rules every file of the workspace is checked against.

mod child;
mod dir;
mod disk;
mod keeper;
mod mounts;
mod namespace;
mod port;
mod probe;
mod redis;
mod rng;
mod snapshot;
mod sql;
mod tree;
mod wait;

pub use child::ChildGuard;
pub use dir::TestDir;
pub use disk::Disk;
pub use namespace::{InNamespace, enter_namespace, network_namespace};
pub use port::free_port;
pub use probe::{have_command, have_fuse, have_io_uring, have_root, skipped};
pub use redis::RedisServer;
pub use rng::{Rng, seeded_bytes, test_seed};
pub use snapshot::{Entry, EntryKind, Snapshot, snapshot};
pub use sql::{SqlKind, SqlServer};
pub use tree::{Tree, TreeCounts};
pub use wait::{PATIENCE, wait_until, wait_until_async};
