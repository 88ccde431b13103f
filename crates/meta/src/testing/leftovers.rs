//! Records of removals and sessions: what engines promise about them.

use bytes::Bytes;
use shoal_format::{FileType, Ino};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, attr};
use crate::engine::{DeletedFile, Job, OldDentry, Serial, SessionRecord, Txn};
use crate::error::MetaError;

/// Runs `work` in a transaction of its own and commits it.
async fn commit<T>(case: &Case, work: impl AsyncFnOnce(&dyn Txn) -> Result<T, MetaError>) -> T {
    let txn = case.ok(case.engine.begin().await);
    let value = case.ok(work(&*txn).await);
    case.ok(txn.commit().await);
    value
}

/// What a write says that cannot be: itself, or the commit that it was put off until. After its own failure nothing is committed.
async fn refused(txn: Box<dyn Txn>, written: Result<(), MetaError>) -> MetaError {
    let done = match written {
        Ok(()) => txn.commit().await,
        failed => failed,
    };
    done.expect_err("this cannot be")
}

pub(super) async fn names_go_only_if_they_are_what_was_read(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(2).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"a", f, 1).file(1, b"b", f + 1, 1).build()).await);
    let old = |name: &str, ino: u64| OldDentry { parent: Ino::ROOT, name: Bytes::from(name.to_owned()), ino: Ino(ino) };
    for wrong in [old("a", f + 1), old("c", f)] {
        let txn = case.ok(case.engine.begin().await);
        let deleted = txn.delete_dentries(&[wrong]).await;
        let error = refused(txn, deleted).await;
        assert!(matches!(error, MetaError::Contended { .. }), "{error}");
    }
    commit(case, async |txn| txn.delete_dentries(&[old("a", f)]).await).await;
    assert_eq!(case.ok(case.meta.lookup(Ino::ROOT, b"a").await), None);
    case.some(case.meta.lookup(Ino::ROOT, b"b").await);
}

pub(super) async fn records_beside_an_inode_go_with_it(case: &Case) {
    case.init().await;
    let ids = case.ok(case.meta.alloc_inodes(100).await);
    let (dir, first) = (ids.start, ids.start + 1);
    let batch = (first..ids.end).fold(BatchBuilder::new().dir(1, b"d", dir), |batch, id| {
        batch.symlink(dir, id.to_string().as_bytes(), id, b"target").xattr(b"user.a", b"1").xattr(b"user.b", b"2")
    });
    case.ok(case.meta.import(batch.build()).await);
    let gone: Vec<Ino> = (first..ids.end - 1).map(Ino).collect();
    commit(case, async |txn| {
        txn.delete_attrs(&gone).await?;
        txn.delete_symlinks(&gone).await?;
        txn.delete_xattrs_and_parents(&gone).await?;
        txn.delete_dir_records(&[Ino(dir), Ino(9999)]).await
    })
    .await;
    for ino in gone {
        assert_eq!(case.ok(case.meta.getattr(ino).await), None);
        assert_eq!(case.ok(case.meta.readlink(ino).await), None);
        assert_eq!(case.ok(case.meta.listxattr(ino).await), Vec::<Bytes>::new());
    }
    let kept = Ino(ids.end - 1);
    case.some(case.meta.getattr(kept).await);
    case.some(case.meta.readlink(kept).await);
    assert_eq!(case.ok(case.meta.listxattr(kept).await), [&b"user.a"[..], b"user.b"]);
    assert_eq!(case.ok(case.engine.records().dir_usage(Ino(dir)).await), None);
    case.some(case.engine.records().dir_usage(Ino::ROOT).await);
}

pub(super) async fn deleted_files_wait_oldest_first(case: &Case) {
    case.init().await;
    let file = |ino: u64, removed: i64| DeletedFile { ino: Ino(ino), length: ino << 40, removed };
    let files = [file(7, 30), file(5, 10), file(9, 20), file(8, 20)];
    commit(case, async |txn| txn.insert_deleted_files(&files).await).await;
    let records = case.engine.records();
    assert_eq!(case.ok(records.deleted_files(30, 9).await), [file(5, 10), file(8, 20), file(9, 20)]);
    assert_eq!(case.ok(records.deleted_files(100, 2).await), [file(5, 10), file(8, 20)]);
    commit(case, async |txn| txn.remove_deleted_files(&[file(5, 10), file(7, 30), file(77, 1)]).await).await;
    assert_eq!(case.ok(records.deleted_files(100, 9).await), [file(8, 20), file(9, 20)]);
}

