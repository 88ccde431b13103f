//! The client's side without a ring: memory, then the origin.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use shoal_cache::Block;
use shoal_format::{BlockCodec, Settings};
use shoal_object::{ObjectStore, Op};
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, seeded_bytes, wait_until_async};
use shoal_types::{BlockKey, BlockRange, BlockSpan, Class, Ctx, ErrorKind, Tier};

use crate::support::*;

const WINDOW: u32 = 64 * KIB;

#[tokio::test]
async fn the_second_read_comes_from_memory() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let (cache, block) = (lone_client(&objects, |_| {}), plain("a", 4 * MIB));
    assert!(cache.try_ram(&block, BlockRange::new(0, 1)).is_none());
    assert_eq!(read(&cache, &block, BlockRange::WHOLE).await.unwrap(), data);
    let range = BlockRange::new(MIB, 70_000);
    assert_eq!(cache.try_ram(&block, range).unwrap(), cut(&data, range));
    assert_eq!(read(&cache, &block, range).await.unwrap(), cut(&data, range));
    assert!(read(&cache, &block, BlockRange::new(4 * MIB, 10)).await.unwrap().is_empty());
    assert_eq!(objects.gets(), 1);
    let counts = cache.counts();
    assert_eq!((counts.bytes_from(Tier::Origin), counts.bytes_from(Tier::Ram)), (u64::from(4 * MIB), 140_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_one_block_share_one_fetch() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let (cache, block) = (lone_client(&objects, |_| {}), plain("a", 4 * MIB));
    let gate = objects.0.hold_bodies_after(0);
    let whole = {
        let (cache, block) = (cache.clone(), block.clone());
        task::spawn("whole", async move { read(&cache, &block, BlockRange::WHOLE).await })
    };
    gate.reached(1).await;
    let readers: Vec<_> = (0..50u32)
        .map(|i| {
            let (cache, block) = (cache.clone(), block.clone());
            let range = BlockRange::new(i * 80_000, 50_000);
            task::spawn("reader", async move { (range, read(&cache, &block, range).await) })
        })
        .collect();
    cache.prefetch(&Ctx::foreground(), &block).await;
    gate.release();
    assert_eq!(whole.await.unwrap().unwrap(), data);
    for reader in readers {
        let (range, bytes) = reader.await.unwrap();
        assert_eq!(bytes.unwrap(), cut(&data, range));
    }
    assert_eq!(objects.gets(), 1);
    assert_eq!(cache.counts().total_bytes(), u64::from(4 * MIB) + 50 * 50_000);
}

#[tokio::test]
async fn a_small_read_far_from_others_moves_one_window() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let (cache, block) = (lone_client(&objects, |_| {}), plain("a", 4 * MIB));
    let range = BlockRange::new(2 * MIB + 5000, 4 * KIB);
    assert_eq!(read(&cache, &block, range).await.unwrap(), cut(&data, range));
    assert_eq!(objects.0.counts().bytes, u64::from(WINDOW));
    let beside = BlockRange::new(2 * MIB, WINDOW);
    assert_eq!(cache.try_ram(&block, beside).unwrap(), cut(&data, beside), "its window stays in memory");
    let behind = BlockRange::new(2 * MIB + WINDOW, 10);
    assert_eq!(read(&cache, &block, behind).await.unwrap(), cut(&data, behind));
    assert_eq!(objects.0.counts().bytes, u64::from(WINDOW + 4 * MIB), "who goes on gets the block");
    assert_eq!(cache.try_ram(&block, BlockRange::WHOLE).unwrap(), data);
}

#[tokio::test]
async fn a_read_over_held_windows_needs_no_fetch() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let (cache, block) = (lone_client(&objects, |_| {}), plain("a", 4 * MIB));
    let three = BlockRange::new(MIB, 3 * WINDOW);
    assert_eq!(read(&cache, &block, three).await.unwrap(), cut(&data, three));
    let across = BlockRange::new(MIB + WINDOW - 10, WINDOW);
    assert!(cache.try_ram(&block, across).is_none(), "it lies in two pieces of memory");
    assert_eq!(read(&cache, &block, across).await.unwrap(), cut(&data, across));
    assert_eq!(objects.gets(), 1);
    assert_eq!(cache.counts().bytes_from(Tier::Ram), u64::from(WINDOW));
}

/// A compressible block, so that codecs have something to do.
fn text(len: usize) -> Bytes {
    let words = [&b"shoal "[..], b"cache ", b"block ", b"node "];
    let picks = seeded_bytes(5, len);
    picks.iter().flat_map(|pick| words[(pick % 4) as usize]).copied().take(len).collect()
}

