//! Chunks of many records: when they are compacted, who waits for it, and what fails then.

use std::time::Duration;

use shoal_format::{Settings, SliceRecord};
use shoal_meta::testing::sample;
use shoal_meta::{ChunkSlices, Engine};
use shoal_object::Op;
use shoal_runtime::clock;
use shoal_testkit::seeded_bytes;
use shoal_types::ErrorKind;

use super::bed::{BLOCK, Bed};

#[tokio::test(start_paused = true)]
async fn a_chunk_of_many_records_is_compacted_once_it_is_read() {
    for trash_days in [0, 1] {
        let bed = Bed::with(Settings { trash_days, block_size: 64, ..sample::settings() }).await;
        let client = bed.client().await;
        let file = client.open(bed.ino).await;
        let mut data = seeded_bytes(1, 3 * BLOCK);
        client.write(&file, 0, &data).await;
        client.vfs.flush(&file).await.unwrap();
        for n in 0..10 {
            let line = seeded_bytes(n as u64, 1000);
            client.write(&file, (n * 5000) as u64, &line).await;
            client.vfs.flush(&file).await.unwrap();
            data[n * 5000..n * 5000 + 1000].copy_from_slice(&line);
        }
        assert_eq!(bed.records().await.len(), 11);
        assert_eq!(client.read(&file, 0, 1 << 20).await, data);
        for _ in 0..1000 {
            clock::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(bed.records().await, [SliceRecord::whole(0, 12, 3 * BLOCK as u32)]);
        assert_eq!(client.read(&file, 0, 1 << 20).await, data);
        assert_eq!(bed.client().await.read_all(bed.ino).await, data);
        // Without a trash what was replaced is gone; with one it waits.
        let old = if trash_days == 0 { 0 } else { 3 + 10 };
        assert_eq!(bed.objects().await.len(), 3 + old);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_is_compacted_while_it_is_written() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    let mut data = Vec::new();
    for n in 0..450u64 {
        let line = seeded_bytes(n, 100);
        client.write(&file, data.len() as u64, &line).await;
        client.vfs.flush(&file).await.unwrap();
        data.extend(line);
    }
    clock::sleep(Duration::from_secs(1)).await;
    assert!(bed.records().await.len() < 250, "{}", bed.records().await.len());
    assert_eq!(bed.client().await.read_all(bed.ino).await, data);
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_cannot_be_stored_changes_nothing() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    for n in 0..6u64 {
        client.write(&file, n * 3, b"12345").await;
        client.vfs.flush(&file).await.unwrap();
    }
    let before = (bed.records().await, bed.objects().await);
    bed.store.fail_matching(Op::Put, ErrorKind::Unavailable, |_| true);
    assert_eq!(client.read(&file, 0, 100).await.len(), 20);
    clock::sleep(Duration::from_secs(10)).await;
    assert_eq!((bed.records().await, bed.objects().await), before);
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_comes_too_late_has_left_nothing_when_it_ends() {
    let bed = Bed::with(Settings { trash_days: 1, block_size: 64, ..sample::settings() }).await;
    let (first, late) = (bed.client().await, bed.client().await);
    let file = first.open(bed.ino).await;
    for n in 0..3u64 {
        first.write(&file, n * 1000, &seeded_bytes(n, 2 * BLOCK)).await;
        first.vfs.flush(&file).await.unwrap();
    }
    bed.store.delay(Op::Delete, Duration::from_secs(1));
    let gate = bed.store.hold_gets();
    let compacts = async { late.vfs.compact(bed.ino, 0).await.unwrap() };
    // Who wrote the blocks has them in memory.
    let overtakes = async {
        gate.reached(1).await;
        first.vfs.compact(bed.ino, 0).await.unwrap().expect("there is something to compact");
        gate.release();
    };
    let (compacted, ()) = futures::join!(compacts, overtakes);
    assert!(compacted.is_none(), "the records it read are gone");
    // Those of three writes, which wait in the trash, and those of the one compaction.
    assert_eq!(bed.objects().await.len(), 3 * 2 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_log_is_compacted_also_if_each_line_is_written_by_a_process_of_its_own() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let mut data = Vec::new();
    for n in 0..150u64 {
        let (file, line) = (client.open(bed.ino).await, seeded_bytes(n, 100));
        client.write(&file, data.len() as u64, &line).await;
        client.vfs.release(&file).await.unwrap();
        data.extend(line);
    }
    clock::sleep(Duration::from_secs(1)).await;
    assert!(bed.records().await.len() < 100, "{}", bed.records().await.len());
    assert_eq!(bed.client().await.read_all(bed.ino).await, data);
}

/// Gives the file's first chunk as many records as other clients may leave: holes that hide nothing.
async fn lengthen(bed: &Bed, records: usize) {
    let slices = vec![SliceRecord::hole(50, 10); records];
    let txn = bed.engine.begin().await.unwrap();
    txn.append_slices(&[ChunkSlices { ino: bed.ino, index: 0, slices }]).await.unwrap();
    txn.commit().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_the_compaction_of_a_list_that_must_not_grow_on() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, b"before").await;
    client.vfs.flush(&file).await.unwrap();
    lengthen(&bed, 2498).await;
    bed.store.delay(Op::Put, Duration::from_secs(2));
    client.write(&file, 4, b"re and after").await;
    let began = clock::now();
    client.vfs.flush(&file).await.unwrap();
    assert!(clock::now() - began >= Duration::from_secs(4), "a block of each was stored");
    assert_eq!(bed.records().await.len(), 1501, "the first thousand are one");
    assert_eq!(client.read(&file, 0, 100).await, b"before and after");
    client.vfs.truncate(bed.ino, 8).await.unwrap();
    lengthen(&bed, 2498).await;
    client.vfs.truncate(bed.ino, 60).await.unwrap();
    assert!(bed.records().await.len() < 3100, "a cut waits too");
    bed.store.clear();
    assert_eq!(bed.client().await.read_all(bed.ino).await[..10], *b"before a\0\0");
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_on_where_a_long_list_cannot_be_compacted() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    lengthen(&bed, 2600).await;
    client.write(&file, 0, b"written").await;
    client.vfs.flush(&file).await.unwrap();
    clock::sleep(Duration::from_secs(10)).await;
    lengthen(&bed, 2600).await;
    bed.store.fail_matching(Op::Get, ErrorKind::Unavailable, |_| true);
    client.write(&file, 3, b"ing").await;
    client.vfs.flush(&file).await.unwrap();
    bed.store.clear();
    assert_eq!(bed.client().await.read_all(bed.ino).await, b"wriingn");
}
