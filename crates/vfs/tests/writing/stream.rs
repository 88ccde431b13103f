//! What is stored when, and who sees it.

use std::time::Duration;

use shoal_format::{CHUNK_BYTES, Ino, Settings, SliceRecord};
use shoal_meta::Caller;
use shoal_meta::testing::sample;
use shoal_object::Op;
use shoal_runtime::{clock, task};
use shoal_testkit::seeded_bytes;
use shoal_types::ErrorKind;

use super::bed::{BLOCK, Bed, MEMORY};

#[tokio::test(start_paused = true)]
async fn writes_are_read_at_once_here_and_after_a_flush_elsewhere() {
    let bed = Bed::new().await;
    let (ours, theirs) = (bed.client().await, bed.client().await);
    let data = seeded_bytes(1, 3 * BLOCK + 100);
    let file = ours.open(bed.ino).await;
    ours.write(&file, 50, &data).await;
    assert_eq!(file.length(), 50 + data.len() as u64);
    assert_eq!(ours.read(&file, 0, 40).await, [0; 40]);
    assert_eq!(ours.read(&file, 50, 10 << 20).await, data);
    let attr = ours.vfs.getattr(bed.ino).await.unwrap();
    assert_eq!(attr.length, 50 + data.len() as u64, "the kernel is told of what is written");
    assert_eq!(theirs.vfs.getattr(bed.ino).await.unwrap().length, 0);
    ours.vfs.flush(&file).await.unwrap();
    let all = theirs.read_all(bed.ino).await;
    assert_eq!((&all[..50], &all[50..]), (&[0; 50][..], &data[..]));
    assert_eq!(ours.read(&file, 50, 10 << 20).await, data, "recorded bytes are read too");
    assert_eq!(ours.unstored(), 0);
}

#[tokio::test(start_paused = true)]
async fn full_blocks_are_stored_while_the_file_is_written_and_the_rest_when_it_is_flushed() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, &seeded_bytes(1, 4 * BLOCK + 10)).await;
    while bed.store.counts().puts < 4 {
        task_turn().await;
    }
    assert_eq!(bed.records().await, []);
    client.vfs.flush(&file).await.unwrap();
    assert_eq!(bed.records().await, [SliceRecord::whole(0, 1, 4 * BLOCK as u32 + 10)]);
    assert_eq!(bed.objects().await, [BLOCK, BLOCK, BLOCK, BLOCK, 10]);
}

#[tokio::test(start_paused = true)]
async fn what_is_added_or_overwritten_is_stored_and_nothing_else() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let mut data = seeded_bytes(1, 40 * BLOCK);
    let file = client.open(bed.ino).await;
    client.write(&file, 0, &data).await;
    client.vfs.flush(&file).await.unwrap();
    bed.store.reset_counts();
    let before: usize = bed.objects().await.iter().sum();

    client.write(&file, data.len() as u64, b"ten bytes.").await;
    client.vfs.flush(&file).await.unwrap();
    data.extend(b"ten bytes.");
    assert_eq!(bed.store.counts().puts, 1);
    assert_eq!(bed.objects().await.iter().sum::<usize>(), before + 10);

    let middle = seeded_bytes(2, BLOCK);
    client.write(&file, 20 * BLOCK as u64 + 77, &middle).await;
    client.vfs.flush(&file).await.unwrap();
    data[20 * BLOCK + 77..21 * BLOCK + 77].copy_from_slice(&middle);
    assert_eq!(bed.store.counts().puts, 2);
    assert_eq!(bed.objects().await.iter().sum::<usize>(), before + 10 + BLOCK);
    assert_eq!(bed.client().await.read_all(bed.ino).await, data);
}

#[tokio::test(start_paused = true)]
async fn writes_are_in_the_volume_after_some_seconds_without_a_flush() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, b"nobody flushes this").await;
    clock::sleep(Duration::from_secs(6)).await;
    assert_eq!(bed.client().await.read_all(bed.ino).await, b"nobody flushes this");
}

#[tokio::test(start_paused = true)]
async fn a_write_over_a_chunk_border_is_two_slices() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, CHUNK_BYTES - 5, b"0123456789").await;
    assert_eq!(client.read(&file, CHUNK_BYTES - 7, 20).await, b"\0\x000123456789");
    client.vfs.flush(&file).await.unwrap();
    let chunks = bed.meta.chunks(bed.ino, 0..9).await.unwrap();
    assert_eq!(chunks.iter().map(|chunk| (chunk.index, chunk.slices.len())).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
    let theirs = bed.client().await;
    let file = theirs.open(bed.ino).await;
    assert_eq!(theirs.read(&file, CHUNK_BYTES - 7, 20).await, b"\0\x000123456789");
}