fn codec(compression: &str, key: Option<(&str, &str)>) -> BlockCodec {
    let mut settings = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
    settings.compression = compression.to_owned();
    if let Some((pem, algorithm)) = key {
        settings.encrypt_key = pem.to_owned();
        settings.encrypt_algo = algorithm.to_owned();
    }
    settings.codec(None).unwrap()
}

async fn put_encoded(objects: &Objects, name: &str, codec: &BlockCodec, data: &Bytes) -> Block {
    objects.0.put(name, codec.encode(data.clone()).unwrap()).await.unwrap();
    Block { key: key(name), plain_len: data.len() as u32, codec: codec.clone() }
}

#[tokio::test]
async fn encoded_blocks_are_decoded_once() {
    let objects = Objects::new();
    let data = text(3 * MIB as usize);
    let cache = lone_client(&objects, |_| {});
    for compression in ["lz4", "zstd"] {
        let block = put_encoded(&objects, compression, &codec(compression, None), &data).await;
        let before = objects.gets();
        let ranges = [BlockRange::new(2 * MIB, 10), BlockRange::WHOLE, BlockRange::new(5, 100_000)];
        let reads = ranges.map(|range| read(&cache, &block, range));
        for (range, bytes) in ranges.iter().zip(join_all(reads).await) {
            assert_eq!(bytes.unwrap(), cut(&data, *range), "{compression}");
        }
        assert_eq!(cache.try_ram(&block, BlockRange::new(7, 7)).unwrap(), cut(&data, BlockRange::new(7, 7)));
        assert_eq!(objects.gets() - before, 1, "{compression}");
    }
    assert_eq!(cache.counts().bytes_from(Tier::Origin), 2 * u64::from(10 + 3 * MIB + 100_000));
}

#[tokio::test]
async fn damaged_blocks_are_errors_and_never_wrong_bytes() {
    let objects = Objects::new();
    let data = text(100_000);
    let cache = lone_client(&objects, |_| {});
    let block = put_encoded(&objects, "z", &codec("zstd", None), &data).await;
    let stored = objects.0.get("z", None, None).await.unwrap().collect(1 << 20).await.unwrap();
    objects.0.put("z", stored.slice(..stored.len() / 2)).await.unwrap();
    assert_eq!(failure(&cache, &block, BlockRange::WHOLE).await.kind(), ErrorKind::Corrupt);
    objects.0.put("z", stored).await.unwrap();
    assert_eq!(read(&cache, &block, BlockRange::WHOLE).await.unwrap(), data);
    // An object of another length than the metadata says.
    objects.put("short", 1, MIB - 1).await;
    for range in [BlockRange::WHOLE, BlockRange::new(300_000, 10), BlockRange::new(MIB - 5, 5)] {
        let error = failure(&cache, &plain("short", MIB), range).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{range}: {error}");
    }
    assert_eq!(cache.counts().errors, 4);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_continued_where_it_ended() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let cache = lone_client(&objects, |_| {});
    objects.0.truncate_next(2, u64::from(MIB));
    assert_eq!(read(&cache, &plain("a", 4 * MIB), BlockRange::WHOLE).await.unwrap(), data);
    let counts = objects.0.counts();
    assert_eq!((counts.gets, counts.bytes), (3, u64::from(4 * MIB)));
    assert_eq!(cache.counts().bytes_from(Tier::Origin), u64::from(4 * MIB));
}

