//! Deleting the data of removed files: lists go, references are dropped, dead slices are found (spec sections 11 and 14).

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{DeletedFile, Txn};
use crate::error::MetaError;
use crate::record::SliceRef;

/// Chunk lists dropped in one transaction: 1 GiB of a file. A list has up to some thousand records, each with a reference.
const CHUNKS_PER_TXN: usize = 16;

/// What one step of a deletion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Slices that nothing names any more: their objects are to be deleted.
    pub(crate) dead: Vec<SliceRef>,
    /// Whether there may be more to drop.
    pub(crate) more: bool,
}

/// Drops some of a deleted file's chunk lists, and the record of the file with the last ones.
pub(crate) struct DropFileData {
    pub(crate) file: DeletedFile,
}

#[async_trait]
impl Change for DropFileData {
    type Output = Dropped;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Dropped, Effects), MetaError> {
        let lists = txn.take_chunks(&self.file, CHUNKS_PER_TXN).await?;
        for list in &lists {
            context.log(txn, || LogEntry::new("DELCHUNK").with(list.ino).with(list.index)).await?;
        }
        let records = lists.iter().flat_map(|list| &list.slices);
        let dead = txn.drop_slice_refs(&references(records.map(|record| (record.id, record.size)))).await?;
        let more = lists.len() == CHUNKS_PER_TXN;
        if !more {
            txn.remove_deleted_files(&[self.file]).await?;
        }
        Ok((Dropped { dead, more }, Effects::default()))
    }
}

/// How often each slice is named; holes name none.
fn references(slices: impl Iterator<Item = (u64, u32)>) -> Vec<SliceRef> {
    let mut counts: BTreeMap<(u64, u32), u32> = BTreeMap::new();
    for slice in slices.filter(|(id, _)| *id != 0) {
        *counts.entry(slice).or_default() += 1;
    }
    counts.into_iter().map(|((id, size), count)| SliceRef { id, size, count }).collect()
}

/// Drops the references of slices that waited for longer than the trash keeps.
pub(crate) struct DropDelayed {
    /// Records older than this, in seconds since 1970.
    pub(crate) before: i64,
}

/// Records of delayed slices dropped in one transaction.
const DELAYED_PER_TXN: usize = 10;

#[async_trait]
impl Change for DropDelayed {
    type Output = Dropped;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Dropped, Effects), MetaError> {
        let delayed = txn.delayed_before(self.before, DELAYED_PER_TXN).await?;
        for record in &delayed {
            if !txn.remove_delayed(record).await? {
                return Err(MetaError::Contended { at: "the slices that wait".to_owned() });
            }
            let entry = || LogEntry::new("CLEANUP_DELAYED_SLICES").with(record.id).with(record.at);
            context.log(txn, entry).await?;
        }
        let slices = delayed.iter().flat_map(|record| record.slices.iter().copied());
        let dead = txn.drop_slice_refs(&references(slices)).await?;
        Ok((Dropped { dead, more: delayed.len() == DELAYED_PER_TXN }, Effects::default()))
    }
}

/// Slices that nothing names and whose objects may still be there.
pub(crate) struct FindDead {
    pub(crate) limit: usize,
}

#[async_trait]
impl Change for FindDead {
    type Output = Vec<SliceRef>;

    async fn run(&self, txn: &dyn Txn, _context: &ChangeContext) -> Result<(Vec<SliceRef>, Effects), MetaError> {
        Ok((txn.dead_slices(self.limit).await?, Effects::default()))
    }
}

/// Forgets slices whose objects are deleted.
pub(crate) struct ForgetSlices<'a> {
    pub(crate) slices: &'a [SliceRef],
}

#[async_trait]
impl Change for ForgetSlices<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((), Effects), MetaError> {
        txn.forget_slices(self.slices).await?;
        for slice in self.slices {
            context.log(txn, || LogEntry::new("DELETESLICE").with(slice.id).with(slice.size)).await?;
        }
        Ok(((), Effects::default()))
    }
}
