//! The seam to a metadata database: typed record primitives.
//!
//! An engine stores and finds records; every rule about them (names, link counts, accounting) is in `ops`. Primitives
//! that write take many records at once, because a round trip or a statement for each would bound a bulk load. Ids,
//! reference counts and parents of hard links are stored differently by SQL, Redis and key-value engines (spec sections 8.3, 11, 12);
//! primitives carry the meaning, the engine its convention.

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino, SliceRecord};

use crate::error::MetaError;
use crate::record::{
    ChunkSlices, Counter, DirEntry, DirQuota, DirUsage, Entry, IdKind, NewDentry, ParentCount, SliceRef, Xattr,
};

/// Reads records. Outside a transaction each call sees the newest committed state; inside one, the transaction's own
/// writes too, and what was read is still true when it commits (or the commit fails as [`MetaError::Contended`]).
///
/// Every method: `Corrupt` for a record that breaks the format, `NoVolume` where the database has no schema,
/// `Unavailable` or `Timeout` when it does not answer. Cancel-safe.
#[async_trait]
pub trait Records: Send + Sync {
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
    /// The lists of the file's chunks with an index in `range` that have one, by index.
    async fn chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<ChunkSlices>, MetaError>;
    /// A shared ACL rule.
    async fn acl(&self, id: u32) -> Result<Option<AclRule>, MetaError>;
    /// Use of a directory's children; `None` means unknown, not nothing.
    async fn dir_usage(&self, dir: Ino) -> Result<Option<DirUsage>, MetaError>;
    /// Every directory quota of the volume.
    async fn dir_quotas(&self) -> Result<Vec<DirQuota>, MetaError>;
    /// Directories that hold names of a hard-linked file (one whose attribute's parent is 0), by inode.
    async fn parents(&self, ino: Ino) -> Result<Vec<ParentCount>, MetaError>;
}

/// One write transaction: all of its writes or none. Dropping it undoes everything.
#[async_trait]
pub trait Txn: Records {
    /// Creates tables, indexes and first counters where they are missing; does nothing on a complete schema.
    async fn create_schema(&self) -> Result<(), MetaError>;
    /// Replaces the setting.
    async fn put_setting(&self, json: &str) -> Result<(), MetaError>;
    /// Takes `n` ids that nobody else gets.
    async fn take_ids(&self, kind: IdKind, n: u64) -> Result<Range<u64>, MetaError>;
    /// Adds to a counter.
    async fn add_counter(&self, counter: Counter, delta: i64) -> Result<(), MetaError>;
    /// Attributes of new inodes. `Conflict` names the first that exists.
    async fn insert_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError>;
    /// Replaces the attributes of existing inodes.
    async fn update_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError>;
    /// New names. `Conflict` ([`MetaError::Exists`]) names the first that exists.
    async fn insert_dentries(&self, dentries: &[NewDentry]) -> Result<(), MetaError>;
    /// Targets of new symbolic links.
    async fn insert_symlinks(&self, links: &[(Ino, Bytes)]) -> Result<(), MetaError>;
    /// Sets extended attributes.
    async fn put_xattrs(&self, xattrs: &[Xattr]) -> Result<(), MetaError>;
    /// Appends to chunk lists.
    async fn append_slices(&self, chunks: &[ChunkSlices]) -> Result<(), MetaError>;
    /// Reference counts of slices that no list named before. `Conflict` names the first that exists.
    async fn insert_slice_refs(&self, refs: &[SliceRef]) -> Result<(), MetaError>;
    /// Adds to the parents' counts of hard-linked files.
    async fn add_parents(&self, parents: &[ParentCount]) -> Result<(), MetaError>;
    /// Replaces directories' use.
    async fn put_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError>;
    /// Adds to directories' use where it is known; returns those where it is not.
    async fn add_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<Vec<Ino>, MetaError>;
    /// Adds to the use of a directory quota.
    async fn add_quota_usage(&self, dir: Ino, space: i64, inodes: i64) -> Result<(), MetaError>;
    /// Makes the writes visible and durable. `Contended` leaves nothing written.
    async fn commit(self: Box<Self>) -> Result<(), MetaError>;
}

/// One metadata database.
#[async_trait]
pub trait Engine: Debug + Send + Sync {
    /// The database as messages name it: its URL without secrets.
    fn name(&self) -> &str;
    /// Reads outside any transaction.
    fn records(&self) -> &dyn Records;
    /// Begins a write transaction. `Denied` on an engine opened for reading.
    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError>;
    /// Closes the database's connections.
    async fn close(&self);
}
