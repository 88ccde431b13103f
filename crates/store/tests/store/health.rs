//! A disk that errs or hangs leaves service alone, nobody waits for it, and it is back once it answers.

use std::time::Duration;

use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_store::testing::{self, Faults};
use shoal_store::{DirConfig, IoChoice, Store, StoreConfig};
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::ErrorKind;

use super::common::{bare, block, check_whole, eventually, key, memory_dir, open, quick};

const EIO: i32 = 5;
/// Far above every patience, far below for ever.
const BOUND: Duration = PATIENCE;

struct Pair {
    dirs: [tempfile::TempDir; 2],
    faults: [Faults; 2],
    registry: Registry,
    store: Store,
    /// Blocks of each directory.
    blocks: [Vec<u64>; 2],
}

/// A store of two directories with some blocks in each.
async fn pair(change: impl FnOnce(StoreConfig) -> StoreConfig) -> Pair {
    let dirs = [memory_dir(), memory_dir()];
    let faults = [Faults::default(), Faults::default()];
    let mut config = quick(bare(dirs[0].path(), 8 << 20, IoChoice::Auto));
    config.dirs.push(DirConfig { free_ratio: 0.0, ..DirConfig::new(dirs[1].path(), 8 << 20) });
    let registry = Registry::new();
    let store = testing::open(change(config), &registry, &faults).await.unwrap();
    let mut blocks = [Vec::new(), Vec::new()];
    // Which directory a block likes is chance: until each has some. Tests take the keys from 100 on.
    for n in 0..100 {
        let before = store.stats().dirs[0].blocks;
        store.insert(&key(n), block(n, 5000)).await.unwrap();
        blocks[usize::from(store.stats().dirs[0].blocks == before)].push(n);
        if blocks.iter().all(|blocks| blocks.len() > 9) {
            break;
        }
    }
    assert!(blocks.iter().all(|blocks| blocks.len() > 9), "{blocks:?}");
    Pair { dirs, faults, registry, store, blocks }
}

async fn there(store: &Store, blocks: &[u64]) -> usize {
    let mut found = 0;
    for &n in blocks {
        let bytes = block(n, 5000);
        let read = clock::timeout(BOUND, check_whole(store, n, &bytes)).await;
        found += usize::from(read.expect("no read hangs"));
    }
    found
}

