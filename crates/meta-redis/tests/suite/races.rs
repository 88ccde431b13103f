//! What others change between a transaction's reads and its commit: whatever it depends on makes it contended, and nothing else does.

use std::sync::Arc;

use shoal_format::{Attr, FileType, Ino, SliceRecord, Time};
use shoal_meta::testing::sample::{attr, settings};
use shoal_meta::{
    ChunkSlices, Counter, DirTouch, Engine, IdKind, Meta, MetaError, OldDentry, OpenMode, SliceRef, Txn, Xattr,
};
use shoal_meta_redis::open;
use shoal_testkit::RedisServer;

use super::volumes::{dir, file, volume};

async fn write(engine: &Arc<dyn Engine>, work: impl AsyncFnOnce(&dyn Txn) -> Result<(), MetaError>) {
    let txn = engine.begin().await.unwrap();
    work(&*txn).await.unwrap();
    txn.commit().await.unwrap();
}

/// Commits `first` after `second` was done by somebody else. Its own write tells whether it took place.
async fn race(
    engine: &Arc<dyn Engine>,
    first: impl AsyncFnOnce(&dyn Txn) -> Result<(), MetaError>,
    second: impl AsyncFnOnce(&dyn Txn) -> Result<(), MetaError>,
) -> bool {
    let before = engine.records().counter(Counter::TotalInodes).await.unwrap();
    let txn = engine.begin().await.unwrap();
    first(&*txn).await.unwrap();
    txn.add_counter(Counter::TotalInodes, 1).await.unwrap();
    write(engine, second).await;
    let done = txn.commit().await;
    let after = engine.records().counter(Counter::TotalInodes).await.unwrap();
    assert_eq!(after - before, i64::from(done.is_ok()), "all or nothing");
    match done {
        Ok(()) => true,
        Err(MetaError::Contended { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn slices(ino: u64, ids: std::ops::Range<u64>) -> ChunkSlices {
    ChunkSlices { ino: Ino(ino), index: 0, slices: ids.map(|id| SliceRecord::whole(0, id, 9)).collect() }
}

fn touch(ino: u64) -> DirTouch {
    let now = Time { secs: 7, nanos: 8 };
    DirTouch { ino: Ino(ino), nlink: 1, mtime: now, ctime: now }
}

/// A volume with directory 50 and file 51.
async fn prepared() -> Option<Arc<dyn Engine>> {
    let engine = volume(&RedisServer::shared()?.fresh_url()).await;
    let (name, inode) = dir(50);
    write(&engine, async |txn| {
        txn.insert_dentries(&[name]).await?;
        txn.insert_attrs(&[inode]).await
    })
    .await;
    file(&engine, 51).await.unwrap();
    Some(engine)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_locked_may_not_change_and_what_is_held_may_not_move() {
    let Some(engine) = prepared().await else { return };
    let links = engine.records().attr(Ino(50)).await.unwrap().unwrap().nlink;
    let moved = |parent| (Ino(50), Attr { parent: Ino(parent), ..attr(FileType::Directory, 0o755) });
    let lock = async |txn: &dyn Txn| txn.attrs_locked(&[Ino(50)]).await.map(drop);
    let hold = async |txn: &dyn Txn| txn.attrs_held(&[Ino(50)]).await.map(drop);
    let look = async |txn: &dyn Txn| txn.attr(Ino(50)).await.map(drop);
    let touched = async |txn: &dyn Txn| txn.touch_dirs(&[touch(50)]).await;
    assert!(!race(&engine, lock, touched).await);
    assert!(race(&engine, hold, touched).await);
    assert!(race(&engine, touched, touched).await);
    assert_eq!(engine.records().attr(Ino(50)).await.unwrap().unwrap().nlink, links + 4, "no touch is lost");
    assert!(!race(&engine, hold, async |txn: &dyn Txn| txn.update_attrs(&[moved(7)]).await).await);
    assert!(!race(&engine, look, async |txn: &dyn Txn| txn.update_attrs(&[moved(8)]).await).await);
    assert!(!race(&engine, touched, async |txn: &dyn Txn| txn.delete_attrs(&[Ino(50)]).await).await);
    let absent = async |txn: &dyn Txn| txn.attrs_held(&[Ino(60)]).await.map(drop);
    let inode = (Ino(60), attr(FileType::Regular, 0o600));
    assert!(!race(&engine, absent, async |txn: &dyn Txn| txn.insert_attrs(&[inode]).await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_were_read_may_not_change_and_others_may() {
    let Some(engine) = prepared().await else { return };
    let add = |ino: u64| async move |txn: &dyn Txn| txn.insert_dentries(&[dir(ino).0]).await;
    let miss = |name: &'static [u8]| async move |txn: &dyn Txn| txn.entry(Ino::ROOT, name).await.map(drop);
    assert!(!race(&engine, miss(b"61"), add(61)).await);
    assert!(race(&engine, add(62), add(63)).await, "writers of different names do not disturb each other");
    let list = async |txn: &dyn Txn| txn.entries(Ino(50), b"", 1).await.map(drop);
    let mut inside = dir(64).0;
    inside.parent = Ino(50);
    assert!(!race(&engine, list, async |txn: &dyn Txn| txn.insert_dentries(&[inside]).await).await);
    let removed = |ino: u64| OldDentry { parent: Ino::ROOT, name: ino.to_string().into(), ino: Ino(ino) };
    let remove = async |txn: &dyn Txn| txn.delete_dentries(&[removed(61)]).await;
    assert!(!race(&engine, remove, remove).await);
    let xattr = Xattr { ino: Ino(51), name: "user.a".into(), value: "1".into() };
    let ask = async |txn: &dyn Txn| txn.xattr(Ino(51), b"user.a").await.map(drop);
    assert!(!race(&engine, ask, async |txn: &dyn Txn| txn.put_xattrs(&[xattr]).await).await);

    let txn = engine.begin().await.unwrap();
    txn.insert_dentries(&[dir(65).0, dir(63).0]).await.unwrap();
    let error = txn.commit().await.unwrap_err();
    assert_eq!(error.to_string(), "`63` exists already in directory 1", "it was never read, so it is no race");
    assert!(engine.records().entry(Ino::ROOT, b"65").await.unwrap().is_none());
    let txn = engine.begin().await.unwrap();
    txn.insert_attrs(&[(Ino(51), attr(FileType::Regular, 0o600))]).await.unwrap();
    assert_eq!(txn.commit().await.unwrap_err().to_string(), "inode 51 exists already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_references_that_were_read_may_not_change() {
    let Some(engine) = prepared().await else { return };
    let append = |ids: std::ops::Range<u64>| async move |txn: &dyn Txn| txn.append_slices(&[slices(51, ids)]).await;
    assert!(race(&engine, append(1..3), append(3..5)).await, "who only appends does not look");
    let list = || async { engine.records().slices(Ino(51), 0).await.unwrap() };
    let ids = |list: Vec<SliceRecord>| list.iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(list().await), [3, 4, 1, 2]);
    let read = async |txn: &dyn Txn| txn.slices(Ino(51), 0).await.map(drop);
    assert!(!race(&engine, read, append(5..6)).await);
    let (old, new) = (list().await[..2].to_vec(), slices(51, 9..10).slices);
    let compact = async |txn: &dyn Txn| txn.replace_slices(Ino(51), 0, &old, &new).await.map(|done| assert!(done));
    assert!(race(&engine, compact, append(6..7)).await, "what follows the replaced ones may come meanwhile");
    assert_eq!(ids(list().await), [9, 1, 2, 5, 6]);
    let (old, new) = (list().await[..3].to_vec(), slices(51, 10..12).slices);
    let compact = async |txn: &dyn Txn| txn.replace_slices(Ino(51), 0, &old, &new).await.map(|done| assert!(done));
    assert!(!race(&engine, compact, compact).await);
    assert_eq!(ids(list().await), [10, 11, 5, 6]);

    let slice = SliceRef { id: 5, size: 9, count: 1 };
    let take = async |txn: &dyn Txn| txn.add_slice_refs(&[slice]).await.map(drop);
    let drop_it = async |txn: &dyn Txn| txn.drop_slice_refs(&[slice]).await.map(drop);
    assert!(!race(&engine, take, drop_it).await);
    let ids = async |txn: &dyn Txn| txn.take_ids(IdKind::Slice, 5).await.map(drop);
    assert!(!race(&engine, ids, ids).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_that_create_a_volume_does() {
    let Some(server) = RedisServer::shared() else { return };
    let url = server.fresh_url();
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let meta = Meta::new(open(&url, OpenMode::Create).await.unwrap());
        tasks.push(shoal_runtime::task::spawn("init", async move { meta.init(&settings(), false).await }));
    }
    let mut made = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => made += 1,
            Err(error) => assert!(matches!(error, MetaError::VolumeExists { .. }), "{error}"),
        }
    }
    assert_eq!(made, 1);
}
