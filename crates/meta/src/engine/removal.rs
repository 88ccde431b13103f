//! Records of removals: what is taken away, and what stays behind until a removal is complete (spec sections 14 and 15).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::Ino;

use crate::error::MetaError;

/// A dentry to remove, and the inode it must still name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldDentry {
    /// The directory.
    pub parent: Ino,
    /// The name's bytes.
    pub name: Bytes,
    /// What it names.
    pub ino: Ino,
}

/// A file that has no attributes any more and whose data is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedFile {
    /// The file.
    pub ino: Ino,
    /// Its length in bytes: its chunks lie below.
    pub length: u64,
    /// When it was removed, in seconds since 1970.
    pub removed: i64,
}

/// Reads records of removals, as [`Records`](crate::Records) reads the others.
#[async_trait]
pub trait RemovalRecords: Send + Sync {
    /// Up to `limit` deleted files that were removed before `before` (seconds since 1970), oldest first.
    async fn deleted_files(&self, before: i64, limit: usize) -> Result<Vec<DeletedFile>, MetaError>;
}

/// Removes records. Inodes without such a record are passed over, unless a method says otherwise.
#[async_trait]
pub trait RemovalTxn: Send + Sync {
    /// Removes names. `Contended` if one is gone or names another inode: what the caller read of it is no longer true.
    async fn delete_dentries(&self, dentries: &[OldDentry]) -> Result<(), MetaError>;
    /// Removes attributes.
    async fn delete_attrs(&self, inos: &[Ino]) -> Result<(), MetaError>;
    /// Removes targets of symbolic links.
    async fn delete_symlinks(&self, inos: &[Ino]) -> Result<(), MetaError>;
    /// Removes every extended attribute of these inodes, and their parents' counts if they were hard-linked.
    async fn delete_xattrs_and_parents(&self, inos: &[Ino]) -> Result<(), MetaError>;
    /// Removes the quotas set on directories.
    async fn delete_dir_quotas(&self, dirs: &[Ino]) -> Result<(), MetaError>;
    /// Removes directories' statistics and the quotas set on them.
    async fn delete_dir_records(&self, dirs: &[Ino]) -> Result<(), MetaError>;
    /// Files whose data is to be deleted from now on.
    async fn insert_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError>;
    /// Removes deleted files whose data is gone.
    async fn remove_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError>;
}