#[tokio::test]
async fn an_origin_that_fails_is_an_error_of_its_kind() {
    let objects = Objects::new();
    let cache = lone_client(&objects, |_| {});
    let block = plain("a", MIB);
    assert_eq!(failure(&cache, &block, BlockRange::WHOLE).await.kind(), ErrorKind::NotFound);
    let data = objects.put("a", 1, MIB).await;
    objects.0.fail_next(Op::Get, 1, ErrorKind::Denied);
    assert_eq!(failure(&cache, &block, BlockRange::WHOLE).await.kind(), ErrorKind::Denied);
    let hasty = lone_client(&objects, |config| config.origin_timeout = Duration::from_millis(100));
    let gate = objects.0.hold_gets();
    assert_eq!(failure(&hasty, &block, BlockRange::WHOLE).await.kind(), ErrorKind::Timeout);
    gate.release();
    assert_eq!(read(&cache, &block, BlockRange::WHOLE).await.unwrap(), data);
    // Breaks off every time without a byte: an error, not a loop.
    objects.0.truncate_next(1000, 0);
    objects.put("b", 1, MIB).await;
    assert_eq!(failure(&cache, &plain("b", MIB), BlockRange::WHOLE).await.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_deadline_is_kept_and_the_fetch_goes_on() {
    let objects = Objects::new();
    let data = objects.put("a", 1, MIB).await;
    let (cache, block) = (lone_client(&objects, |_| {}), plain("a", MIB));
    let gate = objects.0.hold_gets();
    let ctx = Ctx::foreground().with_deadline(clock::now() + Duration::from_millis(50));
    let late = cache.read(&ctx, &block, BlockRange::WHOLE).await.map(|bytes| bytes.len());
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    gate.release();
    assert_eq!(read(&cache, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert_eq!(objects.gets(), 1);
}

#[tokio::test]
async fn prefetched_blocks_are_in_memory_when_read() {
    let objects = Objects::new();
    let ctx = Ctx::new(Class::Fill);
    let cache = lone_client(&objects, |_| {});
    let mut blocks = Vec::new();
    for i in 0..10 {
        let name = format!("a{i}");
        blocks.push((plain(&name, MIB), objects.put(&name, i, MIB).await));
    }
    for (block, _) in &blocks {
        cache.prefetch(&ctx, block).await;
        cache.prefetch(&ctx, block).await;
    }
    for (block, data) in &blocks {
        wait_until_async("prefetched", PATIENCE, async || cache.try_ram(block, BlockRange::new(0, 1)).is_some()).await;
        assert_eq!(cache.try_ram(block, BlockRange::WHOLE).unwrap(), data);
    }
    cache.prefetch(&ctx, &plain("none", MIB)).await;
    assert_eq!(failure(&cache, &plain("none", MIB), BlockRange::WHOLE).await.kind(), ErrorKind::NotFound);
    assert!(objects.gets() <= 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetching_ahead_leaves_room_for_readers() {
    let objects = Objects::new();
    let data = objects.put("now", 1, 4 * MIB).await;
    for i in 0..20 {
        objects.put(&format!("a{i}"), i, 4 * MIB).await;
    }
    // 16 MiB are for blocks on their way, half of that for those fetched ahead: two.
    let cache = lone_client(&objects, |config| config.memory = 64 << 20);
    let gate = objects.0.hold_bodies_after(0);
    let ahead: Vec<_> = (0..20)
        .map(|i| {
            let cache = cache.clone();
            let block = plain(&format!("a{i}"), 4 * MIB);
            task::spawn("ahead", async move { cache.prefetch(&Ctx::new(Class::Fill), &block).await })
        })
        .collect();
    gate.reached(2).await;
    let reader = {
        let cache = cache.clone();
        task::spawn("reader", async move { read(&cache, &plain("now", 4 * MIB), BlockRange::WHOLE).await })
    };
    gate.reached(3).await;
    assert_eq!(objects.gets(), 3, "the third is the reader's");
    gate.release();
    assert_eq!(reader.await.unwrap().unwrap(), data);
    join_all(ahead).await;
}

#[tokio::test]
async fn memory_stays_within_what_was_given() {
    let objects = Objects::new();
    let cache = lone_client(&objects, |config| config.memory = 24 << 20);
    for i in 0..20u64 {
        let data = objects.put("a", i, MIB).await;
        // A new name for every round: blocks are immutable.
        let name = format!("a{i}");
        objects.0.put(&name, data.clone()).await.unwrap();
        assert_eq!(read(&cache, &plain(&name, MIB), BlockRange::WHOLE).await.unwrap(), data);
        wait_until_async("landed", PATIENCE, async || cache.memory_used() <= 8 << 20).await;
    }
    assert!(cache.memory_used() > 4 << 20, "and it is used");
}

#[tokio::test]
async fn parts_of_bucket_objects_are_read_in_windows_of_their_own() {
    let objects = Objects::new();
    let data = objects.put("big", 1, 10 * MIB).await;
    let etag = objects.0.head("big").await.unwrap().etag.unwrap();
    let span = BlockSpan::Part { etag, offset: u64::from(4 * MIB), len: 4 * MIB };
    let block = Block { key: BlockKey::new(ORIGIN, "big", span), plain_len: 4 * MIB, codec: BlockCodec::identity() };
    let cache = lone_client(&objects, |_| {});
    let range = BlockRange::new(MIB, 100);
    assert_eq!(read(&cache, &block, range).await.unwrap(), cut(&data, BlockRange::new(5 * MIB, 100)));
    assert_eq!(objects.0.counts().bytes, u64::from(WINDOW));
    assert_eq!(read(&cache, &block, BlockRange::WHOLE).await.unwrap(), cut(&data, BlockRange::new(4 * MIB, 4 * MIB)));
    objects.put("big", 2, 10 * MIB).await;
    let other = BlockSpan::Part { etag: "\"gone\"".into(), offset: 0, len: MIB };
    let block = Block { key: BlockKey::new(ORIGIN, "big", other), plain_len: MIB, ..block };
    assert_eq!(failure(&cache, &block, BlockRange::WHOLE).await.kind(), ErrorKind::Conflict);
}
