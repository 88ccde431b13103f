//! Namespace rules of a volume, written once over typed record primitives in a transaction (decision F9).
//!
//! [`Meta`] is what callers hold: lookups, attributes, listings, chunk lists and bulk loads. Its rules live in `ops`, one
//! file an operation, and speak to a metadata database only through [`Records`] (read), [`Txn`] (write) and [`Engine`]
//! (both, for one database). An engine maps records to its schema and knows no rule. Facts about the format come from
//! `spec/volume-format.md`, sections 6 to 25. Never caches: what it answers is what the database says now.

mod engine;
mod error;
pub mod mem;
mod meta;
mod name;
mod ops;
mod record;
mod retry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use engine::{Engine, Records, Txn};
pub use error::MetaError;
pub use meta::Meta;
pub use name::show_name;
pub use ops::{ImportBatch, ImportEntry, ImportLink, MkdirP, StatFs};
pub use record::{
    ChunkSlices, Counter, DirEntry, DirQuota, DirUsage, Entry, IdKind, NewDentry, ParentCount, SliceRef, Xattr, align4k,
};
pub use retry::{Operation, transact};
