//! Reads, of the committed state or of a transaction's.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use shoal_format::{AclRule, Attr, Ino, SliceRecord};

use super::NAME;
use super::state::{State, first_id};
use crate::engine::Records;
use crate::error::MetaError;
use crate::record::{ChunkSlices, Counter, DirEntry, DirUsage, Entry, IdKind, ParentCount};

/// The committed state; clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Committed(pub(super) Arc<RwLock<Arc<State>>>);

/// Gives the state to read from.
pub(super) trait View: Send + Sync {
    fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T;

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, MetaError> {
        self.with(
            |state| {
                if state.has_schema { Ok(read(state)) } else { Err(MetaError::NoVolume { at: NAME.to_owned() }) }
            },
        )
    }
}

impl View for Committed {
    fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let state = self.0.read().clone();
        read(&state)
    }
}

#[async_trait]
impl<V: View> Records for V {
    async fn setting(&self) -> Result<Option<String>, MetaError> {
        Ok(self.with(|state| state.setting.clone()))
    }

    async fn counter(&self, counter: Counter) -> Result<i64, MetaError> {
        self.read(|state| state.counters.get(&counter).copied().unwrap_or(0))
    }

    async fn next_id(&self, kind: IdKind) -> Result<u64, MetaError> {
        self.read(|state| state.next_ids.get(&kind).copied().unwrap_or_else(|| first_id(kind)))
    }

    async fn attr(&self, ino: Ino) -> Result<Option<Attr>, MetaError> {
        self.read(|state| state.attrs.get(&ino).cloned())
    }

    async fn attrs(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        self.read(|state| inos.iter().map(|ino| state.attrs.get(ino).cloned()).collect())
    }

    async fn entry(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>, MetaError> {
        self.read(|state| {
            let dentry = *state.dentries.get(&(parent, Bytes::copy_from_slice(name)))?;
            Some(Entry { dentry, attr: state.attrs.get(&dentry.ino).cloned() })
        })
    }

    async fn entries(&self, dir: Ino, after: &[u8], limit: usize) -> Result<Vec<DirEntry>, MetaError> {
        let after = (dir, Bytes::copy_from_slice(after));
        self.read(|state| {
            let later = state.dentries.range(after.clone()..).filter(|(key, _)| **key != after);
            let here = later.take_while(|((parent, _), _)| *parent == dir).take(limit);
            here.map(|((_, name), dentry)| DirEntry {
                name: name.clone(),
                ino: dentry.ino,
                kind: dentry.kind,
                attr: state.attrs.get(&dentry.ino).cloned(),
            })
            .collect()
        })
    }

    async fn symlink(&self, ino: Ino) -> Result<Option<Bytes>, MetaError> {
        self.read(|state| state.symlinks.get(&ino).cloned())
    }

    async fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.read(|state| state.xattrs.get(&(ino, Bytes::copy_from_slice(name))).cloned())
    }

    async fn xattr_names(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
        self.read(|state| {
            let later = state.xattrs.range((ino, Bytes::new())..);
            later.take_while(|((of, _), _)| *of == ino).map(|((_, name), _)| name.clone()).collect()
        })
    }

    async fn slices(&self, ino: Ino, index: u32) -> Result<Vec<SliceRecord>, MetaError> {
        self.read(|state| state.chunks.get(&(ino, index)).cloned().unwrap_or_default())
    }

    async fn chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<ChunkSlices>, MetaError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.read(|state| {
            let lists = state.chunks.range((ino, range.start)..(ino, range.end));
            lists.map(|((_, index), slices)| ChunkSlices { ino, index: *index, slices: slices.clone() }).collect()
        })
    }

    async fn acl(&self, id: u32) -> Result<Option<AclRule>, MetaError> {
        self.read(|state| state.acls.get(&id).cloned())
    }

    async fn acls(&self, after: u32) -> Result<Vec<(u32, AclRule)>, MetaError> {
        self.read(|state| {
            state.acls.iter().filter(|(id, _)| **id > after).map(|(id, rule)| (*id, rule.clone())).collect()
        })
    }

    async fn dir_usage(&self, dir: Ino) -> Result<Option<DirUsage>, MetaError> {
        self.read(|state| state.usage.get(&dir).copied())
    }

    async fn parents(&self, ino: Ino) -> Result<Vec<ParentCount>, MetaError> {
        self.read(|state| {
            let records = state.parents.range((ino, Ino::NONE)..).take_while(|((of, _), _)| *of == ino);
            let records = records.filter(|(_, count)| **count > 0);
            records.map(|((_, parent), count)| ParentCount { ino, parent: *parent, count: *count }).collect()
        })
    }
}
