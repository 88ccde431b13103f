//! Writes of chunk lists and slices.

use std::ops::ControlFlow;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{CHUNK_BYTES, Ino, SliceRecord};
use shoal_meta::{ChunkSlices, DataTxn, DelayedSlices, DeletedFile, MetaError, SliceRef};

use super::Overlaid;
use crate::chunks::WINDOW;
use crate::commit::number;
use crate::keys::{DELAYED, SLICE_REFS, parse_slice_field, slice_field};
use crate::overlay::Cell;
use crate::records::{Space, collect, decode_delayed};
use crate::view::{Care, View};

/// Chunks tried at once behind the end of a deleted file, which was longer once.
const BEYOND: u32 = 64;

fn elements(slices: &[SliceRecord]) -> Vec<Bytes> {
    slices.iter().map(|slice| Bytes::copy_from_slice(&slice.encode())).collect()
}

fn delayed_field(delayed: &DelayedSlices) -> Bytes {
    Bytes::from(format!("{}_{}", delayed.id, delayed.at))
}

impl Space<Overlaid> {
    /// Counts of slices as they are stored: one less than the true count, absent for one reference (spec section 11).
    async fn extra_refs(&self, refs: &[SliceRef]) -> Result<Vec<i64>, MetaError> {
        let fields: Vec<Bytes> = refs.iter().map(|slice| slice_field(slice.id, slice.size).into()).collect();
        let found = self.0.fields(&self.base().keys.single(SLICE_REFS), &fields, Care::Exact).await?;
        found.iter().map(|text| text.as_ref().map_or(Ok(0), |text| self.base().number(SLICE_REFS, text))).collect()
    }

    fn put_extra(&self, slice: &SliceRef, extra: i64) {
        let field = Bytes::from(slice_field(slice.id, slice.size));
        self.0.state().put(Cell::Field(self.base().keys.single(SLICE_REFS), field), number(extra));
    }

    /// Takes the lists of some chunks.
    async fn take(&self, ino: Ino, indexes: &[u32]) -> Result<Vec<ChunkSlices>, MetaError> {
        let lists = self.lists_of(ino, indexes).await?;
        let mut state = self.0.state();
        indexes.iter().for_each(|index| drop(state.lists.take(&self.base().keys.chunk(ino, *index))));
        Ok(lists)
    }
}

#[async_trait]
impl DataTxn for Space<Overlaid> {
    async fn append_slices(&self, chunks: &[ChunkSlices]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        for chunk in chunks {
            state.lists.append(self.base().keys.chunk(chunk.ino, chunk.index), elements(&chunk.slices));
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
        let key = self.base().keys.chunk(ino, index);
        self.0.know_lists(std::slice::from_ref(&key)).await?;
        Ok(self.0.state().lists.replace(&key, &elements(old), &elements(new)))
    }

    /// Which chunks have a list is not recorded: those within the length are tried, and those behind it as long as there are some in
    /// 4 GiB. The last ones go first, so that what is left is found as well. What lies behind a larger gap, of a file that was cut, is
    /// left to `juicefs gc`, as by real clients.
    async fn take_chunks(&self, file: &DeletedFile, limit: usize) -> Result<Vec<ChunkSlices>, MetaError> {
        let mut end = u32::try_from(file.length.div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX);
        while end < u32::MAX && !self.0.chunk_indexes(file.ino, end..end.saturating_add(BEYOND)).await?.is_empty() {
            end = end.saturating_add(BEYOND);
        }
        let mut indexes = Vec::new();
        while indexes.len() < limit && end > 0 {
            let start = end.saturating_sub(WINDOW);
            let mut found = self.0.chunk_indexes(file.ino, start..end).await?;
            indexes.extend(found.split_off(found.len().saturating_sub(limit - indexes.len())));
            end = start;
        }
        indexes.sort_unstable();
        self.take(file.ino, &indexes).await
    }

    /// A slice with one reference has no record here, so that it exists shows only in the lists that name it.
    async fn insert_slice_refs(&self, refs: &[SliceRef]) -> Result<(), MetaError> {
        refs.iter().filter(|slice| slice.count > 1).for_each(|slice| self.put_extra(slice, i64::from(slice.count) - 1));
        Ok(())
    }

    async fn add_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError> {
        let mut gone = Vec::new();
        for (slice, extra) in refs.iter().zip(self.extra_refs(refs).await?) {
            match extra {
                0.. => self.put_extra(slice, extra + i64::from(slice.count)),
                _ => gone.push(*slice),
            }
        }
        Ok(gone)
    }

    async fn drop_slice_refs(&self, refs: &[SliceRef]) -> Result<Vec<SliceRef>, MetaError> {
        let mut dead = Vec::new();
        for (slice, extra) in refs.iter().zip(self.extra_refs(refs).await?) {
            let left = extra - i64::from(slice.count);
            self.put_extra(slice, left);
            if left < 0 {
                dead.push(SliceRef { count: 0, ..*slice });
            }
        }
        Ok(dead)
    }

    async fn dead_slices(&self, limit: usize) -> Result<Vec<SliceRef>, MetaError> {
        let (mut dead, mut bad) = (Vec::new(), None);
        let key = self.base().keys.single(SLICE_REFS);
        self.0
            .scan(&key, Care::None, |field, extra| {
                if !extra.starts_with(b"-") {
                    return ControlFlow::Continue(());
                }
                match parse_slice_field(&field) {
                    Some((id, size)) => dead.push(SliceRef { id, size, count: 0 }),
                    None => bad = Some(field),
                }
                if dead.len() < limit && bad.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .await?;
        if let Some(field) = bad {
            return Err(self.base().damaged(format!("{SLICE_REFS} holds `{}`", field.escape_ascii())));
        }
        dead.sort_by_key(|slice| slice.id);
        Ok(dead)
    }

    async fn forget_slices(&self, slices: &[SliceRef]) -> Result<(), MetaError> {
        for (slice, extra) in slices.iter().zip(self.extra_refs(slices).await?) {
            if extra < 0 {
                let field = Bytes::from(slice_field(slice.id, slice.size));
                self.0.state().remove(Cell::Field(self.base().keys.single(SLICE_REFS), field));
            }
        }
        Ok(())
    }

    async fn insert_delayed(&self, delayed: &DelayedSlices) -> Result<(), MetaError> {
        let cell = Cell::Field(self.base().keys.single(DELAYED), delayed_field(delayed));
        self.0.state().put(cell, delayed.encode());
        Ok(())
    }

    async fn delayed_before(&self, before: i64, limit: usize) -> Result<Vec<DelayedSlices>, MetaError> {
        let (mut pairs, key) = (Vec::new(), self.base().keys.single(DELAYED));
        self.0.scan(&key, Care::None, |field, value| collect(&mut pairs, field, value)).await?;
        let all: Result<Vec<_>, _> =
            pairs.iter().map(|(field, value)| decode_delayed(self.base(), field, value)).collect();
        let mut old: Vec<DelayedSlices> = all?.into_iter().filter(|delayed| delayed.at < before).collect();
        old.sort_by_key(|delayed| (delayed.at, delayed.id));
        old.truncate(limit);
        Ok(old)
    }

    async fn remove_delayed(&self, delayed: &DelayedSlices) -> Result<bool, MetaError> {
        let (key, field) = (self.base().keys.single(DELAYED), delayed_field(delayed));
        let found = self.field(&key, field.clone(), Care::Exact).await?.is_some();
        if found {
            self.0.state().remove(Cell::Field(key, field));
        }
        Ok(found)
    }
}
