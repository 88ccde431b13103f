//! Random operations against a model: whatever the store gives is right, what it has it keeps until space runs out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shoal_runtime::metrics::Registry;
use shoal_store::{Store, StoreConfig};
use shoal_types::{BlockRange, Tier};

use super::common::{Rng, bare, block, check, check_whole, files, key, open, ways};

const LIMIT: u64 = 8 << 20;

fn random_len(rng: &mut Rng) -> usize {
    match rng.below(10) {
        0 => rng.below(3) as usize,
        1..=4 => rng.below(2000) as usize,
        5 | 6 => 4000 + rng.below(200) as usize,
        7 => 65_000 + rng.below(1000) as usize,
        8 => rng.below(100_000) as usize,
        _ => 200_000 + rng.below(800_000) as usize,
    }
}

fn random_range(rng: &mut Rng, len: usize) -> BlockRange {
    match rng.below(4) {
        0 => BlockRange::WHOLE,
        1 => BlockRange::new(rng.below(len as u64 + 2) as u32, rng.below(5000) as u32),
        _ => BlockRange::new(rng.below(len as u64 + 1) as u32, rng.below(len as u64 + 1) as u32),
    }
}

#[tokio::test]
async fn random_operations_agree_with_the_model() {
    for io in ways() {
        let mut rng = Rng::new("model");
        let dir = tempfile::tempdir().unwrap();
        let config = |rng: &mut Rng| StoreConfig {
            memory: [0, 1 << 20][rng.below(2) as usize],
            table_memory: [0, 64 << 10, 1 << 20][rng.below(3) as usize],
            ..bare(dir.path(), LIMIT, io)
        };
        let mut store = open(config(&mut rng)).await;
        let mut model = HashMap::new();
        let (mut hits, mut misses) = (0, 0);
        for step in 0..3000 {
            match rng.below(100) {
                0 => {
                    let before = store.stats();
                    store.close().await;
                    store = open(config(&mut rng)).await;
                    let after = store.stats();
                    assert_eq!((before.blocks, before.nvme_used), (after.blocks, after.nvme_used), "step {step}");
                }
                1..=50 => {
                    let n = rng.below(1 << 40);
                    let bytes = block(n, random_len(&mut rng));
                    store.insert(&key(n), bytes.clone()).await.unwrap();
                    assert!(check_whole(&store, n, &bytes).await, "step {step}: a block just stored is there");
                    model.insert(n, bytes);
                }
                _ if model.is_empty() => {}
                _ => {
                    let pick = rng.below(model.len() as u64) as usize;
                    let (&n, bytes) = model.iter().nth(pick).unwrap();
                    let there = store.contains(&key(n)).is_some();
                    let found = check(&store, n, bytes, random_range(&mut rng, bytes.len())).await;
                    assert_eq!(there, found, "step {step}: nothing else runs, so what is there stays");
                    *(if found { &mut hits } else { &mut misses }) += 1;
                }
            }
            let stats = store.stats();
            assert!(stats.nvme_used <= LIMIT && stats.ram_used <= stats.ram_limit, "step {step}: {stats:?}");
        }
        let (length, allocated) = files(dir.path());
        assert!(length <= LIMIT && allocated <= LIMIT, "{length} {allocated}");
        assert!(hits > 50 && misses > 50, "{hits} hits, {misses} misses: the test should see both");
        assert_eq!(store.contains(&key(u64::MAX)), None);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_only_right_bytes_while_segments_are_evicted() {
    for io in ways() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let config = StoreConfig { table_memory: 256 << 10, ..bare(dir.path(), 2 << 20, io) };
        let store = Store::open(config, &registry).await.unwrap();
        let lens = [300, 5000, 70_000, 150_000];
        let bytes = move |n: u64| block(n, lens[n as usize % 4]);
        let newest = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let mut readers = Vec::new();
        for reader in 0..64u64 {
            let (store, newest) = (store.clone(), Arc::clone(&newest));
            readers.push(shoal_runtime::task::spawn("reader", async move {
                let (mut found, mut at) = (0u64, reader);
                loop {
                    let newest = newest.load(std::sync::atomic::Ordering::SeqCst);
                    if newest == u64::MAX {
                        return found;
                    }
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // About as far back as the cache reaches: the oldest segment is being overwritten.
                    let n = newest.saturating_sub((at >> 33) % 60);
                    let whole = bytes(n);
                    let range = BlockRange::new((at >> 20) as u32 % whole.len() as u32, 1 + (at >> 40) as u32 % 9000);
                    found += u64::from(check(&store, n, &whole, range).await);
                    tokio::task::yield_now().await;
                }
            }));
        }
        for n in 1..600 {
            store.insert(&key(n), bytes(n)).await.unwrap();
            newest.store(n, std::sync::atomic::Ordering::SeqCst);
        }
        newest.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
        let mut found = 0;
        for reader in readers {
            found += reader.await.unwrap();
        }
        let stats = store.stats();
        assert!(found > 0 && stats.evictions > 300, "{found} found, {stats:?}");
        let corrupt = registry.counter("shoal_store_corrupt_total", "").get();
        assert_eq!(corrupt, 0, "a block that is overwritten while it is read is a miss, not damage");
        store.close().await;
    }
}

#[tokio::test]
async fn many_small_blocks_share_pages_and_writes() {
    let dir = tempfile::tempdir().unwrap();
    let faults = shoal_store::testing::Faults::default();
    let config = bare(dir.path(), 64 << 20, Default::default());
    let store = shoal_store::testing::open(config, &Registry::new(), std::slice::from_ref(&faults)).await.unwrap();
    let inserts = (0..5000).map(|n| {
        let store = store.clone();
        shoal_runtime::task::spawn("insert", async move { store.insert(&key(n), block(n, 300)).await })
    });
    for insert in inserts.collect::<Vec<_>>() {
        insert.await.unwrap().unwrap();
    }
    let stats = store.stats();
    assert_eq!(stats.blocks, 5000);
    assert!(stats.nvme_used < 5000 * 512, "{} bytes for 5000 blocks of 300", stats.nvme_used);
    assert!(faults.writes() < 500, "{} writes for 5000 blocks", faults.writes());
    for n in 0..5000 {
        assert!(check_whole(&store, n, &block(n, 300)).await);
    }
    store.close().await;
    let store = open(bare(dir.path(), 64 << 20, Default::default())).await;
    assert_eq!(store.stats().blocks, 5000);
    for n in (0..5000).step_by(7) {
        assert!(check_whole(&store, n, &block(n, 300)).await);
    }
    store.close().await;
}

#[tokio::test]
async fn concurrent_inserts_of_one_key_write_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(bare(dir.path(), 8 << 20, Default::default())).await;
    let bytes = block(1, 100_000);
    let inserts = (0..50).map(|_| {
        let (store, bytes) = (store.clone(), bytes.clone());
        shoal_runtime::task::spawn("insert", async move { store.insert(&key(1), bytes).await })
    });
    for insert in inserts.collect::<Vec<_>>() {
        insert.await.unwrap().unwrap();
    }
    let used = store.stats().nvme_used;
    store.insert(&key(1), bytes.clone()).await.unwrap();
    assert_eq!((store.stats().nvme_used, store.stats().blocks), (used, 1));
    assert!(used < 110_000 && check_whole(&store, 1, &bytes).await);
    assert_eq!(store.contains(&key(1)), Some(Tier::Nvme));
    store.close().await;
}

