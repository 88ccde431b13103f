//! The node's side: one fill for all, streamed as it comes, counted once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use shoal_cache::{CacheError, NodeCache, NodeCacheConfig, Warmed};
use shoal_cluster::{View, ViewWatch};
use shoal_object::{ObjectStore, Op};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, Rng, TestDir, seeded_bytes, wait_until_async};
use shoal_types::{BlockKey, BlockRange, BlockSpan, Ctx, ErrorKind, MAX_BLOCK_BYTES, Tier};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_readers_of_a_cold_block_cost_one_get() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    let gate = objects.0.hold_gets();
    let readers: Vec<_> = (0..50u32)
        .map(|i| {
            let (cache, data) = (node.cache.clone(), data.clone());
            task::spawn("reader", async move {
                let range = if i % 2 == 0 { BlockRange::WHOLE } else { BlockRange::new(i * 70_000, 100_000) };
                let stream = cache.read(&Ctx::foreground(), &key("a"), range).await.unwrap();
                // Who comes after the fill is answered from memory.
                assert!(matches!(stream.tier, Tier::Origin | Tier::Ram));
                assert_eq!(stream.block_len, 4 * MIB);
                assert_eq!(drain(stream).await.unwrap(), cut(&data, range));
            })
        })
        .collect();
    gate.reached(1).await;
    gate.release();
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    assert_eq!(objects.gets(), 1);
    assert_eq!(node.cache.counts().origin_requests, 1);
    let (counts, delivered) = (node.cache.counts(), 25 * u64::from(4 * MIB) + 25 * 100_000);
    assert_eq!(counts.bytes_from(Tier::Origin) + counts.bytes_from(Tier::Ram), delivered);
    assert_eq!(counts.total_bytes(), delivered);
}

#[tokio::test]
async fn waiters_get_bytes_while_the_origin_still_sends() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    let gate = objects.0.hold_bodies_after(u64::from(MIB));
    let early = BlockRange::new(100, 300 * KIB);
    for _ in 0..3 {
        let stream = node.cache.read(&Ctx::foreground(), &key("a"), early).await.unwrap();
        assert_eq!(drain(stream).await.unwrap(), cut(&data, early));
    }
    let mut whole = node.cache.read(&Ctx::foreground(), &key("a"), BlockRange::WHOLE).await.unwrap();
    let first = whole.next().await.unwrap().unwrap();
    assert_eq!(first, cut(&data, BlockRange::new(0, first.len() as u32)));
    assert_eq!(node.cache.has(&[key("a")]), [None], "the rest has not come");
    gate.release();
    let mut got = first.to_vec();
    while let Some(bytes) = whole.next().await.unwrap() {
        got.extend_from_slice(&bytes);
    }
    assert_eq!(got, data);
    assert_eq!(objects.gets(), 1);
}

#[tokio::test]
async fn a_filled_block_is_read_from_the_store() {
    let objects = Objects::new();
    let data = objects.put("a", 1, MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    let range = BlockRange::new(7, 100);
    let stream = node.cache.read(&Ctx::foreground(), &key("a"), range).await.unwrap();
    assert_eq!(drain(stream).await.unwrap(), cut(&data, range), "a range fills the whole block");
    wait_until_async("stored", PATIENCE, async || node.cache.store().stats().blocks == 1).await;
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap(), (Tier::Ram, data));
    assert_eq!(objects.gets(), 1);
    let counts = node.cache.counts();
    assert_eq!((counts.bytes_from(Tier::Origin), counts.bytes_from(Tier::Ram)), (100, u64::from(MIB)));
    assert_eq!((counts.reads_from(Tier::Origin), counts.reads_from(Tier::Ram)), (1, 1));
}

#[tokio::test]
async fn an_origin_that_fails_midway_fails_every_waiter_and_nothing_is_kept() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    objects.0.truncate_next(1, u64::from(MIB));
    let gate = objects.0.hold_gets();
    let waiters: Vec<_> = (0..5)
        .map(|_| {
            let cache = node.cache.clone();
            task::spawn("waiter", async move { read_all(&cache, &key("a")).await.map(|_| ()) })
        })
        .collect();
    gate.reached(1).await;
    gate.release();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }
    let delivered = node.cache.counts();
    assert_eq!(delivered.errors, 5);
    assert!(delivered.total_bytes() <= 5 * u64::from(MIB));
    assert_eq!(node.cache.has(&[key("a")]), [None]);
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap().1, data);
    assert_eq!(objects.gets(), 2);
}

