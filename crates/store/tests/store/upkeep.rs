//! What a store does by itself: it leaves its file system room, and looks for damage before a reader meets it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use shoal_runtime::metrics::Registry;
use shoal_store::testing::{self, Faults};
use shoal_store::{DirConfig, IoChoice, Store, StoreConfig};
use shoal_types::ErrorKind;

use super::common::{Mounted, bare, block, check_whole, eventually, files, key, memory_dir, open, quick};

const EIO: i32 = 5;

/// Bytes free in the file system of `path`.
fn free_bytes(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Segments of 1 MiB, and a look at the file system every 200 ms.
fn config(dir: &Path, bytes: u64, free_ratio: f64) -> StoreConfig {
    let dirs = vec![DirConfig { free_ratio, ..DirConfig::new(dir, bytes) }];
    let probe_every = Duration::from_millis(40);
    StoreConfig { dirs, segment_bytes: Some(1 << 20), probe_every, ..bare(dir, bytes, IoChoice::Auto) }
}

async fn fill(store: &Store, blocks: std::ops::Range<u64>) {
    for n in blocks {
        store.insert(&key(n), block(n, 200_000)).await.unwrap();
        assert!(check_whole(store, n, &block(n, 200_000)).await, "{n}");
    }
}

#[tokio::test]
async fn a_cache_gives_space_back_while_others_fill_the_file_system_and_takes_it_again() {
    for mounted in [Mounted::tmpfs("size=64m"), Mounted::ext4(64 << 20)] {
        let Some(mounted) = mounted else { continue };
        let path = mounted.path();
        let store = open(config(path, 32 << 20, 0.25)).await;
        fill(&store, 0..300).await;
        let before = (store.stats().nvme_limit, files(path).1);
        assert!(before.0 == 32 << 20 && before.1 > 30 << 20, "{before:?}");
        // Somebody else takes space, so that less than a quarter is free.
        let other = File::create(path.join("other")).unwrap();
        for mib in 0..24 {
            let written = || other.write_all_at(&[1; 1 << 20], mib << 20).is_ok();
            eventually("the cache makes room for others", written).await;
        }
        drop(other);
        eventually("the cache shrank", || store.stats().nvme_limit < 26 << 20).await;
        eventually("the files shrank", || files(path).1 < (24 + 26) << 20).await;
        let small = store.stats();
        assert!(small.nvme_used < small.nvme_limit, "{small:?}");
        fill(&store, 300..500).await;
        assert!(files(path).1 < (24 + 26) << 20, "the limit holds");
        let newest = 400..500;
        store.close().await;
        let store = open(config(path, 32 << 20, 0.25)).await;
        eventually("it is as small after a restart", || store.stats().nvme_limit < 26 << 20).await;
        let mut there = 0;
        for n in newest {
            there += usize::from(check_whole(&store, n, &block(n, 200_000)).await);
        }
        assert!(there > 50, "{there}: what was stored last is there");
        std::fs::remove_file(path.join("other")).unwrap();
        eventually("the cache grew", || store.stats().nvme_limit > 30 << 20).await;
        fill(&store, 600..900).await;
        assert!(files(path).1 > 28 << 20);
        store.close().await;
    }
}

#[tokio::test]
async fn a_cache_starts_smaller_where_its_size_would_leave_too_little_free() {
    let Some(mounted) = Mounted::tmpfs("size=40m") else { return };
    let path = mounted.path();
    let store = open(config(path, 36 << 20, 0.5)).await;
    eventually("it took what it may", || (17 << 20..=20 << 20).contains(&store.stats().nvme_limit)).await;
    fill(&store, 0..200).await;
    assert!(files(path).1 <= 20 << 20, "{:?}", files(path));
    store.close().await;
    // Where less is free than should stay free, the smallest cache is made; where that does not fit, or could not ever, none.
    std::fs::write(path.join("other"), vec![1; 10 << 20]).unwrap();
    let second = path.join("second");
    std::fs::create_dir(&second).unwrap();
    let small = open(config(&second, 36 << 20, 0.5)).await;
    eventually("it is as small as can be", || small.stats().nvme_limit == 4 << 20).await;
    small.close().await;
    let left = free_bytes(path);
    std::fs::write(path.join("more"), vec![1; left as usize - (3 << 20)]).unwrap();
    for (bytes, says) in [(36 << 20, "free, 36M were asked"), (1 << 40, "1T were asked")] {
        let other = path.join("cache");
        std::fs::create_dir_all(&other).unwrap();
        let error = Store::open(config(&other, bytes, 0.5), &Registry::new()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::NoSpace && error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_full_ext4_neither_breaks_a_cache_nor_is_overfilled() {
    let Some(mounted) = Mounted::ext4(48 << 20) else { return };
    let path = mounted.path();
    let store = open(config(path, 24 << 20, 0.0)).await;
    assert!(std::fs::write(path.join("other"), vec![1; 64 << 20]).is_err(), "the file system should be full now");
    fill(&store, 0..200).await;
    // Rules and all else that needs a new file say so; blocks go on.
    let refused = store.set_rules(Vec::new()).await;
    assert!(refused.is_ok() || refused.unwrap_err().kind() == ErrorKind::NoSpace);
    store.close().await;
    let store = open(config(path, 24 << 20, 0.0)).await;
    assert!(check_whole(&store, 199, &block(199, 200_000)).await);
    store.close().await;
}

/// Changes one byte of `block` in the slab of `dir`.
fn damage(dir: &Path, block: &[u8], at: usize) {
    let slab = dir.join("shoal-cache.slab");
    let place = std::fs::read(&slab).unwrap().windows(64).position(|bytes| bytes == &block[at..at + 64]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&slab).unwrap();
    file.write_all_at(&[!block[at]], place as u64).unwrap();
    file.sync_all().unwrap();
}

#[tokio::test]
async fn scrubbing_finds_damage_before_a_reader_does() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let config = StoreConfig { scrub_rate: 1 << 30, ..bare(dir.path(), 8 << 20, IoChoice::Auto) };
    let store = Store::open(config, &registry).await.unwrap();
    let lens = [300, 5000, 70_000, 600_000];
    for n in 0..20 {
        store.insert(&key(n), block(n, lens[n as usize % 4])).await.unwrap();
    }
    let passes = registry.counter("shoal_store_scrub_passes_total", "");
    let seen = passes.get();
    eventually("two passes over what is fine", || passes.get() > seen + 1).await;
    let found = registry.counter("shoal_store_scrub_corrupt_total", "");
    assert_eq!(found.get(), 0);
    assert!(registry.counter("shoal_store_scrubbed_bytes_total", "").get() > 3_000_000);
    for (n, at) in [(4, 100), (5, 4000), (6, 60_000), (7, 590_000)] {
        damage(dir.path(), &block(n, lens[n as usize % 4]), at);
    }
    eventually("all four are found", || found.get() == 4).await;
    for n in 0..20 {
        assert_eq!(store.contains(&key(n)).is_some(), !(4..8).contains(&n), "{n}");
        if store.contains(&key(n)).is_some() {
            assert!(check_whole(&store, n, &block(n, lens[n as usize % 4])).await);
        }
    }
    store.close().await;
    let after = passes.get();
    tokio::task::yield_now().await;
    assert!(passes.get() <= after + 1, "a closed store is not scrubbed");
}

#[tokio::test]
async fn scrubbing_drops_what_cannot_be_read_and_waits_for_nobody() {
    let dir = memory_dir();
    let faults = Faults::default();
    let registry = Registry::new();
    let config = StoreConfig { scrub_rate: 1 << 30, ..quick(bare(dir.path(), 8 << 20, IoChoice::Auto)) };
    let store = testing::open(config, &registry, std::slice::from_ref(&faults)).await.unwrap();
    for n in 0..10 {
        store.insert(&key(n), block(n, 70_000)).await.unwrap();
    }
    faults.hang();
    eventually("the hung directory is out", || !store.stats().dirs[0].in_service).await;
    faults.release();
    eventually("it is back", || store.stats().dirs[0].in_service).await;
    let mut there = 0;
    for n in 0..10 {
        there += usize::from(check_whole(&store, n, &block(n, 70_000)).await);
    }
    assert_eq!(there, 10, "what was late is not damaged");
    faults.fail_reads(EIO);
    eventually("reads that fail take the directory out", || !store.stats().dirs[0].in_service).await;
    faults.fail_reads(0);
    eventually("it is back", || store.stats().dirs[0].in_service).await;
    assert!(store.stats().blocks >= 2, "seven at most were dropped");
    store.close().await;
}

#[tokio::test]
async fn a_truncated_slab_costs_its_blocks_and_nothing_else() {
    let dir = memory_dir();
    let store = open(quick(bare(dir.path(), 8 << 20, IoChoice::Auto))).await;
    for n in 0..40 {
        store.insert(&key(n), block(n, 70_000)).await.unwrap();
    }
    let slab = std::fs::OpenOptions::new().write(true).open(dir.path().join("shoal-cache.slab")).unwrap();
    slab.set_len(300_000).unwrap();
    for n in 0..40 {
        check_whole(&store, n, &block(n, 70_000)).await;
    }
    eventually("it is in service", || store.stats().dirs[0].in_service).await;
    for n in 100..140 {
        let mut stored = store.insert(&key(n), block(n, 70_000)).await;
        if stored.is_err() {
            eventually("it is in service", || store.stats().dirs[0].in_service).await;
            stored = store.insert(&key(n), block(n, 70_000)).await;
        }
        stored.unwrap();
        assert!(check_whole(&store, n, &block(n, 70_000)).await, "{n}");
    }
    store.close().await;
}

#[tokio::test]
async fn foreign_files_in_the_place_of_ours_are_named_or_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("shoal-cache.slab")).unwrap();
    let error = Store::open(bare(dir.path(), 8 << 20, IoChoice::Auto), &Registry::new()).await.unwrap_err();
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    std::fs::remove_dir(dir.path().join("shoal-cache.slab")).unwrap();
    std::fs::write(dir.path().join("shoal-cache.slab"), b"something else").unwrap();
    std::fs::write(dir.path().join("shoal-rules.json"), b"something else").unwrap();
    std::fs::write(dir.path().join("shoal-cache.json.tmp"), b"something else").unwrap();
    let store = open(bare(dir.path(), 8 << 20, IoChoice::Auto)).await;
    assert!(store.rules().is_empty() && store.stats().blocks == 0);
    store.insert(&key(1), block(1, 5000)).await.unwrap();
    assert!(check_whole(&store, 1, &block(1, 5000)).await);
    store.close().await;
}
