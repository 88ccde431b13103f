//! A metadata database in memory, for tests: the key-value convention for parents and references, real transactions.
//!
//! One writer at a time, as SQLite; readers see the last committed state. A transaction works on a copy of everything,
//! which is fine for the thousands of inodes of a test and for nothing else.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use shoal_format::{AclRule, Attr, Dentry, Ino, SliceRecord};
use tokio::sync::OwnedMutexGuard;

use crate::engine::{Engine, Records, Txn};
use crate::error::MetaError;
use crate::record::{
    ChunkSlices, Counter, DirEntry, DirQuota, DirUsage, Entry, IdKind, NewDentry, ParentCount, SliceRef, Xattr,
};

const NAME: &str = "mem://";

#[derive(Debug, Clone, Default)]
struct State {
    has_schema: bool,
    setting: Option<String>,
    counters: BTreeMap<Counter, i64>,
    next_ids: BTreeMap<IdKind, u64>,
    attrs: BTreeMap<Ino, Attr>,
    dentries: BTreeMap<(Ino, Bytes), Dentry>,
    symlinks: BTreeMap<Ino, Bytes>,
    xattrs: BTreeMap<(Ino, Bytes), Bytes>,
    chunks: BTreeMap<(Ino, u32), Vec<SliceRecord>>,
    /// True count − 1, absent for one reference: the key-value convention (spec section 11).
    extra_refs: BTreeMap<(u64, u32), i64>,
    slices: BTreeMap<u64, u32>,
    parents: BTreeMap<(Ino, Ino), i64>,
    usage: BTreeMap<Ino, DirUsage>,
    quotas: BTreeMap<Ino, DirQuota>,
    acls: BTreeMap<u32, AclRule>,
}

/// A database in memory. Clones of the `Arc` share it.
#[derive(Debug, Default)]
pub struct MemEngine {
    records: Committed,
    writer: Arc<tokio::sync::Mutex<()>>,
    failing_commits: Arc<AtomicU32>,
}

#[derive(Debug, Clone, Default)]
struct Committed(Arc<RwLock<Arc<State>>>);

impl MemEngine {
    /// An empty database, without a volume.
    pub fn new() -> Arc<MemEngine> {
        Arc::new(MemEngine::default())
    }

    /// Lets the next `n` commits fail as contended, as an optimistic database does.
    pub fn fail_commits(&self, n: u32) {
        self.failing_commits.store(n, Ordering::Relaxed);
    }

    /// Sets a quota on a directory, which no operation does yet.
    pub fn set_quota(&self, quota: DirQuota) {
        let mut state = self.records.0.write();
        Arc::make_mut(&mut state).quotas.insert(quota.ino, quota);
    }

    /// Stores an ACL rule, which no operation does yet.
    pub fn set_acl(&self, id: u32, rule: AclRule) {
        let mut state = self.records.0.write();
        Arc::make_mut(&mut state).acls.insert(id, rule);
    }
}

#[async_trait]
impl Engine for MemEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn records(&self) -> &dyn Records {
        &self.records
    }

    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError> {
        let turn = self.writer.clone().lock_owned().await;
        let state = Mutex::new(State::clone(&self.records.0.read()));
        let failing_commits = self.failing_commits.clone();
        Ok(Box::new(MemTxn { state, committed: self.records.clone(), failing_commits, _turn: turn }))
    }

    async fn close(&self) {}
}

struct MemTxn {
    state: Mutex<State>,
    committed: Committed,
    failing_commits: Arc<AtomicU32>,
    _turn: OwnedMutexGuard<()>,
}

/// Gives the state to read from.
trait View: Send + Sync {
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

impl View for MemTxn {
    fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock())
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

    async fn dir_usage(&self, dir: Ino) -> Result<Option<DirUsage>, MetaError> {
        self.read(|state| state.usage.get(&dir).copied())
    }

