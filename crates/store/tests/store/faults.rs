//! Devices that fail while the store runs: reads become misses, writes go elsewhere or say why not, the rest keeps working.

use shoal_runtime::metrics::Registry;
use shoal_store::testing::{self, Faults};
use shoal_store::{DirConfig, IoChoice, Store, StoreConfig};
use shoal_types::ErrorKind;

use super::common::{Mounted, bare, block, check_whole, eventually, files, key, memory_dir, open, quick};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

#[tokio::test]
async fn a_directory_that_cannot_be_written_goes_out_of_service_and_others_take_over() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let faults = [Faults::default(), Faults::default()];
    let mut config = bare(dirs[0].path(), 8 << 20, IoChoice::Auto);
    config.dirs.push(DirConfig { free_ratio: 0.0, ..DirConfig::new(dirs[1].path(), 8 << 20) });
    let store = testing::open(config, &Registry::new(), &faults).await.unwrap();
    for n in 0..40 {
        store.insert(&key(n), block(n, 5000)).await.unwrap();
    }
    let before: Vec<_> = store.stats().dirs.iter().map(|dir| dir.blocks).collect();
    assert!(before[0] > 5 && before[1] > 5, "{before:?}");
    faults[0].fail_writes(EROFS);
    for n in 40..80 {
        store.insert(&key(n), block(n, 5000)).await.unwrap();
        assert!(check_whole(&store, n, &block(n, 5000)).await);
    }
    let stats = store.stats();
    assert!(!stats.dirs[0].in_service && stats.dirs[1].in_service);
    let kept = (stats.dirs[0].blocks, stats.dirs[1].blocks);
    assert!(kept.0 >= before[0] && kept.0 + kept.1 == 80, "{kept:?} after {before:?}");
    assert_eq!((stats.blocks, stats.nvme_limit), (kept.1, 8 << 20), "what is out of service does not count");
    let mut left = 0;
    for n in 0..40 {
        left += u64::from(check_whole(&store, n, &block(n, 5000)).await);
    }
    assert_eq!(left, before[1], "the failed directory's blocks are misses");
    faults[1].fail_writes(EIO);
    let error = store.insert(&key(100), block(100, 5000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains(&dirs[1].path().display().to_string()), "{error}");
    for n in 101..103 {
        store.insert(&key(n), block(n, 5000)).await.unwrap_err();
    }
    let error = store.insert(&key(103), block(103, 5000)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("no cache directory"), "{error}");
    assert!(!check_whole(&store, 50, &block(50, 5000)).await);
    store.close().await;
}

#[tokio::test]
async fn a_full_file_system_is_reported_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let faults = [Faults::default()];
    let config = StoreConfig { memory: 1 << 20, ..bare(dir.path(), 8 << 20, IoChoice::Auto) };
    let store = testing::open(config, &Registry::new(), &faults).await.unwrap();
    faults[0].fail_writes(ENOSPC);
    let error = store.insert(&key(1), block(1, 5000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(check_whole(&store, 1, &block(1, 5000)).await, "the copy in RAM stays");
    store.close().await;
}

#[tokio::test]
async fn unreadable_blocks_are_misses_and_a_dead_device_leaves_service() {
    let dir = tempfile::tempdir().unwrap();
    let faults = [Faults::default()];
    let registry = Registry::new();
    let store = testing::open(bare(dir.path(), 8 << 20, IoChoice::Auto), &registry, &faults).await.unwrap();
    for n in 0..30 {
        store.insert(&key(n), block(n, 5000)).await.unwrap();
    }
    faults[0].fail_reads(EIO);
    assert!(!check_whole(&store, 0, &block(0, 5000)).await);
    faults[0].fail_reads(0);
    assert!(!check_whole(&store, 0, &block(0, 5000)).await, "an unreadable block is forgotten");
    assert!(check_whole(&store, 1, &block(1, 5000)).await, "its neighbours are not");
    store.insert(&key(0), block(0, 5000)).await.unwrap();
    assert!(check_whole(&store, 0, &block(0, 5000)).await, "it may come again");
    faults[0].fail_reads(EIO);
    for n in 0..30 {
        assert!(!check_whole(&store, n, &block(n, 5000)).await);
    }
    assert!(!store.stats().dirs[0].in_service && store.stats().blocks == 0);
    let text = registry.gather_text();
    assert!(text.contains("shoal_store_reads_total{outcome=\"failed\",tier=\"nvme\"} 9"), "{text}");
    store.close().await;
}

#[tokio::test]
async fn a_failure_in_mid_flight_answers_everyone() {
    let dir = memory_dir();
    let faults = [Faults::default()];
    let config = StoreConfig { segment_bytes: Some(1 << 20), ..quick(bare(dir.path(), 32 << 20, IoChoice::Auto)) };
    let store = testing::open(config, &Registry::new(), &faults).await.unwrap();
    let inserts: Vec<_> = (0..500)
        .map(|n| {
            let (store, faults) = (store.clone(), faults[0].clone());
            shoal_runtime::task::spawn("insert", async move {
                if n == 250 {
                    faults.fail_writes(EIO);
                }
                store.insert(&key(n), block(n, 20_000)).await
            })
        })
        .collect();
    let mut stored = Vec::new();
    for (n, insert) in (0..).zip(inserts) {
        if insert.await.unwrap().is_ok() {
            stored.push(n);
        }
    }
    assert!(stored.len() < 500);
    assert_eq!((store.stats().blocks, store.stats().nvme_used), (0, 0), "{} stored", stored.len());
    faults[0].fail_writes(0);
    eventually("the directory is back", || store.stats().dirs[0].in_service).await;
    for &n in &stored {
        assert!(check_whole(&store, n, &block(n, 20_000)).await, "{n} was acknowledged");
    }
    store.close().await;
}

#[tokio::test]
async fn a_full_file_system_neither_opens_nor_breaks_a_cache() {
    let Some(mounted) = Mounted::tmpfs("size=12m") else { return };
    let path = mounted.path();
    let error = Store::open(bare(path, 16 << 20, IoChoice::Auto), &Registry::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("has 12.0M free, 16M were asked"), "{error}");
    let store = open(bare(path, 8 << 20, IoChoice::Auto)).await;
    // Somebody else takes the rest: the cache reserved its share.
    let filled = std::fs::write(path.join("other"), vec![1; 8 << 20]);
    assert!(filled.is_err(), "the file system should be full now");
    for n in 0..40 {
        store.insert(&key(n), block(n, 500_000)).await.unwrap();
        assert!(check_whole(&store, n, &block(n, 500_000)).await);
    }
    assert!(store.stats().evictions > 20 && store.stats().nvme_used <= 8 << 20);
    store.close().await;
    let store = open(bare(path, 8 << 20, IoChoice::Auto)).await;
    assert!(check_whole(&store, 39, &block(39, 500_000)).await);
    store.close().await;
    std::fs::remove_file(path.join("other")).unwrap();
    assert!(files(path).1 <= 8 << 20);
}

#[tokio::test]
async fn a_read_only_file_system_is_denied() {
    let Some(mounted) = Mounted::tmpfs("size=12m,ro") else { return };
    let error = Store::open(bare(mounted.path(), 8 << 20, IoChoice::Auto), &Registry::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("cannot be written"), "{error}");
}
