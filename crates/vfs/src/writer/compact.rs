//! Compaction of chunks that have become many records: in the background, beside readers and writers, until there are so many that
//! their writer has to wait (spec section 10).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use shoal_format::Ino;
use shoal_meta::{CompactPlan, Compacted, ListLength, SliceRef, plan_compaction};
use shoal_types::Ctx;
use tokio::sync::OnceCell;

use super::upload::StoreFailure;
use crate::chunk_map::ChunkMap;
use crate::error::VfsError;
use crate::vfs::Vfs;
use crate::write::SliceId;
use crate::writers::Writers;

/// Records, or pieces shown, from which on a chunk that is read is compacted.
const PIECES_MIN: usize = 5;
/// A chunk that is written to is compacted with each so many records it gets, as by real clients.
const RECORDS_LOOK: u32 = 100;
/// From so many records on, with every write to it.
const RECORDS_MANY: u32 = 350;
/// From so many records on, the write waits for it: no list may outgrow the 65,535 bytes that MySQL gives it, 2,730 records. Also
/// where real clients wait.
const RECORDS_WAIT: u32 = 2500;

/// True if a list that has just grown is to be compacted in the background.
fn is_long(list: &ListLength) -> bool {
    let before = list.records.saturating_sub(list.added);
    list.records > RECORDS_MANY || before / RECORDS_LOOK != list.records / RECORDS_LOOK
}

impl Vfs {
    /// Compacts a chunk that was just read, if `records` records are many and nobody here does so already.
    pub(crate) fn compact_if_many(&self, ino: Ino, index: u32, records: usize) {
        let Some(writers) = self.writers().filter(|_| records >= PIECES_MIN) else { return };
        let Some(turn) = Writers::try_compact(writers, ino, index) else { return };
        let (vfs, writers) = (self.clone(), Arc::clone(writers));
        self.spawn("compact", async move {
            if let Err(error) = vfs.compact_chunk(&writers, ino, index).await {
                tracing::warn!(%ino, index, error = &error as &dyn std::error::Error, "a chunk could not be compacted");
            }
            drop(turn);
        });
    }

    /// Compacts what has become long of `lists`; waits for those that must not grow on.
    pub(crate) async fn keep_short(&self, ino: Ino, lists: &[ListLength]) {
        for list in lists {
            if list.records >= RECORDS_WAIT {
                self.compact_now(ino, list.index, RECORDS_WAIT).await;
            } else if is_long(list) {
                self.compact_if_many(ino, list.index, list.records as usize);
            }
        }
    }

    /// Compacts a chunk once before it returns, if it has `records_min` records when its turn comes. A failure is logged.
    pub(super) async fn compact_now(&self, ino: Ino, index: u32, records_min: u32) {
        let Some(writers) = self.writers() else { return };
        let _turn = Writers::compact_turn(writers, ino, index).await;
        let shortened = async {
            if self.meta().slice_count(ino, index).await? >= records_min {
                self.compact_chunk(writers, ino, index).await?;
            }
            Ok::<_, VfsError>(())
        };
        if let Err(error) = shortened.await {
            tracing::warn!(%ino, index, error = &error as &dyn std::error::Error, "a long chunk could not be compacted");
        }
    }

    /// Compacts chunk `index` of a file now, if it is more than one slice; gives what was replaced. Waits while others are compacted.
    ///
    /// Errors: `NotFound` if the file is gone; `Denied` on a volume opened for reading; what reading the chunk and storing the new
    /// slice say.
    pub async fn compact(&self, ino: Ino, index: u32) -> Result<Option<CompactPlan>, VfsError> {
        let writers = self.writers_or_refuse()?;
        let _turn = Writers::compact_turn(writers, ino, index).await;
        self.compact_chunk(writers, ino, index).await
    }

