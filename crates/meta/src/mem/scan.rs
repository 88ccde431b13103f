//! Reads of whole tables. A page begins at a number of records: where others come or go meanwhile, some may be missed.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino};

use super::state::State;
use super::view::View;
use crate::engine::{DeletedFile, ScanPage, ScanRecords, Serial};
use crate::error::MetaError;
use crate::record::{ChunkSlices, DelayedSlices, DirUsage, NewDentry, SliceRef, Xattr};

/// A page of what `all` gives of the state.
fn page<V: View, T>(
    view: &V,
    from: &[u8],
    limit: usize,
    all: impl for<'s> FnOnce(&'s State) -> Box<dyn Iterator<Item = T> + 's>,
) -> Result<ScanPage<T>, MetaError> {
    let start = from.first_chunk().map_or(0, |place| u64::from_be_bytes(*place));
    view.read(|state| {
        let mut later = all(state).skip(start as usize);
        let records: Vec<T> = later.by_ref().take(limit).collect();
        let next = start + records.len() as u64;
        let more = later.next().is_some();
        drop(later);
        ScanPage { records, next: more.then(|| Bytes::copy_from_slice(&next.to_be_bytes())) }
    })
}

#[async_trait]
impl<V: View> ScanRecords for V {
    async fn scan_attrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Attr)>, MetaError> {
        page(self, from, limit, |state| Box::new(state.attrs.iter().map(|(ino, attr)| (*ino, attr.clone()))))
    }

    async fn scan_dentries(&self, from: &[u8], limit: usize) -> Result<ScanPage<NewDentry>, MetaError> {
        page(self, from, limit, |state| {
            let dentries = state.dentries.iter();
            Box::new(dentries.map(|((parent, name), dentry)| NewDentry {
                parent: *parent,
                name: name.clone(),
                dentry: *dentry,
            }))
        })
    }

    async fn scan_chunks(&self, from: &[u8], limit: usize) -> Result<ScanPage<ChunkSlices>, MetaError> {
        page(self, from, limit, |state| {
            let lists = state.chunks.iter();
            Box::new(lists.map(|((ino, index), slices)| ChunkSlices {
                ino: *ino,
                index: *index,
                slices: slices.clone(),
            }))
        })
    }

    async fn scan_symlinks(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Bytes)>, MetaError> {
        page(self, from, limit, |state| Box::new(state.symlinks.iter().map(|(ino, target)| (*ino, target.clone()))))
    }

    async fn scan_xattrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<Xattr>, MetaError> {
        page(self, from, limit, |state| {
            let all = state.xattrs.iter();
            Box::new(all.map(|((ino, name), value)| Xattr { ino: *ino, name: name.clone(), value: value.clone() }))
        })
    }

    async fn scan_slice_refs(&self, from: &[u8], limit: usize) -> Result<ScanPage<SliceRef>, MetaError> {
        page(self, from, limit, |state| {
            let counted = state.extra_refs.iter();
            Box::new(counted.map(|((id, size), extra)| SliceRef {
                id: *id,
                size: *size,
                count: u32::try_from(*extra + 1).unwrap_or(0),
            }))
        })
    }

    async fn scan_delayed(&self, from: &[u8], limit: usize) -> Result<ScanPage<DelayedSlices>, MetaError> {
        page(self, from, limit, |state| {
            let delayed = state.delayed.iter();
            Box::new(delayed.map(|((at, id), slices)| DelayedSlices { id: *id, at: *at, slices: slices.clone() }))
        })
    }

    async fn scan_deleted_files(&self, from: &[u8], limit: usize) -> Result<ScanPage<DeletedFile>, MetaError> {
        page(self, from, limit, |state| {
            let files = state.deleted_files.iter();
            Box::new(files.map(|(ino, (length, removed))| DeletedFile {
                ino: *ino,
                length: *length,
                removed: *removed,
            }))
        })
    }

    async fn scan_sustained(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u64, Ino)>, MetaError> {
        page(self, from, limit, |state| Box::new(state.sustained.iter().copied()))
    }

    async fn scan_dir_usage(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, DirUsage)>, MetaError> {
        page(self, from, limit, |state| Box::new(state.usage.iter().map(|(dir, usage)| (*dir, *usage))))
    }

    async fn scan_acls(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u32, AclRule)>, MetaError> {
        page(self, from, limit, |state| Box::new(state.acls.iter().map(|(id, rule)| (*id, rule.clone()))))
    }

    async fn last_serial(&self, serial: Serial) -> Result<u64, MetaError> {
        self.read(|state| state.serials.get(&serial).copied().unwrap_or(0))
    }

    async fn symlinks_of(&self, inos: &[Ino]) -> Result<Vec<(Ino, Bytes)>, MetaError> {
        self.read(|state| inos.iter().filter_map(|ino| Some((*ino, state.symlinks.get(ino)?.clone()))).collect())
    }

    async fn xattrs_of(&self, inos: &[Ino]) -> Result<Vec<Xattr>, MetaError> {
        self.read(|state| {
            let inos: BTreeSet<&Ino> = inos.iter().collect();
            let of = |ino: Ino| state.xattrs.range((ino, Bytes::new())..).take_while(move |((of, _), _)| *of == ino);
            let found = inos.into_iter().flat_map(|ino| of(*ino));
            found.map(|((ino, name), value)| Xattr { ino: *ino, name: name.clone(), value: value.clone() }).collect()
        })
    }

    async fn chunks_of(&self, inos: &[Ino]) -> Result<Vec<ChunkSlices>, MetaError> {
        self.read(|state| {
            let inos: BTreeSet<&Ino> = inos.iter().collect();
            let lists = inos.into_iter().flat_map(|ino| state.chunks.range((*ino, 0)..=(*ino, u32::MAX)));
            lists
                .map(|((ino, index), slices)| ChunkSlices { ino: *ino, index: *index, slices: slices.clone() })
                .collect()
        })
    }
}
