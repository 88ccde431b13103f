//! Namespace rules of a volume, written once over typed record primitives in a transaction (decision F9).
//!
//! [`Meta`] is what readers and tools hold: lookups, attributes, listings, chunk lists and bulk loads; [`Session`] is a client that
//! changes the volume too. Its rules live in `ops`, one
//! file an operation, and speak to a metadata database only through [`Records`] (read), [`Txn`] (write) and [`Engine`]
//! (both, for one database). An engine maps records to its schema and knows no rule. Facts about the format come from
//! `spec/volume-format.md`, sections 6 to 25. Never caches: what it answers is what the database says now.

mod changelog;
pub mod check;
mod counted;
pub mod dump;
mod effects;
mod engine;
mod error;
mod id_set;
pub mod load;
pub mod mem;
mod meta;
mod metrics;
mod name;
mod open;
mod ops;
mod proto;
mod quota;
mod record;
mod retry;
mod session;
mod slices;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use counted::counted;
pub use effects::Effects;
pub use engine::{
    Accounting, AccountingTxn, ChangeLogRecords, ChangeLogTxn, DataTxn, DeletedFile, DetachedRecords, DetachedTxn,
    Engine, Foreseen, Job, LoadTxn, LockHolder, LockRecords, LockTxn, LoggedChange, NamespaceTxn, OldDentry,
    QuotaRecords, QuotaTxn, Records, RemovalRecords, RemovalTxn, ScanPage, ScanRecords, Serial, SessionRecord,
    SessionRecords, SessionTxn, Txn,
};
pub use error::{MetaError, Refusal};
pub use meta::Meta;
pub use name::show_name;
pub use open::{OpenMode, password_of_environment};
pub use ops::{
    AclKind, AtimeMode, Caller, CloneMode, CompactPlan, Compacted, Counting, Fallocate, FileRange, ImportBatch,
    ImportEntry, ImportLink, ListLength, Lock, MAY_EXECUTE, MAY_READ, MAY_WRITE, MkdirP, NewInode, Place, QuotaCheck,
    QuotaLimits, QuotaScope, Reach, Remains, RenameMode, Renamed, SetAttr, SetTime, StatFs, Summary, TreeSummary,
    Unlock, Written, XattrMode, plan_compaction,
};
pub use quota::{Quota, QuotaKey, QuotaKind};
pub use record::{
    ChunkSlices, Counter, DelayedSlices, DirEntry, DirTouch, DirUsage, Entry, IdKind, NewDentry, ParentCount, SliceRef,
    Xattr, align4k,
};
pub use retry::{Operation, transact};
pub use session::{Cloned, HEARTBEAT, LockWait, RestoreTo, Restoring, Session, TrashUse, TreeRemoval};
pub use slices::SliceStore;
