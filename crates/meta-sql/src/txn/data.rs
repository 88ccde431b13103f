//! Writes of chunk lists and slices.

use async_trait::async_trait;
use shoal_format::{Ino, SliceRecord};
use shoal_meta::{ChunkSlices, DataTxn, DelayedSlices, DeletedFile, MetaError, SliceRef};

use crate::args::Args;
use crate::driver::Driver;
use crate::failure::damaged;
use crate::link::TxnLink;
use crate::meaning::{Meaning, plain};
use crate::row::Columns;
use crate::session::Session;

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn slice_ref<D: Driver>(row: Columns<'_, D>) -> Result<SliceRef, MetaError> {
    Ok(SliceRef { id: row.number(0, "chunkid")?, size: row.number(1, "size")?, count: 0 })
}

fn delayed<D: Driver>(row: Columns<'_, D>) -> Result<DelayedSlices, MetaError> {
    let slices = DelayedSlices::decode(&row.bytes(2)?);
    let slices = slices.ok_or_else(|| damaged(row.at, "a list of delayed slices holds a part of one"))?;
    Ok(DelayedSlices { id: row.number(0, "chunkid")?, at: row.int(1)?, slices })
}

#[async_trait]
impl<L: TxnLink> DataTxn for Session<L> {
    async fn append_slices(&self, chunks: &[ChunkSlices]) -> Result<(), MetaError> {
        fn bind<'r>(args: &mut Args<'r>, chunk: &'r ChunkSlices) {
            args.put_u64(chunk.ino.0);
            args.put(i64::from(chunk.index));
            args.put(SliceRecord::encode_list(&chunk.slices));
        }
        self.insert(&self.sql.append_slices, chunks, bind, plain).await.map_err(|failed| self.failed(failed.error))
    }

    async fn replace_slices(
        &self,
        ino: Ino,
        index: u32,
        old: &[SliceRecord],
        new: &[SliceRecord],
    ) -> Result<bool, MetaError> {
        let args = Args::default().ino(ino).with(i64::from(index));
        let list = self.row(&self.sql.slices_locked, args, |row| row.slices(0)).await?.unwrap_or_default();
        let Some(rest) = list.strip_prefix(old) else { return Ok(false) };
        let bytes = SliceRecord::encode_list(&[new, rest].concat());
        let args = Args::default().with(bytes).ino(ino).with(i64::from(index));
        Ok(self.execute(&self.sql.put_slices, args).await? == 1)
    }

    async fn take_chunks(&self, file: &DeletedFile, limit: usize) -> Result<Vec<ChunkSlices>, MetaError> {
        let ino = file.ino;
        let args = Args::default().ino(ino).with(count(limit));
        let decode = |row: Columns<'_, L::Driver>| {
            Ok(ChunkSlices { ino, index: row.number(0, "indx")?, slices: row.slices(1)? })
        };
        let taken = self.rows(&self.sql.chunks_locked, args, decode).await?;
        if let (Some(first), Some(last)) = (taken.first(), taken.last()) {
            let args = Args::default().ino(ino).with(i64::from(first.index)).with(i64::from(last.index));
            self.write(&self.sql.delete_chunks, args).await?;
        }
        Ok(taken)
    }

    async fn insert_slice_refs(&self, refs: &[SliceRef]) -> Result<(), MetaError> {
        fn bind<'r>(args: &mut Args<'r>, slice: &'r SliceRef) {
            args.put_u64(slice.id);
            args.put(i64::from(slice.size));
            args.put(i64::from(slice.count));
        }
        match self.insert(&self.sql.insert_slice_refs, refs, bind, |slice| Meaning::Slice(slice.id)).await {
            Err(failed) if failed.error.is_unique_violation() => {
                let (first, last) = (failed.rows.first().map_or(0, |r| r.id), failed.rows.last().map_or(0, |r| r.id));
                let what = match failed.error.taken_key() {
                    Some(id) => format!("slice {id}"),
                    None => format!("a slice in {first}..={last}"),
                };
                Err(MetaError::Taken { what })
            }
            other => other.map_err(|failed| self.failed(failed.error)),
        }
    }

    async fn add_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError> {
        let mut gone = Vec::new();
        for slice in refs {
            let args = Args::default().with(i64::from(slice.count)).id(slice.id);
            if self.execute(&self.sql.add_slice_refs, args).await? == 0 {
                gone.push(*slice);
            }
        }
        Ok(gone)
    }

    async fn drop_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError> {
        let mut dead = Vec::new();
        for slice in refs {
            let args = Args::default().with(-i64::from(slice.count)).id(slice.id);
            if self.execute(&self.sql.drop_slice_refs, args).await? == 0 {
                continue;
            }
            let left = self.row(&self.sql.slice_refs, Args::default().id(slice.id), |row| row.int(0)).await?;
            if left.is_some_and(|left| left <= 0) {
                dead.push(SliceRef { count: 0, ..*slice });
            }
        }
        Ok(dead)
    }

    async fn dead_slices(&self, limit: usize) -> Result<Vec<SliceRef>, MetaError> {
        self.rows(&self.sql.dead_slices, Args::default().with(count(limit)), slice_ref).await
    }

    async fn forget_slices(&self, slices: &[SliceRef]) -> Result<(), MetaError> {
        for slice in slices {
            self.write(&self.sql.forget_slice, Args::default().id(slice.id)).await?;
        }
        Ok(())
    }

    async fn insert_delayed(&self, delayed: &DelayedSlices) -> Result<(), MetaError> {
        let args = Args::default().id(delayed.id).with(delayed.at).with(delayed.encode());
        self.write(&self.sql.insert_delayed, args).await
    }

    async fn delayed_before(&self, before: i64, limit: usize) -> Result<Vec<DelayedSlices>, MetaError> {
        self.rows(&self.sql.delayed_before, Args::default().with(before).with(count(limit)), delayed).await
    }

    async fn remove_delayed(&self, delayed: &DelayedSlices) -> Result<bool, MetaError> {
        Ok(self.execute(&self.sql.remove_delayed, Args::default().id(delayed.id)).await? == 1)
    }
}