#[tokio::test]
async fn failures_have_their_kind_and_are_not_remembered() {
    let objects = Objects::new();
    let node = lone_node(&objects, |_| {}).await;
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let data = objects.put("a", 1, 100).await;
    objects.0.fail_next(Op::Get, 1, ErrorKind::Unavailable);
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap().1, data);
    let foreign = BlockKey::whole(shoal_types::OriginId([9; 16]), "a");
    assert!(matches!(read_all(&node.cache, &foreign).await, Err(CacheError::NoOrigin { .. })));
    objects.put("huge", 2, MAX_BLOCK_BYTES + 1).await;
    assert_eq!(read_all(&node.cache, &key("huge")).await.unwrap_err().kind(), ErrorKind::Invalid);
    objects.put("empty", 3, 0).await;
    assert!(read_all(&node.cache, &key("empty")).await.unwrap().1.is_empty());
}

#[tokio::test]
async fn a_silent_origin_fails_the_fill_after_its_timeout() {
    let objects = Objects::new();
    objects.put("a", 1, MIB).await;
    let node = lone_node(&objects, |config| config.origin_timeout = Duration::from_millis(100)).await;
    let before_the_head = objects.0.hold_gets();
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap_err().kind(), ErrorKind::Timeout);
    before_the_head.release();
    let in_the_body = objects.0.hold_bodies_after(1000);
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap_err().kind(), ErrorKind::Timeout);
    in_the_body.release();
    assert_eq!(node.cache.has(&[key("a")]), [None]);
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_not_the_fill() {
    let objects = Objects::new();
    let data = objects.put("a", 1, MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    let gate = objects.0.hold_gets();
    let ctx = Ctx::foreground().with_deadline(clock::now() + Duration::from_millis(50));
    let late = node.cache.read(&ctx, &key("a"), BlockRange::WHOLE).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Timeout);
    gate.release();
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap().1, data);
    assert_eq!(objects.gets(), 1);
}