#[tokio::test]
async fn a_hung_disk_is_out_of_service_alone_and_comes_back_with_its_blocks() {
    let Pair { dirs: _dirs, faults, registry, store, blocks } = pair(|config| config).await;
    faults[0].hang();
    // A hundred readers at once, and as many inserts: all end.
    let readers: Vec<_> = (0..100)
        .map(|n| {
            let (store, n) = (store.clone(), blocks[0][n % blocks[0].len()]);
            task::spawn("reader", async move { there(&store, &[n]).await })
        })
        .collect();
    let inserts: Vec<_> = (100..200)
        .map(|n| {
            let store = store.clone();
            task::spawn("insert", async move { clock::timeout(BOUND, store.insert(&key(n), block(n, 5000))).await })
        })
        .collect();
    assert_eq!(there(&store, &blocks[1]).await, blocks[1].len(), "the other disk serves");
    for reader in readers {
        assert_eq!(reader.await.unwrap(), 0);
    }
    for insert in inserts {
        insert.await.unwrap().expect("no insert hangs").expect("the other directory takes it");
    }
    eventually("the hung directory is out", || !store.stats().dirs[0].in_service).await;
    assert!(store.stats().dirs[1].in_service && store.contains(&key(blocks[0][0])).is_none());
    assert_eq!(there(&store, &blocks[0]).await, 0);
    let text = registry.gather_text();
    for line in [
        "shoal_store_dir_in_service{dir=\"0\"} 0",
        "shoal_store_dir_in_service{dir=\"1\"} 1",
        "shoal_store_dir_transitions_total{dir=\"0\",to=\"out\"} 1",
        "shoal_store_reads_total{outcome=\"late\",tier=\"nvme\"}",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    faults[0].release();
    eventually("the directory is back", || store.stats().dirs[0].in_service).await;
    assert_eq!(there(&store, &blocks[0]).await, blocks[0].len(), "its index was kept");
    let text = registry.gather_text();
    assert!(text.contains("shoal_store_dir_transitions_total{dir=\"0\",to=\"in\"} 1"), "{text}");
    for n in 200..240 {
        store.insert(&key(n), block(n, 5000)).await.unwrap();
    }
    assert_eq!(there(&store, &(100..240).collect::<Vec<_>>()).await, 140);
    store.close().await;
}

#[tokio::test]
async fn a_disk_that_still_hangs_is_not_put_back_by_good_probes() {
    let Pair { dirs: _dirs, faults, store, blocks, .. } = pair(|config| config).await;
    faults[0].hang();
    let reader = {
        let (store, n) = (store.clone(), blocks[0][0]);
        task::spawn("reader", async move { there(&store, &[n]).await })
    };
    eventually("the hung directory is out", || !store.stats().dirs[0].in_service).await;
    assert_eq!(reader.await.unwrap(), 0);
    faults[0].answer_new();
    clock::sleep(Duration::from_millis(300)).await;
    assert!(!store.stats().dirs[0].in_service, "a read is still with the device");
    faults[0].release();
    eventually("the directory is back", || store.stats().dirs[0].in_service).await;
    store.close().await;
}

#[tokio::test]
async fn a_hung_disk_holds_no_more_than_its_share_of_the_memory_for_reads() {
    let small = |config| StoreConfig { read_memory: 0, read_depth: 4, ..config };
    let Pair { dirs: _dirs, faults, store, blocks, .. } = pair(small).await;
    faults[0].hang();
    let readers: Vec<_> = (0..50)
        .map(|n| {
            let (store, n) = (store.clone(), blocks[0][n % blocks[0].len()]);
            task::spawn("reader", async move { there(&store, &[n]).await })
        })
        .collect();
    assert_eq!(there(&store, &blocks[1]).await, blocks[1].len());
    for reader in readers {
        assert_eq!(reader.await.unwrap(), 0);
    }
    faults[0].release();
    store.close().await;
}

#[tokio::test]
async fn closing_does_not_wait_for_a_hung_disk_and_its_lock_stays_until_it_answers() {
    let Pair { dirs, faults, store, blocks, .. } = pair(|config| config).await;
    faults[0].hang();
    let inserts: Vec<_> = (100..150)
        .map(|n| {
            let store = store.clone();
            task::spawn("insert", async move { store.insert(&key(n), block(n, 5000)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    clock::timeout(BOUND, store.close()).await.expect("close ends");
    for insert in inserts {
        let _ = clock::timeout(BOUND, insert).await.expect("no insert hangs");
    }
    let again = bare(dirs[0].path(), 8 << 20, IoChoice::Auto);
    let error = Store::open(again.clone(), &Registry::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "a write is still on its way: {error}");
    faults[0].release();
    let mut reopened = None;
    wait_until_async("the lock is free once the device answered", PATIENCE, async || {
        reopened = Store::open(again.clone(), &Registry::new()).await.ok();
        reopened.is_some()
    })
    .await;
    let store = reopened.expect("it was waited for");
    assert_eq!(there(&store, &blocks[0]).await, blocks[0].len());
    store.close().await;
}

#[tokio::test]
async fn a_disk_that_errs_comes_back_with_its_blocks() {
    let Pair { dirs: _dirs, faults, store, blocks, .. } = pair(|config| config).await;
    faults[0].fail_reads(EIO);
    assert_eq!(there(&store, &blocks[0][..8]).await, 0);
    assert!(!store.stats().dirs[0].in_service, "eight errors in a row");
    assert_eq!(there(&store, &blocks[1]).await, blocks[1].len());
    clock::sleep(Duration::from_millis(300)).await;
    assert!(!store.stats().dirs[0].in_service, "probes fail like all else");
    faults[0].fail_reads(0);
    eventually("the directory is back", || store.stats().dirs[0].in_service).await;
    // The seven whose reads failed while it was in service are gone; all others are there, the eighth as well.
    assert_eq!(there(&store, &blocks[0]).await, blocks[0].len() - 7);
    store.close().await;
}

#[tokio::test]
async fn a_read_only_disk_is_not_put_back_by_reads_that_work() {
    let Pair { dirs: _dirs, faults, store, .. } = pair(|config| config).await;
    faults[0].fail_writes(30);
    for n in 100..150 {
        store.insert(&key(n), block(n, 5000)).await.unwrap();
    }
    assert!(!store.stats().dirs[0].in_service);
    clock::sleep(Duration::from_millis(300)).await;
    assert!(!store.stats().dirs[0].in_service, "it reads, and it does not write");
    faults[0].fail_writes(0);
    eventually("the directory is back", || store.stats().dirs[0].in_service).await;
    store.close().await;
}

#[tokio::test]
async fn errors_now_and_then_cost_blocks_and_no_disk() {
    let Pair { dirs: _dirs, faults, store, blocks, .. } = pair(|config| config).await;
    for &n in &blocks[0] {
        faults[0].fail_reads(EIO);
        assert_eq!(there(&store, &[n]).await, 0);
        faults[0].fail_reads(0);
        assert_eq!(there(&store, &blocks[1][..1]).await, 1);
        store.insert(&key(n), block(n, 5000)).await.unwrap();
        assert_eq!(there(&store, &[n]).await, 1, "a success in between starts the count anew");
    }
    assert!(store.stats().dirs[0].in_service && blocks[0].len() > 8);
    store.close().await;
}

#[tokio::test]
async fn a_failed_write_hides_nothing_that_was_acknowledged() {
    let dir = memory_dir();
    let faults = [Faults::default()];
    let config = StoreConfig { segment_bytes: Some(256 << 10), ..quick(bare(dir.path(), 16 << 20, IoChoice::Auto)) };
    let store = testing::open(config.clone(), &Registry::new(), &faults).await.unwrap();
    let mut stored = Vec::new();
    for n in 0..60 {
        let fails = n % 7 == 3;
        faults[0].fail_writes(if fails { EIO } else { 0 });
        if store.insert(&key(n), block(n, 20_000)).await.is_ok() {
            stored.push(n);
        } else {
            assert!(fails);
        }
    }
    faults[0].fail_writes(0);
    assert!(stored.len() > 45 && stored.len() < 60);
    // What a crash right now would leave: a copy of the files.
    let copy = tempfile::tempdir().unwrap();
    for file in ["shoal-cache.json", "shoal-cache.slab"] {
        std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    }
    let crashed = open(bare(copy.path(), 16 << 20, IoChoice::Auto)).await;
    for &n in &stored {
        assert!(check_whole(&store, n, &block(n, 20_000)).await, "{n}");
        assert!(check_whole(&crashed, n, &block(n, 20_000)).await, "{n} after a crash");
    }
    assert_eq!(crashed.stats().blocks, stored.len() as u64);
    crashed.close().await;
    store.close().await;
    let store = open(config).await;
    for &n in &stored {
        assert!(check_whole(&store, n, &block(n, 20_000)).await, "{n} after a restart");
    }
    store.close().await;
}
