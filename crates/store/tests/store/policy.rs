//! What stays when space runs out: blocks in use, pinned blocks, nothing that is too old, and no more than the limit.

use std::path::Path;
use std::time::Duration;

use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use shoal_store::{Admission, GroupRule, InsertHint, IoChoice, Store, StoreConfig};
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::{BlockKey, ErrorKind, OriginId, Tier};

use super::common::{Rng, bare, block, check_whole, eventually, files, key, open};

/// Thirty segments of fourteen blocks.
const LIMIT: u64 = 2 << 20;
const SEGMENT: u64 = 64 << 10;
/// With its head a block takes a sector.
const LEN: usize = 3900;

fn small_segments(dir: &Path) -> StoreConfig {
    StoreConfig { segment_bytes: Some(SEGMENT), ..bare(dir, LIMIT, IoChoice::Auto) }
}

async fn insert(store: &Store, n: u64) {
    store.insert(&key(n), block(n, LEN)).await.unwrap();
}

/// Stores many blocks, some at once.
async fn insert_all(store: &Store, blocks: std::ops::Range<u64>) {
    let blocks: Vec<_> = blocks.collect();
    for some in blocks.chunks(12) {
        let inserts = some.iter().map(|&n| {
            let store = store.clone();
            task::spawn("insert", async move { insert(&store, n).await })
        });
        for insert in inserts.collect::<Vec<_>>() {
            insert.await.unwrap();
        }
    }
}

async fn read(store: &Store, n: u64) -> bool {
    check_whole(store, n, &block(n, LEN)).await
}

async fn count(store: &Store, blocks: impl Iterator<Item = u64>) -> usize {
    let mut there = 0;
    for n in blocks {
        there += usize::from(read(store, n).await);
    }
    there
}

/// A reader of `blocks` that stores what it misses; gives the hits.
async fn read_through(store: &Store, blocks: impl Iterator<Item = u64>) -> usize {
    let mut hits = 0;
    for n in blocks {
        if read(store, n).await {
            hits += 1;
        } else {
            insert(store, n).await;
        }
    }
    hits
}

#[tokio::test]
async fn blocks_in_use_stay_and_the_limit_holds_at_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let store = Store::open(small_segments(dir.path()), &registry).await.unwrap();
    for n in 0..50 {
        insert(&store, n).await;
        for other in 0..4 {
            insert(&store, 10_000 + n * 4 + other).await;
        }
    }
    // Three times the cache passes by while the fifty are read every now and then.
    let mut lost = 0;
    for n in 1000..2200 {
        insert(&store, n).await;
        if n % 100 == 0 {
            lost += 50 - count(&store, 0..50).await;
        }
        let (length, allocated) = files(dir.path());
        let stats = store.stats();
        assert!(length <= LIMIT && allocated <= LIMIT && stats.nvme_used <= LIMIT, "{length} {allocated} {stats:?}");
    }
    assert_eq!(lost, 0, "blocks that are read are carried forward");
    assert!(registry.counter("shoal_store_carried_total", "").get() >= 60);
    assert!(store.stats().evictions > 700);
    assert_eq!(count(&store, 1000..1600).await, 0, "who is not read leaves in the order it came");
    let full = store.stats();
    assert!(full.nvme_used > LIMIT * 7 / 10, "{full:?}");
    store.close().await;
    let store = open(small_segments(dir.path())).await;
    assert_eq!(store.stats().blocks, full.blocks, "carried blocks survive a restart");
    assert_eq!(count(&store, 0..50).await, 50);
    store.close().await;
}

#[tokio::test]
async fn blocks_that_ram_has_are_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(StoreConfig { memory: 1 << 20, ..small_segments(dir.path()) }).await;
    for n in 0..20 {
        insert(&store, n).await;
        for other in 0..4 {
            insert(&store, 10_000 + n * 4 + other).await;
        }
    }
    for n in 1000..2000 {
        insert(&store, n).await;
        // All these reads end in RAM.
        let found = store.read_ram(&key(n % 20), shoal_types::BlockRange::WHOLE);
        assert!(found.is_some() || n < 1010, "{n}");
    }
    store.close().await;
    let store = open(small_segments(dir.path())).await;
    assert_eq!(count(&store, 0..20).await, 20);
    store.close().await;
}

