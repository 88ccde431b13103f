//! What the reader of a dump hands to its writer.

use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino, Settings};

use crate::engine::DeletedFile;
use crate::quota::Quota;
use crate::record::{ChunkSlices, DirUsage, NewDentry, ParentCount, SliceRef, Xattr};

/// Records of some inodes, to be written in one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) attrs: Vec<(Ino, Attr)>,
    pub(super) dentries: Vec<NewDentry>,
    pub(super) symlinks: Vec<(Ino, Bytes)>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) chunks: Vec<ChunkSlices>,
    /// Slices that no batch before named, and those that one did.
    pub(super) new_slices: Vec<SliceRef>,
    pub(super) more_refs: Vec<SliceRef>,
    /// Further names of files that a batch before, or this one, has.
    pub(super) parents: Vec<ParentCount>,
    pub(super) usage: Vec<(Ino, DirUsage)>,
    pub(super) deleted_files: Vec<DeletedFile>,
    /// Removed files that sessions of the dumped volume held open.
    pub(super) sustained: Vec<(u64, Ino)>,
    /// Slice records, which may be many of one file.
    pub(super) records: usize,
}

impl Batch {
    /// Most records of each kind, and most slice records, of a batch.
    const RECORDS_OF_A_KIND_MAX: usize = 2000;
    const RECORDS_MAX: usize = 50_000;

    pub(super) fn is_full(&self) -> bool {
        let kinds = [
            self.attrs.len(),
            self.dentries.len(),
            self.symlinks.len(),
            self.xattrs.len(),
            self.parents.len(),
            self.usage.len(),
            self.deleted_files.len(),
            self.sustained.len(),
        ];
        kinds.iter().any(|count| *count >= Batch::RECORDS_OF_A_KIND_MAX) || self.records >= Batch::RECORDS_MAX
    }
}

/// What is known only when all of the dump was read.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// The lowest numbers that nothing loaded has, and that were never given out before.
    pub(super) next_inode: u64,
    pub(super) next_slice: u64,
    pub(super) last_trash: u64,
    /// Use of the volume.
    pub(super) space: i64,
    pub(super) inodes: i64,
    /// Files with several names, and how many.
    pub(super) linked: Vec<(Ino, u32)>,
    pub(super) acls: Vec<(u32, AclRule)>,
    pub(super) quotas: Vec<Quota>,
}

/// What the reader found, in order: the setting, batches, the end.
#[derive(Debug)]
pub(super) enum Found {
    Settings(Box<Settings>),
    Batch(Batch),
    End(Totals),
}
