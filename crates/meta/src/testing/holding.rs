//! Removed files that are open, clients that die, and the work one client does for all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use shoal_format::{Attr, Dentry, FileType, Ino, SliceRecord, trash_hour};
use shoal_runtime::clock;
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, attr};
use crate::engine::{DeletedFile, Job, SessionRecord, Txn};
use crate::error::MetaError;
use crate::ops::{Caller, QuotaScope, Remains};
use crate::record::{Counter, DelayedSlices, DirUsage, NewDentry, SliceRef};
use crate::session::{Session, now};
use crate::slices::SliceStore;

/// Longest wait for background work.
const PATIENCE: Duration = Duration::from_secs(300);

/// Blocks that are only remembered.
#[derive(Debug, Default)]
pub(super) struct FakeSlices {
    deleted: Mutex<Vec<(u64, u32)>>,
    /// Slices that cannot be deleted.
    stuck: Mutex<BTreeSet<u64>>,
    /// Attempts to delete those.
    refused: AtomicU64,
}

#[async_trait]
impl SliceStore for FakeSlices {
    async fn sync(&self) -> Result<(), MetaError> {
        Ok(())
    }

    async fn delete_slice(&self, id: u64, size: u32) -> Result<(), MetaError> {
        if self.stuck.lock().contains(&id) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(MetaError::Blocks { slice: id, detail: "on purpose".into(), kind: ErrorKind::Unavailable });
        }
        self.deleted.lock().push((id, size));
        Ok(())
    }
}

impl FakeSlices {
    /// Deleted so far, by id.
    pub(super) fn deleted(&self) -> Vec<(u64, u32)> {
        let mut deleted = self.deleted.lock().clone();
        deleted.sort_unstable();
        deleted
    }
}

/// Waits until `condition` holds.
async fn until(case: &Case, what: &str, condition: impl AsyncFn() -> bool) {
    let start = clock::now();
    while !condition().await {
        assert!(start.elapsed() < PATIENCE, "{}: {what} does not come to pass", case.name);
        clock::sleep(Duration::from_millis(5)).await;
    }
}

async fn commit<T>(case: &Case, work: impl AsyncFnOnce(&dyn Txn) -> Result<T, MetaError>) -> T {
    let txn = case.ok(case.engine.begin().await);
    let value = case.ok(work(&*txn).await);
    case.ok(txn.commit().await);
    value
}

impl Case {
    async fn deleted_files(&self) -> Vec<DeletedFile> {
        self.ok(self.engine.records().deleted_files(i64::MAX, 100).await)
    }

    async fn dead_slices(&self) -> Vec<SliceRef> {
        commit(self, async |txn| txn.dead_slices(100).await).await
    }

    /// Lets `session` look as if it had died a minute ago.
    async fn kill(&self, session: &Session) {
        let info = Bytes::from_static(b"{}");
        let record = SessionRecord { sid: session.sid(), expire: now().secs - 1, info };
        commit(self, async |txn| txn.put_session(&record).await).await;
    }
}

async fn unlink(case: &Case, session: &Session, name: &str) -> Remains {
    case.ok(session.unlink(&Caller::root(), Ino::ROOT, name.as_bytes()).await).1
}

pub(super) async fn an_open_file_outlives_its_last_name(case: &Case) {
    case.init_without_trash().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(3).await).start;
    let batch = BatchBuilder::new().file(1, b"f", i, 5000).xattr(b"user.a", b"1").link(1, b"g", i);
    case.ok(case.meta.import(batch.symlink(1, b"l", i + 1, b"to").build()).await);
    session.opened(Ino(i));
    session.opened(Ino(i));
    session.opened(Ino(i + 1));
    assert_eq!(unlink(case, &session, "f").await, Remains::Names);
    assert_eq!(unlink(case, &session, "g").await, Remains::OpenFile);
    assert_eq!(unlink(case, &session, "l").await, Remains::Nothing, "only regular files are held");
    let file = case.some(case.meta.getattr(Ino(i)).await);
    assert_eq!((file.nlink, file.length), (0, 5000));
    assert_eq!(case.ok(case.engine.records().sustained(session.sid()).await), [Ino(i)]);
    assert_eq!(case.deleted_files().await, []);
    case.audit(&session, &[Ino(i)]).await;

    case.ok(session.release(Ino(i)).await);
    case.audit(&session, &[Ino(i)]).await;
    case.ok(session.release(Ino(i)).await);
    assert!(case.gone(i).await);
    assert_eq!(case.ok(case.engine.records().sustained(session.sid()).await), []);
    let deleted = case.deleted_files().await;
    assert_eq!(deleted.iter().map(|file| (file.ino, file.length)).collect::<Vec<_>>(), [(Ino(i), 5000)]);
    case.audit(&session, &[]).await;
    case.ok(session.release(Ino(i)).await);
    case.ok(session.close().await);
}

