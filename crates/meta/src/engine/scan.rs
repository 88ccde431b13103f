//! Reads of whole tables in bounded pages, and of what belongs to many inodes at once: what dumps, checks and clean-up are made of.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino};

use super::removal::DeletedFile;
use super::sessions::Serial;
use crate::error::MetaError;
use crate::record::{ChunkSlices, DelayedSlices, DirUsage, NewDentry, SliceRef, Xattr};

/// A part of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanPage<T> {
    /// Records, in an order of the engine's own.
    pub records: Vec<T>,
    /// Where the next page begins, for the same scan of the same engine; `None` behind the last one.
    pub next: Option<Bytes>,
}

impl<T> Default for ScanPage<T> {
    /// Of a table that holds nothing.
    fn default() -> ScanPage<T> {
        ScanPage { records: Vec::new(), next: None }
    }
}

/// Scans, as [`Records`](crate::Records) reads single records.
///
/// `from` is empty for the first page, then what the page before gave as `next`. A page has about `limit` records, or none
/// though others follow. A record that is there throughout is in at least one page, and may be in two; one that comes, goes or
/// changes meanwhile may be in any form, or missing; so may what a transaction itself wrote.
#[async_trait]
pub trait ScanRecords: Send + Sync {
    /// Attributes of every inode, those of the trash and of removed files that are open included.
    async fn scan_attrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Attr)>, MetaError>;
    /// Every name.
    async fn scan_dentries(&self, from: &[u8], limit: usize) -> Result<ScanPage<NewDentry>, MetaError>;
    /// Every chunk list, those of deleted files included.
    async fn scan_chunks(&self, from: &[u8], limit: usize) -> Result<ScanPage<ChunkSlices>, MetaError>;
    /// Targets of every symbolic link.
    async fn scan_symlinks(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Bytes)>, MetaError>;
    /// Every extended attribute.
    async fn scan_xattrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<Xattr>, MetaError>;
    /// Reference counts of slices, as far as the engine keeps them: key-value engines have none of slices that are named once.
    async fn scan_slice_refs(&self, from: &[u8], limit: usize) -> Result<ScanPage<SliceRef>, MetaError>;
    /// Every record of slices whose references are dropped later.
    async fn scan_delayed(&self, from: &[u8], limit: usize) -> Result<ScanPage<DelayedSlices>, MetaError>;
    /// Every deleted file.
    async fn scan_deleted_files(&self, from: &[u8], limit: usize) -> Result<ScanPage<DeletedFile>, MetaError>;
    /// Every removed file that a session holds open, with the session.
    async fn scan_sustained(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u64, Ino)>, MetaError>;
    /// Use of every directory for which it is known.
    async fn scan_dir_usage(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, DirUsage)>, MetaError>;
    /// Every shared ACL rule.
    async fn scan_acls(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u32, AclRule)>, MetaError>;

    /// The last number of a kind that was given out; zero if none was.
    async fn last_serial(&self, serial: Serial) -> Result<u64, MetaError>;
    /// Targets of those of `inos`, none of them named twice, that are symbolic links.
    async fn symlinks_of(&self, inos: &[Ino]) -> Result<Vec<(Ino, Bytes)>, MetaError>;
    /// Extended attributes of `inos`, none of them named twice.
    async fn xattrs_of(&self, inos: &[Ino]) -> Result<Vec<Xattr>, MetaError>;
    /// Chunk lists of `inos`, none of them named twice; of each inode by index.
    async fn chunks_of(&self, inos: &[Ino]) -> Result<Vec<ChunkSlices>, MetaError>;
}