#[tokio::test]
async fn dropped_futures_leave_a_working_store() {
    for io in ways() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(bare(dir.path(), 8 << 20, io)).await;
        let bytes = block(0, 300_000);
        store.insert(&key(0), bytes.clone()).await.unwrap();
        for n in 1..60 {
            let (mine, first) = (key(n), key(0));
            let mut insert = Box::pin(store.insert(&mine, block(n, 50_000)));
            let mut read = Box::pin(store.read(&first, BlockRange::WHOLE));
            for _ in 0..n % 4 {
                let mut poll_once = |cx: &mut std::task::Context<'_>| {
                    let ended = read.as_mut().poll(cx).is_ready() || insert.as_mut().poll(cx).is_ready();
                    std::task::Poll::Ready(ended)
                };
                if std::future::poll_fn(&mut poll_once).await {
                    break;
                }
            }
            drop((insert, read));
        }
        let left: HashSet<_> = (1..60).filter(|&n| store.contains(&key(n)).is_some()).collect();
        for n in 1..60 {
            let whole = block(n, 50_000);
            store.insert(&key(n), whole.clone()).await.unwrap();
            assert!(check_whole(&store, n, &whole).await, "{n}, of {left:?} that were there");
        }
        assert!(check_whole(&store, 0, &bytes).await);
        store.close().await;
    }
}