    async fn dir_quotas(&self) -> Result<Vec<DirQuota>, MetaError> {
        self.read(|state| state.quotas.values().copied().collect())
    }

    async fn parents(&self, ino: Ino) -> Result<Vec<ParentCount>, MetaError> {
        self.read(|state| {
            let records = state.parents.range((ino, Ino::NONE)..).take_while(|((of, _), _)| *of == ino);
            records.map(|((_, parent), count)| ParentCount { ino, parent: *parent, count: *count }).collect()
        })
    }
}

fn first_id(kind: IdKind) -> u64 {
    match kind {
        IdKind::Inode => 2,
        IdKind::Slice => 1,
    }
}

#[async_trait]
impl Txn for MemTxn {
    async fn create_schema(&self) -> Result<(), MetaError> {
        self.state.lock().has_schema = true;
        Ok(())
    }

    async fn put_setting(&self, json: &str) -> Result<(), MetaError> {
        self.state.lock().setting = Some(json.to_owned());
        Ok(())
    }

    async fn take_ids(&self, kind: IdKind, n: u64) -> Result<Range<u64>, MetaError> {
        self.next_id(kind).await?;
        let mut state = self.state.lock();
        let next = state.next_ids.entry(kind).or_insert_with(|| first_id(kind));
        let first = *next;
        *next += n;
        Ok(first..*next)
    }

    async fn add_counter(&self, counter: Counter, delta: i64) -> Result<(), MetaError> {
        *self.state.lock().counters.entry(counter).or_default() += delta;
        Ok(())
    }