#[tokio::test]
async fn a_fill_outlives_whoever_asked_first() {
    let objects = Objects::new();
    let data = objects.put("a", 1, MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    let gate = objects.0.hold_gets();
    let first = {
        let cache = node.cache.clone();
        task::spawn("first", async move { read_all(&cache, &key("a")).await })
    };
    gate.reached(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.release();
    wait_until_async("filled", PATIENCE, async || node.cache.has(&[key("a")])[0].is_some()).await;
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap().1, data);
    assert_eq!(objects.gets(), 1);
}

#[tokio::test]
async fn a_node_that_is_no_owner_gives_what_it_has_and_fetches_nothing() {
    let objects = Objects::new();
    let dir = TestDir::new("cache");
    let members = (1..=4).map(|n| member(n, ([127, 0, 0, 1], u16::from(n)).into())).collect();
    let view = View::new(1, members);
    let store = store(&dir, 8 << 20).await;
    let views = ViewWatch::fixed(view.clone());
    let registry = Registry::new();
    let cache =
        NodeCache::new(NodeCacheConfig::new(node_id(1)), store.clone(), objects.origins(), views, None, &registry);
    let (mut owned, mut foreign) = (0, 0);
    for i in 0..20 {
        let name = format!("a{i}");
        let data = objects.put(&name, i, 10_000).await;
        if view.is_owner(node_id(1), &key(&name), 2) {
            owned += 1;
            assert_eq!(read_all(&cache, &key(&name)).await.unwrap(), (Tier::Origin, data));
            continue;
        }
        foreign += 1;
        assert!(matches!(read_all(&cache, &key(&name)).await, Err(CacheError::NotOwner { .. })));
        assert!(matches!(cache.warm(&Ctx::warm_up(), &key(&name), None).await, Err(CacheError::NotOwner { .. })));
        store.insert(&key(&name), data.clone()).await.unwrap();
        assert_eq!(read_all(&cache, &key(&name)).await.unwrap().1, data);
        assert_eq!(cache.warm(&Ctx::warm_up(), &key(&name), None).await.unwrap(), Warmed::Already);
    }
    assert!(owned > 0 && foreign > 0);
    assert_eq!(objects.gets(), owned);
}

#[tokio::test]
async fn parts_of_bucket_objects_are_fetched_by_range_and_etag() {
    let objects = Objects::new();
    let data = objects.put("big", 1, 3 * MIB).await;
    let etag = objects.0.head("big").await.unwrap().etag.unwrap();
    let span =
        |etag: &str, offset: u32, len: u32| BlockSpan::Part { etag: etag.to_owned(), offset: offset.into(), len };
    let node = lone_node(&objects, |_| {}).await;
    let middle = BlockKey::new(ORIGIN, "big", span(&etag, MIB, MIB));
    assert_eq!(read_all(&node.cache, &middle).await.unwrap().1, cut(&data, BlockRange::new(MIB, MIB)));
    assert_eq!(objects.0.counts().bytes, u64::from(MIB));
    let past = BlockKey::new(ORIGIN, "big", span(&etag, 2 * MIB + 1, MIB));
    assert_eq!(read_all(&node.cache, &past).await.unwrap_err().kind(), ErrorKind::Corrupt);
    objects.put("big", 2, 3 * MIB).await;
    let last = BlockKey::new(ORIGIN, "big", span(&etag, 2 * MIB, MIB));
    assert_eq!(read_all(&node.cache, &last).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(read_all(&node.cache, &middle).await.unwrap().1, cut(&data, BlockRange::new(MIB, MIB)));
}

#[tokio::test]
async fn warming_stores_a_block_once_and_says_so() {
    let objects = Objects::new();
    objects.put("a", 1, MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    let warm = async |name: &str| node.cache.warm(&Ctx::warm_up(), &key(name), None).await;
    assert_eq!(warm("a").await.unwrap(), Warmed::Fetched(MIB.into()));
    assert!(node.cache.has(&[key("a")])[0].is_some());
    assert_eq!(warm("a").await.unwrap(), Warmed::Already);
    assert_eq!(warm("none").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(objects.gets(), 2);
    assert_eq!(node.cache.counts().total_bytes(), 0, "warming delivers nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_does_not_wait_behind_a_warm_up() {
    let objects = Objects::new();
    for i in 0..20 {
        objects.put(&format!("w{i}"), i, 1000).await;
    }
    let data = objects.put("a", 99, 1000).await;
    let node = lone_node(&objects, |config| config.warm_fills = 2).await;
    let gate = objects.0.hold_bodies_after(0);
    let warming: Vec<_> = (0..20)
        .map(|i| {
            let cache = node.cache.clone();
            task::spawn("warm", async move { cache.warm(&Ctx::warm_up(), &key(&format!("w{i}")), None).await })
        })
        .collect();
    gate.reached(2).await;
    let reader = {
        let cache = node.cache.clone();
        task::spawn("reader", async move { read_all(&cache, &key("a")).await })
    };
    // The third GET is the reader's: warm-up has its two.
    gate.reached(3).await;
    assert_eq!(objects.gets(), 3);
    gate.release();
    assert_eq!(reader.await.unwrap().unwrap().1, data);
    for warmed in join_all(warming).await {
        assert_eq!(warmed.unwrap().unwrap(), Warmed::Fetched(1000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fills_larger_than_their_memory_take_turns() {
    let objects = Objects::new();
    for i in 0..12 {
        objects.put(&format!("a{i}"), i, MIB).await;
    }
    let node = lone_node(&objects, |config| config.fill_memory = 100_000).await;
    let reads = (0..12).map(|i| {
        let cache = node.cache.clone();
        task::spawn("reader", async move { read_all(&cache, &key(&format!("a{i}"))).await })
    });
    for (i, read) in join_all(reads).await.into_iter().enumerate() {
        assert_eq!(read.unwrap().unwrap().1, seeded_bytes(i as u64, MIB as usize));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_delivered_byte_is_counted_once() {
    let objects = Objects::new();
    let seed = 42;
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut blocks = Vec::new();
    for i in 0..8u64 {
        let len = 1 + rng.below(u64::from(MIB)) as u32;
        blocks.push((key(&format!("a{i}")), objects.put(&format!("a{i}"), i, len).await));
    }
    let node = lone_node(&objects, |_| {}).await;
    let blocks = Arc::new(blocks);
    let readers = (0..16u64).map(|reader| {
        let (cache, blocks, objects) = (node.cache.clone(), blocks.clone(), objects.0.clone());
        let mut rng = Rng::new(seed + 1 + reader);
        task::spawn("reader", async move {
            let mut delivered = 0;
            for _ in 0..30 {
                if rng.chance(20) {
                    objects.truncate_next(1, rng.below(100_000));
                }
                let (key, data) = rng.pick(&blocks);
                let range = BlockRange::new(rng.below(data.len() as u64) as u32, rng.below(300_000) as u32);
                let Ok(mut stream) = cache.read(&Ctx::foreground(), key, range).await else { continue };
                let give_up_after = rng.below(6);
                let mut at = stream.range.start;
                for piece in 0.. {
                    if piece == give_up_after {
                        break;
                    }
                    let Ok(Some(bytes)) = stream.next().await else { break };
                    assert_eq!(bytes, cut(data, BlockRange::new(at, bytes.len() as u32)));
                    at += bytes.len() as u32;
                    delivered += bytes.len() as u64;
                }
            }
            delivered
        })
    });
    let delivered: u64 = join_all(readers).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(node.cache.counts().total_bytes(), delivered);
    assert!(delivered > 0);
}