#[tokio::test]
async fn a_scan_does_not_flush_the_working_set() {
    for (admission, kept) in [(Admission::SecondMiss, 100..101), (Admission::All, 0..60)] {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let config = StoreConfig { admission, ..small_segments(dir.path()) };
        let store = Store::open(config, &registry).await.unwrap();
        // A working set of six tenths of the cache, then three times the cache once, then the working set again.
        let set = 250;
        for _ in 0..3 {
            read_through(&store, 0..set).await;
        }
        let evictions = store.stats().evictions;
        assert_eq!((read_through(&store, 0..set).await, evictions), (set as usize, 0), "it fits");
        assert_eq!(read_through(&store, 10_000..11_200).await, 0);
        let percent = count(&store, 0..set).await * 100 / set as usize;
        assert!(kept.contains(&percent), "{admission:?} kept {percent} %");
        let turned_away = registry.counter("shoal_store_turned_away_total", "").get();
        assert_eq!(turned_away > 800, admission == Admission::SecondMiss, "{turned_away}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_full_cache_lets_in_who_comes_again_and_who_is_warmed() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { admission: Admission::SecondMiss, memory: 1 << 20, ..small_segments(dir.path()) };
    let store = open(config).await;
    insert_all(&store, 0..900).await;
    insert(&store, 5000).await;
    assert_eq!(store.contains(&key(5000)), Some(Tier::Ram), "the copy in RAM is made in any case");
    assert!(store.scan(None, 10_000).await.unwrap().0.iter().all(|stored| stored.key != key(5000)));
    insert(&store, 5000).await;
    assert!(store.scan(None, 10_000).await.unwrap().0.iter().any(|stored| stored.key == key(5000)));
    store.insert_with(&key(6000), block(6000, LEN), InsertHint { warm: true }).await.unwrap();
    assert!(store.scan(None, 10_000).await.unwrap().0.iter().any(|stored| stored.key == key(6000)));
    store.close().await;
}

fn pinned(n: u64) -> BlockKey {
    BlockKey::whole(OriginId([7; 16]), &format!("pinned/{n}"))
}

fn pin_rule() -> GroupRule {
    GroupRule { origin: OriginId([7; 16]), prefix: "pinned/".into(), pin: true, ttl: None }
}

async fn pinned_left(store: &Store, blocks: u64) -> u64 {
    let mut there = 0;
    for n in 0..blocks {
        there += u64::from(store.contains(&pinned(n)).is_some());
    }
    there
}

#[tokio::test]
async fn pinned_blocks_stay_whatever_comes_up_to_half_of_the_directory() {
    // Alone in their segments, and among others.
    for mixed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new();
        let store = Store::open(small_segments(dir.path()), &registry).await.unwrap();
        for n in 0..150 {
            store.insert(&pinned(n), block(n, LEN)).await.unwrap();
            if mixed {
                insert(&store, 100_000 + n).await;
            }
        }
        // Also for blocks that were stored before the rule.
        store.set_rules(vec![pin_rule()]).await.unwrap();
        insert_all(&store, 0..1200).await;
        assert_eq!(pinned_left(&store, 150).await, 150, "mixed: {mixed}");
        store.close().await;
        let store = Store::open(small_segments(dir.path()), &registry).await.unwrap();
        assert_eq!(store.rules(), [pin_rule()], "rules survive a restart");
        insert_all(&store, 3000..4200).await;
        assert_eq!(pinned_left(&store, 150).await, 150, "after a restart, mixed: {mixed}");
        assert_eq!(registry.counter("shoal_store_pins_refused_total", "").get(), 0);
        // More than half of the directory: some pins cannot hold, and others' blocks still come in.
        for n in 150..700 {
            store.insert(&pinned(n), block(n, LEN)).await.unwrap();
        }
        for n in 6000..6900 {
            insert(&store, n).await;
            assert!(read(&store, n).await);
        }
        let left = pinned_left(&store, 700).await;
        assert!((120..=256).contains(&left), "{left} of about 400 that fit");
        assert!(registry.counter("shoal_store_pins_refused_total", "").get() > 0);
        // Without the rule they leave.
        store.set_rules(Vec::new()).await.unwrap();
        insert_all(&store, 9000..10_200).await;
        assert_eq!(pinned_left(&store, 700).await, 0);
        store.close().await;
    }
}

#[tokio::test]
async fn a_pinned_group_is_let_into_a_full_cache_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(StoreConfig { admission: Admission::SecondMiss, ..small_segments(dir.path()) }).await;
    insert_all(&store, 0..900).await;
    store.set_rules(vec![pin_rule()]).await.unwrap();
    store.insert(&pinned(1), block(1, LEN)).await.unwrap();
    assert_eq!(pinned_left(&store, 2).await, 1);
    store.close().await;
}

