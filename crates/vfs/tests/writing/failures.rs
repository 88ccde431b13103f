//! What fails, who hears of it, and what is left.

use std::time::Duration;

use shoal_format::{Settings, SliceRecord};
use shoal_meta::testing::sample;
use shoal_object::Op;
use shoal_runtime::clock;
use shoal_testkit::seeded_bytes;
use shoal_types::ErrorKind;

use super::bed::{BLOCK, Bed};

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_costs_time_only() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    bed.store.fail_next(Op::Put, 7, ErrorKind::Unavailable);
    let (file, data) = (client.open(bed.ino).await, seeded_bytes(1, 5 * BLOCK + 1));
    client.write(&file, 0, &data).await;
    client.vfs.flush(&file).await.unwrap();
    assert_eq!(bed.client().await.read_all(bed.ino).await, data);
    assert_eq!(bed.store.counts().puts, 6 + 7);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_good_is_told_once_to_every_handle() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let (file, other) = (client.open(bed.ino).await, client.open(bed.ino).await);
    client.write(&file, 0, b"kept").await;
    client.vfs.flush(&file).await.unwrap();
    bed.store.fail_matching(Op::Put, ErrorKind::Unavailable, |_| true);
    client.write(&file, 2, b"lost").await;
    let began = clock::now();
    let error = client.vfs.flush(&file).await.expect_err("nothing can be stored");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!((300..400).contains(&(clock::now() - began).as_secs()), "it was tried for five minutes");
    client.vfs.flush(&file).await.unwrap();
    let error = client.vfs.write(&other, 0, b"x").await.expect_err("the other handle has not heard of it");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    bed.store.clear();
    let late = client.open(bed.ino).await;
    client.vfs.flush(&late).await.unwrap();
    client.write(&other, 4, b" and more").await;
    client.vfs.flush(&other).await.unwrap();
    assert_eq!(bed.client().await.read_all(bed.ino).await, b"kept and more", "what was flushed is still there");
    assert_eq!(client.unstored(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_holds_no_flush_for_what_is_to_be_deleted_there() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    bed.store.fail_matching(Op::Put, ErrorKind::Unavailable, |_| true);
    bed.store.hang_next(Op::Delete, 100);
    let file = client.open(bed.ino).await;
    for chunk in 0..3 {
        client.write(&file, chunk << 26, b"lost").await;
    }
    let flush = clock::timeout(Duration::from_secs(400), client.vfs.flush(&file)).await;
    assert_eq!(flush.expect("it ends").expect_err("nothing can be stored").kind(), ErrorKind::Unavailable);
}

/// A key whose rights are being changed, a bucket that is being mounted again, a disk that errs.
#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_for_a_while_costs_time_only() {
    for kind in [ErrorKind::Denied, ErrorKind::NotFound, ErrorKind::Internal] {
        let bed = Bed::new().await;
        let client = bed.client().await;
        bed.store.fail_next(Op::Put, 7, kind);
        let (file, data) = (client.open(bed.ino).await, seeded_bytes(1, 5 * BLOCK + 1));
        client.write(&file, 0, &data).await;
        client.vfs.flush(&file).await.unwrap();
        assert_eq!(bed.client().await.read_all(bed.ino).await, data);
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_that_no_attempt_will_store_fails_at_once() {
    for (said, told) in [(ErrorKind::Invalid, ErrorKind::Internal), (ErrorKind::NoSpace, ErrorKind::NoSpace)] {
        refuse_a_block(said, told).await;
    }
}

async fn refuse_a_block(said: ErrorKind, told: ErrorKind) {
    let bed = Bed::new().await;
    let client = bed.client().await;
    bed.store.fail_next(Op::Put, 1, said);
    let file = client.open(bed.ino).await;
    client.write(&file, 0, &seeded_bytes(1, 2 * BLOCK)).await;
    let began = clock::now();
    assert_eq!(client.vfs.flush(&file).await.expect_err("refused").kind(), told);
    assert!(clock::now() - began < Duration::from_secs(1));
    assert_eq!(bed.records().await, []);
    settled(&bed, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_hanging_store_holds_the_flush_and_no_reader() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    bed.store.hang_next(Op::Put, 1);
    let (file, data) = (client.open(bed.ino).await, seeded_bytes(1, BLOCK + 5));
    client.write(&file, 0, &data).await;
    let flush = clock::timeout(Duration::from_secs(3600), client.vfs.flush(&file)).await;
    assert!(flush.is_err(), "nothing was stored");
    assert_eq!(client.read(&file, 0, 1 << 20).await, data, "what is written is there to read");
    assert_eq!(bed.records().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_full_volume_is_told_and_its_objects_go() {
    let capacity = Settings { capacity: 1 << 20, block_size: 64, ..sample::settings() };
    let bed = Bed::with(capacity).await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, &seeded_bytes(1, 3 * BLOCK)).await;
    client.vfs.flush(&file).await.unwrap();
    // Two slices in one commit: the one that fits is kept.
    client.write(&file, 8 << 20, &seeded_bytes(2, BLOCK)).await;
    client.write(&file, 5, b"fits").await;
    let error = client.vfs.flush(&file).await.expect_err("the volume is full");
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    client.vfs.flush(&file).await.unwrap();
    let mut want = seeded_bytes(1, 3 * BLOCK);
    want[5..9].copy_from_slice(b"fits");
    assert_eq!(bed.client().await.read_all(bed.ino).await, want);
    settled(&bed, &[BLOCK, BLOCK, BLOCK, 4]).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_gone_takes_its_objects_along() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, &seeded_bytes(1, BLOCK + 1)).await;
    use shoal_meta::Engine;
    let txn = bed.engine.begin().await.unwrap();
    txn.delete_attrs(&[bed.ino]).await.unwrap();
    txn.commit().await.unwrap();
    let error = client.vfs.flush(&file).await.expect_err("there is no file");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    settled(&bed, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_not_made_twice() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, b"first").await;
    client.vfs.flush(&file).await.unwrap();
    client.write(&file, 5, b" and second").await;
    bed.engine.lose_answers(1);
    client.vfs.flush(&file).await.unwrap();
    assert_eq!(bed.records().await, [SliceRecord::whole(0, 1, 5), SliceRecord::whole(5, 2, 11)]);
    assert_eq!(client.read(&file, 0, 100).await, b"first and second");
    assert_eq!(bed.client().await.read_all(bed.ino).await, b"first and second");
}

#[tokio::test(start_paused = true)]
async fn contended_commits_are_made_again() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, b"busy").await;
    bed.engine.fail_commits(60);
    client.vfs.flush(&file).await.unwrap();
    assert_eq!(bed.records().await, [SliceRecord::whole(0, 1, 4)]);
}

/// Waits until exactly objects of these lengths are in the store.
async fn settled(bed: &Bed, lengths: &[usize]) {
    for _ in 0..1000 {
        if bed.objects().await == lengths {
            return;
        }
        clock::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(bed.objects().await, lengths);
}
