//! Reads of records.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino, SliceRecord};

use super::changelog::ChangeLogRecords;
use super::detached::DetachedRecords;
use super::locks::LockRecords;
use super::quotas::QuotaRecords;
use super::removal::RemovalRecords;
use super::scan::ScanRecords;
use super::sessions::SessionRecords;
use crate::error::MetaError;
use crate::record::{ChunkSlices, Counter, DirEntry, DirUsage, Entry, IdKind, ParentCount};

/// Reads records. Outside a transaction each call sees the newest committed state; inside one, a consistent state with the
/// transaction's own writes. Only what was read through [`NamespaceTxn::attrs_locked`] is sure to be still true when it
/// commits (or the commit fails as [`MetaError::Contended`]).
///
/// [`NamespaceTxn::attrs_locked`]: crate::NamespaceTxn::attrs_locked
///
/// Every method: `Corrupt` for a record that breaks the format, `NoVolume` where the database has no schema,
/// `Unavailable` or `Timeout` when it does not answer. Cancel-safe.
#[async_trait]
pub trait Records:
    RemovalRecords
    + SessionRecords
    + LockRecords
    + DetachedRecords
    + QuotaRecords
    + ChangeLogRecords
    + ScanRecords
    + Send
    + Sync
{
    /// The setting's JSON text.
    async fn setting(&self) -> Result<Option<String>, MetaError>;
    /// A counter; zero where it was never written.
    async fn counter(&self, counter: Counter) -> Result<i64, MetaError>;
    /// The lowest id of a kind that was never handed out.
    async fn next_id(&self, kind: IdKind) -> Result<u64, MetaError>;
    /// Attributes of an inode.
    async fn attr(&self, ino: Ino) -> Result<Option<Attr>, MetaError>;
    /// Attributes of many inodes, in their order.
    async fn attrs(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError>;
    /// What a name in a directory stands for, with attributes, in one round trip.
    async fn entry(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>, MetaError>;
    /// Up to `limit` dentries of a directory with attributes, in byte order of their names, from the first name greater than
    /// `after` (empty: from the start). Fewer than `limit` means that none is left.
    async fn entries(&self, dir: Ino, after: &[u8], limit: usize) -> Result<Vec<DirEntry>, MetaError>;
    /// Target of a symbolic link.
    async fn symlink(&self, ino: Ino) -> Result<Option<Bytes>, MetaError>;
    /// Value of an extended attribute.
    async fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError>;
    /// Names of an inode's extended attributes, in byte order.
    async fn xattr_names(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError>;
    /// A chunk's slice records, oldest first; empty where the chunk was never written.
    async fn slices(&self, ino: Ino, index: u32) -> Result<Vec<SliceRecord>, MetaError>;
    /// How many records a chunk's list has.
    async fn slice_count(&self, ino: Ino, index: u32) -> Result<u32, MetaError> {
        Ok(self.slices(ino, index).await?.len() as u32)
    }
    /// The lists of the file's chunks with an index in `range` that have one, by index.
    async fn chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<ChunkSlices>, MetaError>;
    /// A shared ACL rule.
    async fn acl(&self, id: u32) -> Result<Option<AclRule>, MetaError>;
    /// Every ACL rule with a greater id than `after`, by id.
    async fn acls(&self, after: u32) -> Result<Vec<(u32, AclRule)>, MetaError>;
    /// Use of a directory's children; `None` means unknown, not nothing.
    async fn dir_usage(&self, dir: Ino) -> Result<Option<DirUsage>, MetaError>;
    /// Directories that hold names of a hard-linked file (one whose attribute's parent is 0), by inode.
    async fn parents(&self, ino: Ino) -> Result<Vec<ParentCount>, MetaError>;
}
