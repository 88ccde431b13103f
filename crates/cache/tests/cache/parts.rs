//! A small read far into a missed block gets its bytes ahead of the block; and who waits behind whom.

use std::time::Duration;

use shoal_cache::{CacheError, FillPolicy, NodeCache, NodeCacheConfig};
use shoal_cluster::{View, ViewWatch};
use shoal_net::Role;
use shoal_object::Op;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_store::testing::Faults;
use shoal_store::{DirConfig, IoChoice, StoreConfig};
use shoal_testkit::{PATIENCE, TestDir, wait_until_async};
use shoal_types::{BlockRange, Class, Ctx, ErrorKind, Tier};
use shoal_wire::{GetRequest, Status};

use crate::support::*;

const FAR: BlockRange = BlockRange::new(3 * MIB + 4096, 64 * KIB);

async fn get(node: &LoneNode, name: &str, range: BlockRange) -> bytes::Bytes {
    drain(node.cache.read(&Ctx::foreground(), &key(name), range).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_small_read_far_into_a_block_gets_its_bytes_first_and_the_block_follows() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    // A request for the whole block would not come this far.
    let gate = objects.0.hold_bodies_after(u64::from(MIB));
    assert_eq!(get(&node, "a", FAR).await, cut(&data, FAR));
    gate.reached(1).await;
    assert_eq!(objects.gets(), 2, "the whole block is on its way");
    gate.release();
    wait_until_async("kept", PATIENCE, async || node.cache.store().stats().blocks == 1).await;
    assert_eq!(read_all(&node.cache, &key("a")).await.unwrap(), (Tier::Ram, data));
    assert_eq!((objects.gets(), objects.0.counts().bytes), (2, u64::from(4 * MIB + FAR.len())));
}

#[tokio::test]
async fn the_policy_can_be_turned_off() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let node = lone_node(&objects, |config| config.fill = FillPolicy::Whole).await;
    assert_eq!(get(&node, "a", FAR).await, cut(&data, FAR));
    wait_until_async("kept", PATIENCE, async || node.cache.store().stats().blocks == 1).await;
    assert_eq!((objects.gets(), objects.0.counts().bytes), (1, u64::from(4 * MIB)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_reads_of_one_block_cost_two_requests() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    let gate = objects.0.hold_gets();
    let start = |range: BlockRange| {
        let (cache, data) = (node.cache.clone(), data.clone());
        task::spawn("reader", async move {
            let stream = cache.read(&Ctx::foreground(), &key("a"), range).await.unwrap();
            assert_eq!(drain(stream).await.unwrap(), cut(&data, range));
        })
    };
    let mut readers = vec![start(FAR)];
    gate.reached(1).await;
    // Within the part that comes: nothing more is asked for. Elsewhere: the block is.
    readers.push(start(BlockRange::new(FAR.start + 10, 100)));
    readers.extend((0..10).map(|i| start(BlockRange::new(MIB + i * 100_000, 1000))));
    gate.reached(2).await;
    gate.release();
    for reader in readers {
        reader.await.unwrap();
    }
    wait_until_async("kept", PATIENCE, async || node.cache.store().stats().blocks == 1).await;
    assert_eq!(objects.gets(), 2);
}

#[tokio::test]
async fn a_part_that_fails_leaves_it_to_the_block() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let node = lone_node(&objects, |_| {}).await;
    objects.0.fail_next(Op::Get, 1, ErrorKind::Unavailable);
    assert_eq!(get(&node, "a", FAR).await, cut(&data, FAR));
    assert_eq!(objects.gets(), 2);
    // Over the end of its block: the object store gives less than was asked for.
    let data = objects.put("b", 2, MIB).await;
    let over = BlockRange::new(MIB - 1000, 64 * KIB);
    assert_eq!(get(&node, "b", over).await, cut(&data, over));
    let past = BlockRange::new(2 * MIB, 100);
    objects.put("c", 3, MIB).await;
    assert!(get(&node, "c", past).await.is_empty());
    let gets = objects.gets();
    let missing = node.cache.read(&Ctx::foreground(), &key("none"), FAR).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(objects.gets(), gets + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_come_from_peers_too() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let ring = Ring::start(3, &objects).await;
    let [owner, former] = [ring.owner(&key("a"), 0), ring.owner(&key("a"), 1)];
    former.cache.warm(&Ctx::warm_up(), &key("a"), None).await.unwrap();
    let gets = objects.gets();
    let stream = owner.cache.read(&Ctx::foreground(), &key("a"), FAR).await.unwrap();
    assert_eq!((stream.tier, stream.block_len), (Tier::Peer, 4 * MIB));
    assert_eq!(drain(stream).await.unwrap(), cut(&data, FAR));
    wait_until_async("kept", PATIENCE, async || owner.cache.store().stats().blocks == 1).await;
    assert_eq!(objects.gets(), gets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_warm_up_turns_more_of_it_away_and_no_reader() {
    let objects = Objects::new();
    for i in 0..200 {
        objects.put(&format!("w{i}"), i, 1000).await;
    }
    let ring = Ring::start_changed(1, |_| objects.origins(), |config| config.warm_fills = 1).await;
    let (node, client) = (&ring.nodes[0], ring.ca.endpoint(Role::Client, "client"));
    let ask = async |name: String, class: Class| {
        let request = GetRequest { class, ..GetRequest::new(key(&name), BlockRange::WHOLE) };
        client.fetch(node.endpoint.local_addr(), request).await.unwrap()
    };
    let gate = objects.0.hold_bodies_after(0);
    let queue: Vec<_> = (0..150)
        .map(|i| {
            let cache = node.cache.clone();
            let ctx = Ctx::warm_up();
            task::spawn("warm", async move { cache.warm(&ctx, &key(&format!("w{i}")), None).await })
        })
        .collect();
    gate.reached(1).await;
    let refused = async || {
        let ctx = Ctx::warm_up().with_deadline(clock::now() + Duration::from_millis(50));
        let read = node.cache.read(&ctx, &key("w199"), BlockRange::WHOLE).await;
        matches!(read, Err(CacheError::Busy { .. }))
    };
    wait_until_async("the queue is long", PATIENCE, refused).await;
    let (head, _) = ask("w198".to_owned(), Class::Background).await;
    assert!(head.status == Status::Busy && head.retry_ms > 0, "{head:?}");
    assert!(node.metric("shoal_cache_refused_fills_total{class=\"background\"}") == 1);
    let reader = {
        let cache = node.cache.clone();
        task::spawn("reader", async move { read_all(&cache, &key("w197")).await })
    };
    gate.reached(2).await;
    gate.release();
    reader.await.unwrap().unwrap();
    for warmed in queue {
        warmed.await.unwrap().unwrap();
    }
}

/// A node that holds block `a` of `len` bytes in its directory, and has no memory for it.
async fn on_disk_alone(objects: &Objects, dir: &TestDir, len: u32) -> (NodeCache, bytes::Bytes) {
    let store = store(dir, 0).await;
    let (views, config) = (ViewWatch::fixed(View::empty()), NodeCacheConfig::new(node_id(1)));
    let cache = NodeCache::new(config, store.clone(), objects.origins(), views, None, &Registry::new());
    let data = objects.put("a", 1, len).await;
    store.insert(&key("a"), data.clone()).await.unwrap();
    (cache, data)
}

#[tokio::test]
async fn a_large_block_streams_from_its_directory_and_a_repeated_one_goes_to_memory() {
    let objects = Objects::new();
    let dir = TestDir::new("cache");
    let (cache, data) = on_disk_alone(&objects, &dir, 4 * MIB).await;
    for range in [BlockRange::WHOLE, BlockRange::new(0, 4 * MIB), BlockRange::new(777, 3 * MIB)] {
        let mut stream = cache.read(&Ctx::foreground(), &key("a"), range).await.unwrap();
        assert_eq!((stream.tier, stream.block_len), (Tier::Nvme, 4 * MIB));
        let (mut at, mut pieces) = (range.start, 0);
        while let Some(bytes) = stream.next().await.unwrap() {
            let sums = stream.sums();
            if range.start == 0 {
                let sum = sums.expect("whole pages have checksums").crc_of(0..bytes.len() as u32);
                assert_eq!(sum, Some(shoal_types::checksum::crc32c(&bytes)));
            }
            assert!(bytes == cut(&data, BlockRange::new(at, bytes.len() as u32)));
            (at, pieces) = (at + bytes.len() as u32, pieces + 1);
        }
        assert_eq!(at, range.end.min(4 * MIB));
        assert!(pieces >= 3, "{pieces} pieces");
    }
    // What is asked for often is read in one piece.
    cache.asked(&key("a"));
    cache.asked(&key("a"));
    let mut stream = cache.read(&Ctx::foreground(), &key("a"), BlockRange::WHOLE).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().len(), 4 * MIB as usize);
    assert_eq!(objects.gets(), 0);
}

#[tokio::test]
async fn a_block_the_store_loses_while_it_streams_goes_on_from_elsewhere() {
    let objects = Objects::new();
    let dir = TestDir::new("cache");
    let store_config = StoreConfig {
        memory: 0,
        dirs: vec![DirConfig { free_ratio: 0.0, ..DirConfig::new(dir.path(), 64 << 20) }],
        io: IoChoice::Plain,
        ..StoreConfig::default()
    };
    let faults = Faults::default();
    let store =
        shoal_store::testing::open(store_config, &Registry::new(), std::slice::from_ref(&faults)).await.unwrap();
    let views = ViewWatch::fixed(View::empty());
    let config = NodeCacheConfig::new(node_id(1));
    let cache = NodeCache::new(config, store.clone(), objects.origins(), views, None, &Registry::new());
    let data = objects.put("a", 1, 12 * MIB).await;
    store.insert(&key("a"), data.clone()).await.unwrap();
    let mut stream = cache.read(&Ctx::foreground(), &key("a"), BlockRange::WHOLE).await.unwrap();
    let mut got = stream.next().await.unwrap().unwrap().to_vec();
    faults.fail_reads(5);
    while let Some(bytes) = stream.next().await.unwrap() {
        got.extend_from_slice(&bytes);
    }
    assert!(data == got, "the right bytes");
    assert_eq!(objects.gets(), 1);
}

#[tokio::test]
async fn a_warm_up_whose_peer_takes_nothing_keeps_no_other_from_the_disk_while_programs_read() {
    let objects = Objects::new();
    let dir = TestDir::new("cache");
    let (cache, data) = on_disk_alone(&objects, &dir, 12 * MIB).await;
    let warm_up = Ctx::new(Class::WarmUp);
    let program = async || {
        let range = BlockRange::new(4096, 4096);
        let stream = cache.read(&Ctx::foreground(), &key("a"), range).await.unwrap();
        assert_eq!(drain(stream).await.unwrap(), cut(&data, range));
    };
    let mut stuck = Vec::new();
    for _ in 0..3 {
        program().await;
        let mut stream = cache.read(&warm_up, &key("a"), BlockRange::WHOLE).await.unwrap();
        stream.next().await.unwrap().unwrap();
        stuck.push(stream);
    }
    program().await;
    let other = cache.read(&warm_up, &key("a"), BlockRange::WHOLE).await.unwrap();
    let got = clock::timeout(PATIENCE, drain(other)).await.expect("nobody holds a turn for longer than a read");
    assert!(got.unwrap() == data);
    for mut stream in stuck {
        let mut left = 0;
        while let Some(bytes) = stream.next().await.unwrap() {
            left += bytes.len();
        }
        assert!(left > 8 << 20, "who comes back gets the rest");
    }
    assert_eq!(objects.gets(), 0);
}