    /// Compacts a chunk; gives what was replaced. Errors: what reading it, storing the new slice or recording it says; nothing has changed then.
    async fn compact_chunk(
        &self,
        writers: &Arc<Writers>,
        ino: Ino,
        index: u32,
    ) -> Result<Option<CompactPlan>, VfsError> {
        let records = self.meta().chunk(ino, index).await?;
        let Some(plan) = plan_compaction(&records) else { return Ok(None) };
        let map = ChunkMap::build(plan.replaced(), &self.block_names());
        let map = map.ok_or(VfsError::DamagedChunk { ino, index })?;
        let id = writers.session.new_slice().await?;
        let keys = self.block_names().keys(id, plan.size);
        let stored = self.store_compacted(writers, ino, &plan, &map, id).await;
        // What is replaced may be durable: so must be what replaces it.
        let durable = async { stored.and(Ok(writers.tiers.sync().await?)) };
        if let Err(error) = durable.await {
            self.delete_objects(writers, keys).await;
            return Err(error);
        }
        // Where this fails the exchange may have taken place all the same: in doubt the objects stay.
        match writers.session.compact(ino, index, &plan, id).await? {
            Compacted::Done(dead) => {
                self.metrics().chunks_compacted.add(1);
                if let Some(inode) = self.open_inode(ino) {
                    inode.forget_chunks();
                }
                self.delete_dead(writers, dead).await;
                Ok(Some(plan))
            }
            Compacted::TooLate => {
                self.delete_objects(writers, keys).await;
                Ok(None)
            }
        }
    }

    /// Stores slice `id`: what the replaced records show.
    async fn store_compacted(
        &self,
        writers: &Writers,
        ino: Ino,
        plan: &CompactPlan,
        map: &ChunkMap,
        id: u64,
    ) -> Result<(), VfsError> {
        let (slice, size) = (SliceId::new(OnceCell::new_with(Some(id))), self.block_size() as u32);
        let tier = self.meta().getattr(ino).await?.map_or(0, |attr| attr.tier);
        for block in 0..plan.size.div_ceil(size) {
            let start = plan.pos + block * size;
            let bytes = self.shown(ino, map, start, start + size.min(plan.size - block * size)).await?;
            let stored = self.store_block(writers, tier, &slice, block, &bytes).await;
            let failed = |error: StoreFailure| VfsError::Write {
                ino,
                kind: error.kind(),
                refusal: None,
                detail: error.to_string(),
            };
            stored.map_err(failed)?;
        }
        Ok(())
    }

    /// Bytes `start..end` of a chunk, without what is pending.
    async fn shown(&self, ino: Ino, map: &ChunkMap, start: u32, end: u32) -> Result<Bytes, VfsError> {
        let mut parts = Vec::new();
        map.parts(start, end, 0, &mut parts);
        let ctx = Ctx::foreground();
        let reads = parts.iter().map(|part| self.cache().read(&ctx, &part.block, part.range));
        let failed = |source| VfsError::Read { ino, offset: start.into(), source };
        let pieces = try_join_all(reads).await.map_err(failed)?;
        let mut bytes = BytesMut::zeroed((end - start) as usize);
        for (part, piece) in parts.iter().zip(pieces) {
            bytes[part.at..part.at + piece.len()].copy_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// Deletes the objects of slices that nothing names, then their records. What fails is found by the hourly job.
    async fn delete_dead(&self, writers: &Writers, dead: Vec<SliceRef>) {
        // After a loss of power no record may name what is deleted now.
        if dead.is_empty() || self.meta().sync().await.is_err() {
            return;
        }
        let mut deleted = Vec::new();
        for slice in dead {
            let keys = self.block_names().keys(slice.id, slice.size);
            let done = try_join_all(keys.iter().map(|key| writers.objects().delete(key))).await;
            match done {
                Ok(_) => deleted.push(slice),
                Err(error) => tracing::debug!(slice = slice.id, %error, "objects nobody needs stay for now"),
            }
        }
        if let Err(error) = writers.session.forget_slices(&deleted).await {
            tracing::debug!(%error, "records of deleted slices stay for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_looked_at_with_each_hundred_records_and_then_always() {
        let long = |records, added| is_long(&ListLength { index: 0, records, added });
        assert!(!long(1, 1) && !long(99, 99) && long(100, 1) && !long(101, 1) && long(101, 2));
        assert!(!long(350, 1) && long(351, 1) && long(2499, 1));
    }
}