pub(super) async fn a_session_that_ends_lets_go_of_what_it_holds(case: &Case) {
    case.init_without_trash().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(2).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", i, 1).file(1, b"g", i + 1, 1).build()).await);
    for (n, name) in ["f", "g"].into_iter().enumerate() {
        session.opened(Ino(i + n as u64));
        assert_eq!(unlink(case, &session, name).await, Remains::OpenFile);
    }
    case.ok(session.close().await);
    assert_eq!(case.ok(case.engine.records().sustained(session.sid()).await), []);
    assert_eq!(case.ok(case.engine.records().sessions().await), []);
    assert_eq!(case.deleted_files().await.len(), 2);
    case.audit_settled(&[]).await;
}

pub(super) async fn what_a_dead_client_held_is_let_go_once(case: &Case) {
    case.init_without_trash().await;
    let (dead, first, second) = (case.join().await, case.join().await, case.join().await);
    let i = case.ok(case.meta.alloc_inodes(2).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", i, 1).file(1, b"g", i + 1, 1).build()).await);
    dead.opened(Ino(i));
    assert_eq!(unlink(case, &dead, "f").await, Remains::OpenFile);
    assert!(case.ok(first.run_job(Job::StaleSessions).await));
    assert!(!case.gone(i).await, "it lives");

    case.kill(&dead).await;
    // Elected a moment ago: nobody is again before the time has come.
    assert!(!case.ok(second.run_job(Job::StaleSessions).await));
    assert!(!case.gone(i).await);
    commit(case, async |txn| txn.elect(Job::StaleSessions, 1, i64::MIN).await).await;
    let outcomes =
        [case.ok(second.run_job(Job::StaleSessions).await), case.ok(first.run_job(Job::StaleSessions).await)];
    assert_eq!(outcomes, [true, false]);
    assert!(case.gone(i).await);
    let sids: Vec<u64> = case.ok(case.engine.records().sessions().await).iter().map(|record| record.sid).collect();
    assert_eq!(sids, [first.sid(), second.sid()]);
    assert_eq!(case.deleted_files().await.len(), 1);
    for session in [dead, first, second] {
        case.ok(session.flush_accounts().await);
    }
    case.audit_settled(&[]).await;
}

pub(super) async fn a_client_does_not_bury_itself(case: &Case) {
    case.init_without_trash().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", i, 1).build()).await);
    session.opened(Ino(i));
    unlink(case, &session, "f").await;
    case.kill(&session).await;
    assert!(case.ok(session.run_job(Job::StaleSessions).await));
    assert!(!case.gone(i).await, "{}: it was only slow", case.name);
    case.ok(session.beat().await);
    case.ok(session.release(Ino(i)).await);
    assert!(case.gone(i).await);
    case.ok(session.close().await);
}

/// A volume without a trash and a file `f` of two slices, one of which another file shares.
async fn sliced(case: &Case) -> (u64, [SliceRecord; 2]) {
    case.init_without_trash().await;
    let i = case.ok(case.meta.alloc_inodes(2).await).start;
    let s = case.ok(case.meta.alloc_slices(2).await).start;
    let records = [SliceRecord::whole(0, s, 100), SliceRecord::whole(100, s + 1, 50)];
    let batch = BatchBuilder::new().sliced(1, b"f", i, &records).sliced(1, b"shares", i + 1, &records[1..]);
    case.ok(case.meta.import(batch.build()).await);
    (i, records)
}

pub(super) async fn data_is_deleted_when_nothing_names_it(case: &Case) {
    let (i, [first, second]) = sliced(case).await;
    let (session, slices) = (case.join().await, Arc::new(FakeSlices::default()));
    session.start_jobs(slices.clone());
    unlink(case, &session, "f").await;
    until(case, "the file's data is deleted", async || case.deleted_files().await.is_empty()).await;
    until(case, "its slice is forgotten", async || case.dead_slices().await.is_empty()).await;
    assert_eq!(slices.deleted(), [(first.id, first.size)], "the other slice is shared");
    assert_eq!(case.ok(case.meta.chunk(Ino(i), 0).await), []);
    assert_eq!(case.ok(case.meta.chunk(Ino(i + 1), 0).await), [second]);
    unlink(case, &session, "shares").await;
    until(case, "the last slice is deleted", async || slices.deleted().len() == 2).await;
    until(case, "and forgotten", async || case.dead_slices().await.is_empty()).await;
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn blocks_that_cannot_be_deleted_are_found_again(case: &Case) {
    let (i, [first, _]) = sliced(case).await;
    let (session, slices) = (case.join().await, Arc::new(FakeSlices::default()));
    session.start_jobs(slices.clone());
    slices.stuck.lock().insert(first.id);
    unlink(case, &session, "f").await;
    // In the background: from here on nobody else tries.
    until(case, "its deletion was tried", async || slices.refused.load(Ordering::Relaxed) > 0).await;
    let error = session.run_job(Job::Slices).await.expect_err("it is stuck");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(case.dead_slices().await.iter().map(|slice| slice.id).collect::<Vec<_>>(), [first.id]);
    slices.stuck.lock().clear();
    commit(case, async |txn| txn.elect(Job::Slices, 1, i64::MIN).await).await;
    assert!(case.ok(session.run_job(Job::Slices).await));
    assert_eq!(slices.deleted(), [(first.id, first.size)]);
    assert_eq!(case.dead_slices().await, []);
    assert_eq!(case.ok(case.meta.chunk(Ino(i), 0).await), []);
    case.ok(session.close().await);
}

pub(super) async fn files_of_clients_that_died_are_deleted_an_hour_later(case: &Case) {
    let (i, [first, _]) = sliced(case).await;
    // No background work: what it removes is left to others.
    let lazy = case.join().await;
    unlink(case, &lazy, "f").await;
    let (session, slices) = (case.join().await, Arc::new(FakeSlices::default()));
    session.start_jobs(slices.clone());
    assert!(case.ok(session.run_job(Job::DeletedFiles).await));
    let file = case.deleted_files().await[0];
    assert_eq!(slices.deleted(), [], "whoever removed it has an hour");
    commit(case, async |txn| {
        txn.remove_deleted_files(&[file]).await?;
        txn.insert_deleted_files(&[DeletedFile { removed: file.removed - 3700, ..file }]).await?;
        txn.elect(Job::DeletedFiles, 1, i64::MIN).await
    })
    .await;
    assert!(case.ok(session.run_job(Job::DeletedFiles).await));
    assert_eq!(slices.deleted(), [(first.id, first.size)]);
    assert_eq!(case.deleted_files().await, []);
    assert_eq!(case.ok(case.meta.chunk(Ino(i), 0).await), []);
    for session in [lazy, session] {
        case.ok(session.close().await);
    }
}

/// Puts `name` into the trash of the hour `hours` ago.
async fn trashed(case: &Case, serial: u64, hours: i64, entries: &[(String, Ino, Attr)]) -> Ino {
    let then = shoal_format::Time { secs: now().secs - hours * 3600, nanos: 0 };
    let (dir, name) = (Ino(Ino::TRASH.0 + serial), Bytes::from(trash_hour(then)));
    let dentry = |kind, ino| Dentry { kind, ino };
    commit(case, async |txn| {
        let own = Attr::new(FileType::Directory, 0o555, Ino::TRASH, then);
        let mut use_of = DirUsage::default();
        let mut space = DirUsage::of(&own).space;
        txn.insert_attrs(&[(dir, own)]).await?;
        let new = NewDentry { parent: Ino::TRASH, name, dentry: dentry(FileType::Directory, dir) };
        txn.insert_dentries(&[new]).await?;
        for (name, ino, attr) in entries {
            let name = Bytes::from(name.clone());
            let attr = Attr { parent: dir, ..attr.clone() };
            use_of.add(DirUsage::of(&attr));
            space += DirUsage::of(&attr).space;
            txn.insert_dentries(&[NewDentry { parent: dir, name, dentry: dentry(attr.kind, *ino) }]).await?;
            if attr.is_dir() {
                txn.put_dir_usage(&[(*ino, DirUsage::default())]).await?;
            }
            txn.insert_attrs(&[(*ino, attr)]).await?;
        }
        txn.put_dir_usage(&[(dir, use_of)]).await?;
        txn.add_counter(Counter::UsedSpace, space).await?;
        txn.add_counter(Counter::TotalInodes, 1 + entries.len() as i64).await
    })
    .await;
    dir
}

pub(super) async fn the_trash_is_emptied_of_what_is_old(case: &Case) {
    case.init().await;
    let (session, slices) = (case.join().await, Arc::new(FakeSlices::default()));
    session.start_jobs(slices.clone());
    let i = case.ok(case.meta.alloc_inodes(9).await).start;
    let entry = |ino: u64, kind, mode| (format!("1-{ino}-x"), Ino(ino), attr(kind, mode));
    let old =
        [entry(i, FileType::Regular, 0o600), entry(i + 1, FileType::Directory, 0o700), entry(i + 2, FileType::Fifo, 0)];
    let old = trashed(case, 1, 28, &old).await;
    let young = trashed(case, 2, 25, &[entry(i + 3, FileType::Regular, 0o600)]).await;
    let other = NewDentry {
        parent: Ino::TRASH,
        name: "notes".into(),
        dentry: Dentry { kind: FileType::Directory, ino: young },
    };
    // These records come from no operation that would have charged owners.
    case.ok(case.meta.repair_quotas(QuotaScope::Owners).await);
    session.opened(Ino(i));
    case.audit(&session, &[]).await;
    let slice = SliceRef { id: 700, size: 9, count: 2 };
    let delayed = |id: u64, age: i64| DelayedSlices { id, at: now().secs - age, slices: vec![(700, 9), (701, 9)] };
    commit(case, async |txn| {
        txn.insert_slice_refs(&[slice, SliceRef { id: 701, ..slice }]).await?;
        txn.insert_delayed(&delayed(800, 90_000)).await?;
        txn.insert_delayed(&delayed(801, 80_000)).await
    })
    .await;

    assert!(case.ok(session.run_job(Job::Trash).await));
    let hours: Vec<u64> = case.names(Ino::TRASH).await.into_iter().map(|(_, ino)| ino).collect();
    assert_eq!(hours, [young.0], "a day and two hours are over for the other only");
    assert!(case.gone(old.0).await && case.gone(i + 1).await && case.gone(i + 2).await);
    assert_eq!(case.names(young).await, [(format!("1-{}-x", i + 3), i + 3)]);
    assert_eq!(case.some(case.meta.getattr(Ino(i)).await).nlink, 0, "this client has it open");
    case.audit(&session, &[Ino(i)]).await;
    assert_eq!(slices.deleted(), [], "one of two records that name them waits still");
    let left = commit(case, async |txn| txn.delayed_before(i64::MAX, 9).await).await;
    assert_eq!(left.iter().map(|record| record.id).collect::<Vec<_>>(), [801]);
    case.ok(session.release(Ino(i)).await);
    case.audit(&session, &[]).await;
    // What is no hour's name is not the job's.
    commit(case, async |txn| txn.insert_dentries(&[other]).await).await;
    commit(case, async |txn| txn.elect(Job::Trash, 1, i64::MIN).await).await;
    assert!(case.ok(session.run_job(Job::Trash).await));
    assert_eq!(case.names(Ino::TRASH).await.len(), 2);
    case.ok(session.close().await);
}
