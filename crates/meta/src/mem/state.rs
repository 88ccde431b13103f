//! What the database holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use shoal_format::{AclRule, Attr, Dentry, Ino, LockMode, RangeLock, SliceRecord};

use crate::engine::{Job, LockHolder, Serial, SessionRecord};
use crate::quota::{Quota, QuotaKey};
use crate::record::{Counter, DirUsage, IdKind};

/// Every record.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) has_schema: bool,
    pub(super) setting: Option<String>,
    pub(super) counters: BTreeMap<Counter, i64>,
    pub(super) next_ids: BTreeMap<IdKind, u64>,
    pub(super) attrs: BTreeMap<Ino, Attr>,
    pub(super) dentries: BTreeMap<(Ino, Bytes), Dentry>,
    pub(super) symlinks: BTreeMap<Ino, Bytes>,
    pub(super) xattrs: BTreeMap<(Ino, Bytes), Bytes>,
    pub(super) chunks: BTreeMap<(Ino, u32), Vec<SliceRecord>>,
    /// True count − 1, absent for one reference: the key-value convention (spec section 11).
    pub(super) extra_refs: BTreeMap<(u64, u32), i64>,
    pub(super) slices: BTreeMap<u64, u32>,
    /// By time and naming slice.
    pub(super) delayed: BTreeMap<(i64, u64), Vec<(u64, u32)>>,
    pub(super) parents: BTreeMap<(Ino, Ino), i64>,
    pub(super) usage: BTreeMap<Ino, DirUsage>,
    pub(super) quotas: BTreeMap<QuotaKey, Quota>,
    pub(super) acls: BTreeMap<u32, AclRule>,
    /// Length and time of removal.
    pub(super) deleted_files: BTreeMap<Ino, (u64, i64)>,
    /// When each was begun.
    pub(super) detached: BTreeMap<Ino, i64>,
    pub(super) sessions: BTreeMap<u64, SessionRecord>,
    pub(super) sustained: BTreeSet<(u64, Ino)>,
    pub(super) flocks: BTreeMap<(Ino, LockHolder), LockMode>,
    pub(super) plocks: BTreeMap<(Ino, LockHolder), Vec<RangeLock>>,
    pub(super) serials: BTreeMap<Serial, u64>,
    pub(super) jobs: BTreeMap<Job, i64>,
    pub(super) changes: BTreeMap<u64, String>,
    pub(super) last_change: u64,
}

/// Where ids of a kind begin.
pub(super) fn first_id(kind: IdKind) -> u64 {
    match kind {
        IdKind::Inode => 2,
        IdKind::Slice => 1,
    }
}
