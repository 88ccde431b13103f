//! The volume's metadata as callers see it.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use shoal_format::{Attr, Ino, Settings, SliceRecord, Time, validate_name};
use shoal_runtime::clock;

use crate::changelog::LogWriter;
use crate::engine::{DeletedFile, Engine, LoggedChange, ScanRecords, SessionRecord};
use crate::error::MetaError;
use crate::ops;
use crate::ops::{
    Caller, Counting, ImportBatch, MkdirP, QuotaCheck, QuotaLimits, QuotaScope, Reach, StatFs, Summary, TreeSummary,
};
use crate::quota::{Quota, QuotaKey, QuotaKind};
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
    /// What is done through this and not by a session is logged as done by none.
    log: Arc<LogWriter>,
}

impl Meta {
    /// Metadata in the database behind `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Meta {
        Meta { engine, log: Arc::default() }
    }

    /// Waits until every change made so far outlives a loss of power: what `fsync` promises. Errors: as [`Engine::sync`].
    pub async fn sync(&self) -> Result<(), MetaError> {
        self.engine().sync().await
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// Whole tables, for checks and clean-up.
    pub fn scans(&self) -> &dyn ScanRecords {
        self.engine.records()
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
        let operation = ops::UpdateSettings { at: self.name(), settings, log: &self.log, now: now() };
        transact(self.engine.as_ref(), &operation).await
    }

    /// Removes every record of the volume with this UUID, schema included. Its objects are the caller's, and should be gone.
    ///
    /// `Invalid` if the database holds another volume.
    pub async fn destroy(&self, uuid: &str) -> Result<(), MetaError> {
        transact(self.engine.as_ref(), &ops::Destroy { at: self.name(), uuid }).await
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

    /// Refuses unless the caller has every permission in `wanted` (see [`MAY_READ`](crate::MAY_READ)) on `ino`.
    ///
    /// Errors: `NotFound`; `Denied`.
    pub async fn access(&self, caller: &Caller, ino: Ino, wanted: u8) -> Result<(), MetaError> {
        let attr = self.getattr(ino).await?.ok_or_else(|| MetaError::no_inode(ino))?;
        ops::check_access(self.engine.records(), caller, ino, &attr, wanted).await
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

    /// How many records the list of chunk `index` has.
    pub async fn slice_count(&self, ino: Ino, index: u32) -> Result<u32, MetaError> {
        self.engine.records().slice_count(ino, index).await
    }

    /// How full the volume is.
    pub async fn statfs(&self) -> Result<StatFs, MetaError> {
        ops::statfs(self.engine.records(), self.name()).await
    }

    /// Every client that reads and writes, by number.
    pub async fn sessions(&self) -> Result<Vec<SessionRecord>, MetaError> {
        self.engine.records().sessions().await
    }

    /// Removed files that the client `sid` holds open, by inode.
    pub async fn sustained(&self, sid: u64) -> Result<Vec<Ino>, MetaError> {
        self.engine.records().sustained(sid).await
    }

    /// Removed files whose data is still to be deleted, oldest first.
    pub async fn deleted_files(&self) -> Result<Vec<DeletedFile>, MetaError> {
        self.engine.records().deleted_files(i64::MAX, usize::MAX).await
    }

    /// The inode at `path` from the root. Bytes are taken as they are, symbolic links are not followed, `..` stops at the
    /// root.
    pub async fn resolve_path(&self, path: &[u8]) -> Result<Option<(Ino, Attr)>, MetaError> {
        ops::resolve_path(self.engine.records(), path).await
    }

    /// Every path of inode `ino` with attributes `attr`, in byte order; none for one that has no name. Lists the directories above.
    pub async fn paths(&self, ino: Ino, attr: &Attr) -> Result<Vec<Bytes>, MetaError> {
        ops::paths_of(self.engine.records(), ino, attr).await
    }

    /// How much lies at and below inode `ino` with attributes `attr`. What vanishes meanwhile is left out.
    pub async fn summary(&self, ino: Ino, attr: &Attr, reach: Reach, counting: Counting) -> Result<Summary, MetaError> {
        ops::summarize(self.engine.records(), (ino, attr), reach, counting).await
    }

    /// As [`Meta::summary`] of a whole tree, and of its `most` largest entries in each directory down to `depth` levels.
    pub async fn tree_summary(
        &self,
        ino: Ino,
        attr: &Attr,
        depth: u32,
        most: usize,
        counting: Counting,
    ) -> Result<TreeSummary, MetaError> {
        ops::tree_summary(self.engine.records(), (ino, attr), depth, most, counting).await
    }

    /// Every quota of a kind, by key.
    pub async fn quotas(&self, kind: QuotaKind) -> Result<Vec<Quota>, MetaError> {
        self.engine.records().quotas(kind).await
    }

    /// Limits and use of one directory, user or group.
    pub async fn quota(&self, key: QuotaKey) -> Result<Option<Quota>, MetaError> {
        self.engine.records().quota(key).await
    }

    /// Sets limits. The first of a directory counts what lies below it; the volume begins to account by directories, or by users and
    /// groups, if it did not. Running clients keep them from their next heartbeat on.
    ///
    /// Errors: `NotFound` and `Invalid` for what is no directory or lies in the trash.
    pub async fn set_quota(&self, key: QuotaKey, limits: QuotaLimits) -> Result<Quota, MetaError> {
        transact(self.engine.as_ref(), &ops::SetQuota { at: self.name(), key, limits, log: &self.log, now: now() })
            .await
    }

    /// Removes limits; does nothing where there are none.
    pub async fn remove_quota(&self, key: QuotaKey) -> Result<(), MetaError> {
        transact(self.engine.as_ref(), &ops::RemoveQuota { at: self.name(), key, log: &self.log, now: now() }).await
    }

    /// Counts what quotas are charged with, which takes a walk over their names. Use that clients have still to write is missing in
    /// what is kept.
    pub async fn check_quotas(&self, scope: QuotaScope) -> Result<Vec<QuotaCheck>, MetaError> {
        ops::check_quotas(self.engine.records(), &self.settings().await?, scope).await
    }

    /// The same in one transaction, which writes what was counted where it differs. Gives what was found before.
    pub async fn repair_quotas(&self, scope: QuotaScope) -> Result<Vec<QuotaCheck>, MetaError> {
        transact(self.engine.as_ref(), &ops::RepairQuotas { at: self.name(), scope, log: &self.log, now: now() }).await
    }

    /// Says that the blocks of `ino` are in `tier` now. Errors: `NotFound`; `Invalid` for a tier the volume does not have.
    pub async fn set_tier(&self, ino: Ino, tier: u8) -> Result<(), MetaError> {
        let operation = ops::SetTier { at: self.name(), ino, tier, log: &self.log, now: now() };
        transact(self.engine.as_ref(), &operation).await
    }

    fn take(&self, kind: IdKind, n: u64) -> ops::TakeIds<'_> {
        ops::TakeIds { at: self.name(), log: &self.log, now: now(), kind, n }
    }

    /// Up to `limit` entries of the change log with a version above `after`, in order (spec section 20).
    pub async fn changes(&self, after: u64, limit: usize) -> Result<Vec<LoggedChange>, MetaError> {
        self.engine.records().changes(after, limit).await
    }

    /// The version of the change log's newest entry; 0 if it has none.
    pub async fn newest_change(&self) -> Result<u64, MetaError> {
        self.engine.records().newest_change().await
    }

    /// Takes `n` inode numbers for [`Meta::import`], 1 to 2^32. Those left unused are lost, which is normal.
    pub async fn alloc_inodes(&self, n: u64) -> Result<Range<u64>, MetaError> {
        transact(self.engine.as_ref(), &self.take(IdKind::Inode, n)).await
    }

    /// Takes `n` slice ids, 1 to 2^32, like [`Meta::alloc_inodes`].
    pub async fn alloc_slices(&self, n: u64) -> Result<Range<u64>, MetaError> {
        transact(self.engine.as_ref(), &self.take(IdKind::Slice, n)).await
    }

    /// The directory at `path` from the root, created with every directory above it where missing.
    ///
    /// `Invalid` where a component is no directory or the path holds `..`.
    pub async fn mkdir_p(&self, path: &[u8], how: MkdirP) -> Result<(Ino, Attr), MetaError> {
        transact(self.engine.as_ref(), &ops::CreatePath { at: self.name(), path, how, log: &self.log, now: now() })
            .await
    }

    /// Writes many new inodes and names in one transaction: dentries, attributes, targets, extended attributes, chunk
    /// lists, slice references, link counts, usage of directories, quotas and the volume.
    ///
    /// The blocks of every slice must be stored already. A batch of some thousand inodes is a good size: it holds the
    /// database's write lock until it is written. Errors: `Conflict` names a name that exists; `NotFound` a directory that
    /// does not; `NoSpace` a quota; `Invalid` what the format forbids; `Denied` a volume that obliges writers to more than
    /// this version maintains.
    pub async fn import(&self, batch: ImportBatch) -> Result<(), MetaError> {
        transact(self.engine.as_ref(), &ops::Import { at: self.name(), batch: &batch, log: &self.log, now: now() })
            .await
    }
}

fn now() -> Time {
    Time::since_epoch(clock::unix_now())
}
