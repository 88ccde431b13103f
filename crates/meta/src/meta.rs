//! The volume's metadata as callers see it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use shoal_format::{Attr, Ino, Settings, SliceRecord, Time, validate_name};
use shoal_runtime::clock;

use crate::engine::Engine;
use crate::error::MetaError;
use crate::ops;
use crate::ops::{ImportBatch, MkdirP, StatFs};
use crate::record::{ChunkSlices, DirEntry, IdKind};
use crate::retry::transact;

/// Metadata of one volume. Cheap to clone; every method asks the database, nothing is cached here.
///
/// Methods that read are cancel-safe and wait only for the database. Methods that write run in one transaction each, which
/// is repeated while other writers are in its way (at most 30 seconds, then `Unavailable`); dropped before they return,
/// they may or may not have been committed, but never in part.
#[derive(Debug, Clone)]
pub struct Meta {
    engine: Arc<dyn Engine>,
}

impl Meta {
    /// Metadata in the database behind `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Meta {
        Meta { engine }
    }

    /// The database as messages name it.
    pub fn name(&self) -> &str {
        self.engine.name()
    }

    /// Closes the database's connections; later calls fail.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// The volume's setting, as stored. `NotFound` where the database holds no volume.
    ///
    /// Whether this client may use the volume is not judged here: see [`Settings::check_client`].
    pub async fn settings(&self) -> Result<Settings, MetaError> {
        ops::settings(self.engine.records(), self.name()).await
    }

    /// Creates the volume that `settings` describe: schema, root directory, trash, counters.
    ///
    /// `Conflict` if the database holds a volume already, unless `force`: then its setting is replaced while its namespace
    /// and UUID stay. `Invalid` for a name the format forbids.
    pub async fn init(&self, settings: &Settings, force: bool) -> Result<(), MetaError> {
        validate_name(&settings.name)?;
        let operation = ops::Init { at: self.name(), settings, force, now: now() };
        transact(self.engine.as_ref(), &operation).await
    }

    /// Replaces the setting of an existing volume; running clients see it within their heartbeat.
    ///
    /// `Invalid` if a field changes that is fixed at creation (name, UUID, block size, compression, shards, hash prefix,
    /// encryption).
    pub async fn update_settings(&self, settings: &Settings) -> Result<(), MetaError> {
        let operation = ops::UpdateSettings { at: self.name(), settings, now: now() };
        transact(self.engine.as_ref(), &operation).await
    }

    /// The inode `name` stands for in directory `parent`, with attributes.
    ///
    /// `.trash` in the root is the trash root; names that clients answer themselves (`.stats` and the like) and dentries
    /// whose inode has no attributes are not found.
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<(Ino, Attr)>, MetaError> {
        ops::lookup(self.engine.records(), parent, name).await
    }

    /// Attributes of an inode.
    pub async fn getattr(&self, ino: Ino) -> Result<Option<Attr>, MetaError> {
        self.engine.records().attr(ino).await
    }

    /// Attributes of many inodes, in their order.
    pub async fn getattrs(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        self.engine.records().attrs(inos).await
    }

    /// Every name in directory `dir` with attributes, in byte order. `NotFound` and `Invalid` if it is no directory.
    ///
    /// The root's listing does not hold `.trash`, which no dentry names.
    pub async fn readdir(&self, dir: Ino) -> Result<Vec<DirEntry>, MetaError> {
        ops::readdir(self.engine.records(), dir).await
    }

    /// Up to `limit` names in `dir` greater than `after` (empty: from the start); fewer mean that the listing ends.
    pub async fn readdir_page(&self, dir: Ino, after: &[u8], limit: usize) -> Result<Vec<DirEntry>, MetaError> {
        ops::readdir_page(self.engine.records(), dir, after, limit).await
    }

    /// Target of a symbolic link; `None` for any other inode.
    pub async fn readlink(&self, ino: Ino) -> Result<Option<Bytes>, MetaError> {
        self.engine.records().symlink(ino).await
    }

    /// Value of an extended attribute; ACL rules show as `system.posix_acl_access` and `system.posix_acl_default`.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
        ops::getxattr(self.engine.records(), ino, name).await
    }

    /// Names of an inode's extended attributes.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
        ops::listxattr(self.engine.records(), ino).await
    }

    /// Slice records of chunk `index` of a file, oldest first; empty where nothing was written.
    pub async fn chunk(&self, ino: Ino, index: u32) -> Result<Vec<SliceRecord>, MetaError> {
        self.engine.records().slices(ino, index).await
    }

    /// Slice records of every chunk of a file with an index in `range` that has any, by index, in one round trip.
    pub async fn chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<ChunkSlices>, MetaError> {
        self.engine.records().chunks(ino, range).await
    }

    /// How full the volume is.
    pub async fn statfs(&self) -> Result<StatFs, MetaError> {
        ops::statfs(self.engine.records(), self.name()).await
    }

    /// The inode at `path` from the root. Bytes are taken as they are, symbolic links are not followed, `..` stops at the
    /// root.
    pub async fn resolve_path(&self, path: &[u8]) -> Result<Option<(Ino, Attr)>, MetaError> {
        ops::resolve_path(self.engine.records(), path).await
    }

    /// Takes `n` inode numbers for [`Meta::import`], 1 to 2^32. Those left unused are lost, which is normal.
    pub async fn alloc_inodes(&self, n: u64) -> Result<Range<u64>, MetaError> {
        transact(self.engine.as_ref(), &ops::TakeIds { kind: IdKind::Inode, n }).await
    }

    /// Takes `n` slice ids, 1 to 2^32, like [`Meta::alloc_inodes`].
    pub async fn alloc_slices(&self, n: u64) -> Result<Range<u64>, MetaError> {
        transact(self.engine.as_ref(), &ops::TakeIds { kind: IdKind::Slice, n }).await
    }

    /// The directory at `path` from the root, created with every directory above it where missing.
    ///
    /// `Invalid` where a component is no directory or the path holds `..`.
    pub async fn mkdir_p(&self, path: &[u8], how: MkdirP) -> Result<(Ino, Attr), MetaError> {
        transact(self.engine.as_ref(), &ops::CreatePath { at: self.name(), path, how, now: now() }).await
    }

    /// Writes many new inodes and names in one transaction: dentries, attributes, targets, extended attributes, chunk
    /// lists, slice references, link counts, usage of directories, quotas and the volume.
    ///
    /// The blocks of every slice must be stored already. A batch of some thousand inodes is a good size: it holds the
    /// database's write lock until it is written. Errors: `Conflict` names a name that exists; `NotFound` a directory that
    /// does not; `NoSpace` a quota; `Invalid` what the format forbids; `Denied` a volume that obliges writers to more than
    /// this version maintains.
    pub async fn import(&self, batch: ImportBatch) -> Result<(), MetaError> {
        transact(self.engine.as_ref(), &ops::Import { at: self.name(), batch: &batch, now: now() }).await
    }
}

fn now() -> Time {
    Time::since_epoch(clock::unix_now())
}