#[tokio::test(start_paused = true)]
async fn many_files_with_little_each_never_hold_more_than_the_memory() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let first = bed.meta.alloc_inodes(100).await.unwrap().start;
    let batch = (0..100u64).fold(shoal_meta::testing::sample::BatchBuilder::new(), |batch, n| {
        batch.file(1, format!("many{n}").as_bytes(), first + n, 0)
    });
    bed.meta.import(batch.build()).await.unwrap();
    let mut open = Vec::new();
    // No file fills a block and none is flushed: only pressure lets them go.
    for n in 0..100 {
        let file = client.open(Ino(first + n)).await;
        client.write(&file, 0, &seeded_bytes(n, BLOCK - 1000)).await;
        assert!(client.unstored() <= MEMORY);
        open.push(file);
    }
    client.vfs.flush_all().await;
    assert_eq!(client.unstored(), 0);
    let theirs = bed.client().await;
    for n in 0..100 {
        assert_eq!(theirs.read_all(Ino(first + n)).await, seeded_bytes(n, BLOCK - 1000), "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_slows_the_writer_and_loses_nothing() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    bed.store.delay(Op::Put, Duration::from_secs(2));
    let (file, data) = (client.open(bed.ino).await, seeded_bytes(1, 100 * BLOCK));
    let began = clock::now();
    client.write(&file, 0, &data).await;
    assert!(clock::now() - began >= Duration::from_secs(10), "a hundred blocks in memory for ten");
    client.vfs.flush(&file).await.unwrap();
    assert_eq!(bed.client().await.read_all(bed.ino).await, data);
    // A stream under pressure stays a stream: only age cuts it, not every wait for memory.
    let (slices, took) = (bed.records().await.len() as u64, (clock::now() - began).as_secs());
    assert!(slices <= took / 5 + 1, "{slices} slices in {took} seconds");
}

#[tokio::test(start_paused = true)]
async fn a_cut_file_keeps_what_was_written_before_and_loses_what_lies_behind() {
    let bed = Bed::new().await;
    let client = bed.client().await;
    let file = client.open(bed.ino).await;
    client.write(&file, 0, b"0123456789").await;
    assert_eq!(client.vfs.truncate(bed.ino, 4).await.unwrap().length, 4);
    assert_eq!(client.read(&file, 0, 100).await, b"0123");
    client.write(&file, 6, b"67").await;
    assert_eq!(client.vfs.truncate(bed.ino, 10).await.unwrap().length, 10);
    assert_eq!(client.read(&file, 0, 100).await, b"0123\0\x0067\0\0");
    assert_eq!(bed.client().await.read_all(bed.ino).await, b"0123\0\x0067\0\0");
}

#[tokio::test(start_paused = true)]
async fn a_removed_file_lives_as_long_as_it_is_open() {
    let bed = Bed::with(Settings { trash_days: 0, block_size: 64, ..sample::settings() }).await;
    let client = bed.client().await;
    let (file, other) = (client.open(bed.ino).await, client.open(bed.ino).await);
    client.write(&file, 0, b"still here").await;
    client.vfs.flush(&file).await.unwrap();
    client.session.unlink(&Caller::root(), Ino::ROOT, b"f").await.unwrap();
    client.vfs.release(&other).await.unwrap();
    client.write(&file, 10, b", and written").await;
    client.vfs.flush(&file).await.unwrap();
    assert_eq!(client.read(&file, 0, 100).await, b"still here, and written");
    assert_eq!(bed.meta.getattr(bed.ino).await.unwrap().map(|attr| attr.nlink), Some(0));
    client.write(&file, 0, b"S").await;
    client.vfs.release(&file).await.unwrap();
    assert_eq!(bed.meta.getattr(bed.ino).await.unwrap(), None, "it went with its last handle");
    assert_eq!(client.unstored(), 0);
    let missing = client.vfs.open(bed.ino).await.map(drop).expect_err("it is gone");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(!client.session.is_open(bed.ino), "a failed open is no open file");
}

/// Lets other tasks run.
async fn task_turn() {
    task::spawn("turn", async {}).await.unwrap();
}