pub(super) async fn sessions_are_kept_until_removed(case: &Case) {
    case.init().await;
    let session = |sid: u64, expire: i64| SessionRecord { sid, expire, info: Bytes::from(format!("{{\"s\":{sid}}}")) };
    commit(case, async |txn| {
        for record in [session(2, 100), session(1, 50), session(3, 20)] {
            txn.put_session(&record).await?;
        }
        txn.put_session(&session(3, 200)).await?;
        txn.insert_sustained(1, &[Ino(9), Ino(8)]).await?;
        txn.insert_sustained(1, &[Ino(9)]).await?;
        txn.insert_sustained(2, &[Ino(8)]).await
    })
    .await;
    let records = case.engine.records();
    assert_eq!(case.ok(records.sessions().await), [session(1, 50), session(2, 100), session(3, 200)]);
    assert_eq!(case.ok(records.expired_sessions(100, 9).await), [1]);
    assert_eq!(case.ok(records.expired_sessions(101, 9).await), [1, 2]);
    assert_eq!(case.ok(records.expired_sessions(101, 1).await), [1]);
    assert_eq!(case.ok(records.sustained(1).await), [Ino(8), Ino(9)]);
    commit(case, async |txn| {
        txn.delete_sustained(1, &[Ino(8), Ino(77)]).await?;
        txn.delete_session(2).await
    })
    .await;
    assert_eq!(case.ok(records.sustained(1).await), [Ino(9)]);
    assert_eq!(case.ok(records.sustained(2).await), [Ino(8)], "only its holder's records go");
    assert_eq!(case.ok(records.sessions().await).len(), 2);
}

pub(super) async fn serials_begin_at_one_and_never_repeat(case: &Case) {
    case.init().await;
    for serial in [Serial::Session, Serial::TrashDir] {
        for n in 1..4 {
            assert_eq!(commit(case, async |txn| txn.take_serial(serial).await).await, n, "{serial:?}");
        }
    }
    assert_eq!(case.ok(case.meta.alloc_inodes(1).await), 2..3, "inodes are counted apart");
}

pub(super) async fn one_client_is_elected_in_a_period(case: &Case) {
    case.init().await;
    let elect = async |job, now| commit(case, async |txn| txn.elect(job, now, 54).await).await;
    for job in Job::ALL {
        let outcomes = [elect(job, 1000).await, elect(job, 1000).await, elect(job, 1053).await];
        assert_eq!(outcomes, [true, false, false], "{job:?}");
        assert_eq!([elect(job, 1054).await, elect(job, 1060).await], [true, false], "{job:?}");
        assert!(!elect(job, 20).await, "{job:?}: a clock that went back waits");
    }
}

pub(super) async fn many_attributes_are_locked_in_one_call(case: &Case) {
    case.init().await;
    let file = attr(FileType::Regular, 0o600);
    commit(case, async |txn| txn.insert_attrs(&[(Ino(50), file.clone()), (Ino(51), file.clone())]).await).await;
    let txn = case.ok(case.engine.begin().await);
    let found = case.ok(txn.attrs_locked(&[Ino(51), Ino(9), Ino(50), Ino(51)]).await);
    assert_eq!(found, [Some(file.clone()), None, Some(file.clone()), Some(file)]);
    let touch =
        crate::record::DirTouch { ino: Ino(77), nlink: 1, mtime: super::sample::TIME, ctime: super::sample::TIME };
    let touched = txn.touch_dirs(&[touch]).await;
    assert_eq!(refused(txn, touched).await.kind(), ErrorKind::NotFound);
}

pub(super) async fn detached_trees_are_known_until_they_have_a_name(case: &Case) {
    case.init().await;
    commit(case, async |txn| {
        for (ino, at) in [(7, 30), (9, 10), (8, 20)] {
            txn.insert_detached(Ino(ino), at).await?;
        }
        Ok(())
    })
    .await;
    let records = case.engine.records();
    assert_eq!(case.ok(records.detached_before(30, 9).await), [Ino(9), Ino(8)]);
    assert_eq!(case.ok(records.detached_before(99, 2).await), [Ino(9), Ino(8)]);
    assert!(commit(case, async |txn| txn.remove_detached(Ino(9)).await).await);
    assert!(!commit(case, async |txn| txn.remove_detached(Ino(9)).await).await, "it is gone");
    assert_eq!(case.ok(records.detached_before(99, 9).await), [Ino(8), Ino(7)]);
}

pub(super) async fn a_dropped_volume_leaves_room_for_another(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(2).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"a", f, 1).file(1, b"b", f + 1, 1).build()).await);
    commit(case, async |txn| txn.drop_schema().await).await;
    let error = case.meta.settings().await.expect_err("no volume");
    assert!(matches!(error, MetaError::NoVolume { .. }), "{error}");
    case.init().await;
    assert_eq!(case.ok(case.meta.readdir(Ino::ROOT).await), []);
    assert_eq!(case.ok(case.meta.alloc_inodes(1).await).start, 2);
}