    async fn insert_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for (ino, attr) in attrs {
            if state.attrs.insert(*ino, attr.clone()).is_some() {
                return Err(MetaError::Taken { what: format!("inode {ino}") });
            }
        }
        Ok(())
    }

    async fn update_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        self.state.lock().attrs.extend(attrs.iter().cloned());
        Ok(())
    }

    async fn insert_dentries(&self, dentries: &[NewDentry]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for new in dentries {
            if state.dentries.insert((new.parent, new.name.clone()), new.dentry).is_some() {
                return Err(MetaError::exists(new.parent, &new.name));
            }
        }
        Ok(())
    }

    async fn insert_symlinks(&self, links: &[(Ino, Bytes)]) -> Result<(), MetaError> {
        self.state.lock().symlinks.extend(links.iter().cloned());
        Ok(())
    }

    async fn put_xattrs(&self, xattrs: &[Xattr]) -> Result<(), MetaError> {
        let pairs = xattrs.iter().map(|xattr| ((xattr.ino, xattr.name.clone()), xattr.value.clone()));
        self.state.lock().xattrs.extend(pairs);
        Ok(())
    }

    async fn append_slices(&self, chunks: &[ChunkSlices]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for chunk in chunks {
            state.chunks.entry((chunk.ino, chunk.index)).or_default().extend(&chunk.slices);
        }
        Ok(())
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

    async fn add_parents(&self, parents: &[ParentCount]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for record in parents {
            *state.parents.entry((record.ino, record.parent)).or_default() += record.count;
        }
        Ok(())
    }

    async fn put_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
        self.state.lock().usage.extend(usage.iter().copied());
        Ok(())
    }

    async fn add_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<Vec<Ino>, MetaError> {
        let mut state = self.state.lock();
        let mut unknown = Vec::new();
        for (dir, more) in usage {
            match state.usage.get_mut(dir) {
                Some(known) => known.add(*more),
                None => unknown.push(*dir),
            }
        }
        Ok(unknown)
    }

    async fn add_quota_usage(&self, dir: Ino, space: i64, inodes: i64) -> Result<(), MetaError> {
        if let Some(quota) = self.state.lock().quotas.get_mut(&dir) {
            quota.used_space += space;
            quota.used_inodes += inodes;
        }
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), MetaError> {
        let failing = self.failing_commits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if failing.is_ok() {
            return Err(MetaError::Contended { at: NAME.to_owned() });
        }
        *self.committed.0.write() = Arc::new(self.state.into_inner());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use shoal_format::{AclRule, FileType, Ino};
    use shoal_types::ErrorKind;

    use super::*;
    use crate::meta::Meta;
    use crate::testing::sample::{BatchBuilder, attr, settings};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_conforms() {
        crate::testing::conformance(|| async { MemEngine::new() as Arc<dyn Engine> }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn contended_commits_are_tried_again_but_not_for_ever() {
        let engine = MemEngine::new();
        let meta = Meta::new(engine.clone());
        meta.init(&settings(), false).await.unwrap();
        engine.fail_commits(10);
        assert_eq!(meta.alloc_inodes(5).await.unwrap(), 2..7);
        engine.fail_commits(1000);
        assert_eq!(meta.alloc_inodes(5).await.unwrap_err().kind(), ErrorKind::Unavailable);
        engine.fail_commits(0);
        assert_eq!(meta.alloc_inodes(5).await.unwrap(), 7..12);
    }

    #[tokio::test]
    async fn quotas_of_every_ancestor_are_charged_and_kept() {
        let engine = MemEngine::new();
        let meta = Meta::new(engine.clone());
        meta.init(&settings(), false).await.unwrap();
        let (a, _) = meta.mkdir_p(b"/a", Default::default()).await.unwrap();
        let (b, _) = meta.mkdir_p(b"/a/b", Default::default()).await.unwrap();
        let quota = |ino, max_space, max_inodes| DirQuota { ino, max_space, max_inodes, used_space: 0, used_inodes: 0 };
        engine.set_quota(quota(a, 1 << 20, -1));
        engine.set_quota(quota(b, -1, 3));
        let f = meta.alloc_inodes(9).await.unwrap().start;
        let batch = BatchBuilder::new().dir(b.0, b"c", f).file(f, b"x", f + 1, 5000).file(a.0, b"y", f + 2, 1);
        meta.import(batch.build()).await.unwrap();
        let used = engine.records().dir_quotas().await.unwrap();
        assert_eq!((used[0].used_space, used[0].used_inodes), (4096 + 8192 + 4096, 3));
        assert_eq!((used[1].used_space, used[1].used_inodes), (4096 + 8192, 2));

        let big = BatchBuilder::new().file(f, b"big", f + 3, 1 << 20).build();
        assert_eq!(meta.import(big).await.unwrap_err().kind(), ErrorKind::NoSpace);
        let many = BatchBuilder::new().file(f, b"1", f + 3, 0).file(f, b"2", f + 4, 0).build();
        let error = meta.import(many).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the quota of 3 inodes on directory {b} is exceeded"));
    }

    #[tokio::test]
    async fn acl_rules_show_as_extended_attributes() {
        let engine = MemEngine::new();
        let meta = Meta::new(engine.clone());
        meta.init(&settings(), false).await.unwrap();
        let rule = AclRule { owner: Some(7), mask: Some(5), ..AclRule::default() };
        engine.set_acl(3, rule.clone());
        let f = meta.alloc_inodes(2).await.unwrap().start;
        let mut with_rule = attr(FileType::Regular, 0o644);
        with_rule.access_acl = 3;
        let mut dangling = attr(FileType::Regular, 0o644);
        dangling.access_acl = 4;
        let batch = BatchBuilder::new().entry(1, b"a", f, with_rule).entry(1, b"b", f + 1, dangling);
        meta.import(batch.build()).await.unwrap();
        let name = b"system.posix_acl_access";
        assert_eq!(meta.getxattr(Ino(f), name).await.unwrap().unwrap(), rule.to_xattr());
        assert_eq!(meta.listxattr(Ino(f)).await.unwrap(), [&name[..]]);
        assert_eq!(meta.getxattr(Ino(f), b"system.posix_acl_default").await.unwrap(), None);
        assert_eq!(meta.getxattr(Ino(f + 1), name).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