#[tokio::test]
async fn blocks_that_are_too_old_are_misses_in_every_tier_and_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { memory: 1 << 20, ..small_segments(dir.path()) };
    let store = open(config.clone()).await;
    let rule = |seconds| GroupRule {
        origin: OriginId([7; 16]),
        prefix: "pinned/".into(),
        pin: true,
        ttl: Some(Duration::from_secs(seconds)),
    };
    insert(&store, 1).await;
    for n in 0..30 {
        store.insert(&pinned(n), block(n, LEN)).await.unwrap();
    }
    store.set_rules(vec![rule(3600)]).await.unwrap();
    assert_eq!(pinned_left(&store, 30).await, 30);
    store.set_rules(vec![rule(1)]).await.unwrap();
    eventually("they are too old", || (0..30).all(|n| store.contains(&pinned(n)).is_none())).await;
    for n in 0..30 {
        assert!(store.read(&pinned(n), shoal_types::BlockRange::WHOLE).await.unwrap().is_none(), "{n}");
        assert!(store.read_ram(&pinned(n), shoal_types::BlockRange::WHOLE).is_none());
    }
    assert!(read(&store, 1).await, "others are not");
    store.close().await;
    // A restart does not make them younger; a new copy is young.
    let store = open(config).await;
    assert_eq!(pinned_left(&store, 30).await, 0);
    store.set_rules(vec![rule(3600)]).await.unwrap();
    assert_eq!(pinned_left(&store, 30).await, 30, "the time of storage is known after a restart");
    store.set_rules(vec![rule(2)]).await.unwrap();
    eventually("they are too old", || store.contains(&pinned(7)).is_none()).await;
    wait_until_async("a new copy is young", PATIENCE, async || {
        // On a slow disk it may be too old once it is there.
        store.insert(&pinned(7), block(7, LEN)).await.unwrap();
        store.contains(&pinned(7)).is_some()
    })
    .await;
    // What is too old is not carried forward, pinned or not.
    insert_all(&store, 0..1200).await;
    store.set_rules(vec![rule(3600)]).await.unwrap();
    let left = pinned_left(&store, 30).await;
    assert!(left <= 1, "{left}");
    store.close().await;
}

#[tokio::test]
async fn rules_have_bounds_and_work_without_directories() {
    let store = open(StoreConfig { memory: 1 << 20, ..StoreConfig::default() }).await;
    let error = store.set_rules(vec![pin_rule(); 257]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && store.rules().is_empty(), "{error}");
    store.set_rules(vec![GroupRule { ttl: Some(Duration::ZERO), ..pin_rule() }]).await.unwrap();
    store.insert(&pinned(1), block(1, LEN)).await.unwrap();
    eventually("it is too old", || store.contains(&pinned(1)).is_none()).await;
    store.close().await;
}

#[tokio::test]
async fn carried_blocks_are_verified() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let store = Store::open(small_segments(dir.path()), &registry).await.unwrap();
    insert_all(&store, 0..30).await;
    assert_eq!(count(&store, 10..13).await, 3, "these are in use");
    // One of them is damaged behind our back.
    let slab = dir.path().join("shoal-cache.slab");
    let wanted = block(11, LEN);
    let at = std::fs::read(&slab).unwrap().windows(64).position(|bytes| bytes == &wanted[1000..1064]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&slab).unwrap();
    file.write_all_at(&[!wanted[1000]], at as u64).unwrap();
    file.sync_all().unwrap();
    insert_all(&store, 1000..1410).await;
    assert!(store.contains(&key(11)).is_none() && store.contains(&key(12)).is_some());
    assert_eq!(registry.counter("shoal_store_carried_total", "").get(), 2);
    store.close().await;
}

#[tokio::test]
async fn random_reads_fare_better_with_what_is_in_use_carried_forward() {
    let mut rng = Rng::new("policy");
    let dir = tempfile::tempdir().unwrap();
    let store = open(StoreConfig { admission: Admission::SecondMiss, ..small_segments(dir.path()) }).await;
    // The square of a uniform number: a tenth of the blocks gets a third of the reads.
    let picks: Vec<_> = (0..6000).map(|_| (rng.below(1500) * rng.below(1500)) / 1500).collect();
    let hits = read_through(&store, picks.iter().copied()).await;
    // A model: first in, first out of as many blocks.
    let capacity = store.stats().blocks as usize;
    let (mut queue, mut there, mut plain) = (std::collections::VecDeque::new(), std::collections::HashSet::new(), 0);
    for n in picks {
        if there.contains(&n) {
            plain += 1;
        } else {
            there.insert(n);
            queue.push_back(n);
            if queue.len() > capacity {
                there.remove(&queue.pop_front().unwrap());
            }
        }
    }
    assert!(hits > plain + 6000 / 50, "{hits} hits, plain FIFO {plain}");
    store.close().await;
}
