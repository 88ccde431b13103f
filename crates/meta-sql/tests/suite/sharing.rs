//! One file, several programs: locks are waited for within a bound, and commits of others are seen.

use shoal_format::{FileType, Ino};
use shoal_meta::testing::sample::attr;
use shoal_meta_sql::{OpenMode, open};
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::ErrorKind;

use super::bed::Bed;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_sees_what_another_program_commits() {
    let bed = Bed::new();
    let writer = bed.volume("v.db").await;
    let reader = bed.open("v.db", OpenMode::ReadOnly).await;
    for n in 0..20 {
        let name = format!("d{n}");
        let (ino, _) = writer.mkdir_p(name.as_bytes(), Default::default()).await.unwrap();
        assert_eq!(reader.lookup(Ino::ROOT, name.as_bytes()).await.unwrap().unwrap().0, ino);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_do_not_wait_for_a_writer_and_writers_wait_for_each_other() {
    let bed = Bed::new();
    let meta = bed.volume("v.db").await;
    let other = bed.other_program("v.db");
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other.execute_batch("UPDATE jfs_counter SET value=value+10 WHERE name='nextInode'").unwrap();

    let waiting = {
        let meta = meta.clone();
        task::spawn("alloc", async move { meta.alloc_inodes(1).await })
    };
    assert!(meta.lookup(Ino::ROOT, b"x").await.unwrap().is_none());
    assert!(!waiting.is_finished(), "the other program has the lock");
    other.execute_batch("COMMIT").unwrap();
    let taken = clock::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(taken, 12..13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_that_is_never_released_is_an_error_in_the_end() {
    let bed = Bed::new();
    bed.volume("v.db").await.close().await;
    // SQLite waits 1 ms here, so that what bounds the wait is the retry of the transaction.
    let engine = open(&format!("{}?_busy_timeout=1", bed.url("v.db")), OpenMode::ReadWrite).await.unwrap();
    let other = bed.other_program("v.db");
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = engine.begin().await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), format!("{} stayed busy with other writers", bed.url("v.db")));
    other.execute_batch("ROLLBACK").unwrap();
    engine.begin().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn log_left_by_a_killed_program_is_read() {
    let bed = Bed::new();
    let meta = bed.volume("v.db").await;
    meta.mkdir_p(b"/in/the/log", Default::default()).await.unwrap();
    // What a crash leaves: the database and its log, without the shared index.
    for suffix in ["", "-wal"] {
        std::fs::copy(bed.path(&format!("v.db{suffix}")), bed.path(&format!("copy.db{suffix}"))).unwrap();
    }
    assert!(std::fs::metadata(bed.path("copy.db-wal")).unwrap().len() > 0, "the log must hold something");
    let copy = bed.open("copy.db", OpenMode::ReadOnly).await;
    assert!(copy.resolve_path(b"/in/the/log").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_is_copied_into_the_database_while_it_is_used() {
    let bed = Bed::new();
    bed.volume("v.db").await.close().await;
    let engine = open(&bed.url("v.db"), OpenMode::ReadWrite).await.unwrap();
    let length = || std::fs::metadata(bed.path("v.db")).unwrap().len();
    let before = length();
    let mut ino = 100;
    wait_until_async("pages are copied", PATIENCE, async || {
        for _ in 0..100 {
            let txn = engine.begin().await.unwrap();
            txn.insert_attrs(&[(Ino(ino), attr(FileType::Regular, 0o600))]).await.unwrap();
            txn.commit().await.unwrap();
            ino += 1;
        }
        length() > before
    })
    .await;
    engine.close().await;
}
