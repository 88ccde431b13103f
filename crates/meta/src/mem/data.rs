//! Writes of chunk lists and slices.

use async_trait::async_trait;
use shoal_format::{Ino, SliceRecord};

use super::txn::MemTxn;
use crate::engine::{DataTxn, DeletedFile};
use crate::error::MetaError;
use crate::record::{ChunkSlices, DelayedSlices, SliceRef};

#[async_trait]
impl DataTxn for MemTxn {
    async fn append_slices(&self, chunks: &[ChunkSlices]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for chunk in chunks {
            state.chunks.entry((chunk.ino, chunk.index)).or_default().extend(&chunk.slices);
        }
        Ok(())
    }

    async fn replace_slices(
        &self,
        ino: Ino,
        index: u32,
        old: &[SliceRecord],
        new: &[SliceRecord],
    ) -> Result<bool, MetaError> {
        let mut state = self.state.lock();
        let Some(list) = state.chunks.get_mut(&(ino, index)) else { return Ok(false) };
        let same = list.starts_with(old);
        if same {
            list.splice(..old.len(), new.iter().copied());
        }
        Ok(same)
    }

    async fn take_chunks(&self, file: &DeletedFile, limit: usize) -> Result<Vec<ChunkSlices>, MetaError> {
        let (mut state, ino) = (self.state.lock(), file.ino);
        let lists = state.chunks.range((ino, 0)..=(ino, u32::MAX));
        let indexes: Vec<u32> = lists.map(|((_, index), _)| *index).take(limit).collect();
        let take = |index| Some(ChunkSlices { ino, index, slices: state.chunks.remove(&(ino, index))? });
        Ok(indexes.into_iter().filter_map(take).collect())
    }

    async fn insert_slice_refs(&self, refs: &[SliceRef]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for slice in refs {
            if state.slices.insert(slice.id, slice.size).is_some() {
                return Err(MetaError::Taken { what: format!("slice {}", slice.id) });
            }
            if slice.count > 1 {
                state.extra_refs.insert((slice.id, slice.size), i64::from(slice.count) - 1);
            }
        }
        Ok(())
    }

    async fn add_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError> {
        let mut state = self.state.lock();
        let mut gone = Vec::new();
        for slice in refs {
            let extra = state.extra_refs.get(&(slice.id, slice.size)).copied().unwrap_or(0);
            if extra < 0 || !state.slices.contains_key(&slice.id) {
                gone.push(*slice);
            } else {
                state.extra_refs.insert((slice.id, slice.size), extra + i64::from(slice.count));
            }
        }
        Ok(gone)
    }

    async fn drop_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError> {
        let mut state = self.state.lock();
        let mut dead = Vec::new();
        for slice in refs {
            let extra = state.extra_refs.entry((slice.id, slice.size)).or_default();
            *extra -= i64::from(slice.count);
            if *extra < 0 {
                dead.push(SliceRef { count: 0, ..*slice });
            }
        }
        Ok(dead)
    }

    async fn dead_slices(&self, limit: usize) -> Result<Vec<SliceRef>, MetaError> {
        let state = self.state.lock();
        let dead = state.extra_refs.iter().filter(|(_, extra)| **extra < 0).take(limit);
        Ok(dead.map(|((id, size), _)| SliceRef { id: *id, size: *size, count: 0 }).collect())
    }

    async fn forget_slices(&self, slices: &[SliceRef]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for slice in slices {
            if state.extra_refs.get(&(slice.id, slice.size)).is_some_and(|extra| *extra < 0) {
                state.extra_refs.remove(&(slice.id, slice.size));
                state.slices.remove(&slice.id);
            }
        }
        Ok(())
    }

    async fn insert_delayed(&self, delayed: &DelayedSlices) -> Result<(), MetaError> {
        self.state.lock().delayed.insert((delayed.at, delayed.id), delayed.slices.clone());
        Ok(())
    }

    async fn delayed_before(&self, before: i64, limit: usize) -> Result<Vec<DelayedSlices>, MetaError> {
        let state = self.state.lock();
        let older = state.delayed.range(..(before, 0)).take(limit);
        Ok(older.map(|((at, id), slices)| DelayedSlices { id: *id, at: *at, slices: slices.clone() }).collect())
    }

    async fn remove_delayed(&self, delayed: &DelayedSlices) -> Result<bool, MetaError> {
        Ok(self.state.lock().delayed.remove(&(delayed.at, delayed.id)).is_some())
    }
}
