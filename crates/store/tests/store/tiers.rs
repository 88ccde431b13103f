//! Which tier answers, what a read costs, and what stays within which bound.

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_store::testing::{self, Faults};
use shoal_store::{DirConfig, IoChoice, Store, StoreConfig};
use shoal_types::{BlockRange, ErrorKind, MAX_BLOCK_BYTES, Tier};

use super::common::{bare, block, check, check_whole, key, open};

async fn tier_of(store: &Store, n: u64, range: BlockRange) -> Option<Tier> {
    store.read(&key(n), range).await.unwrap().map(|found| found.tier)
}

#[tokio::test]
async fn a_new_block_is_in_ram_and_a_restarted_one_on_nvme() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { memory: 64 << 20, ..bare(dir.path(), 64 << 20, IoChoice::Auto) };
    let store = open(config.clone()).await;
    let (small, large) = (block(1, 5000), block(2, 1 << 20));
    for (n, bytes) in [(1, &small), (2, &large)] {
        store.insert(&key(n), bytes.clone()).await.unwrap();
        assert_eq!(store.contains(&key(n)), Some(Tier::Ram));
        let found = store.read_ram(&key(n), BlockRange::new(10, 20)).unwrap();
        assert_eq!((found.bytes, found.block_len as usize, found.tier), (bytes.slice(10..30), bytes.len(), Tier::Ram));
    }
    store.close().await;
    let store = open(config).await;
    assert_eq!(store.contains(&key(1)), Some(Tier::Nvme));
    assert!(store.read_ram(&key(1), BlockRange::WHOLE).is_none());
    // A small block goes to RAM at its first whole read, a large one at its second; parts do not count as whole.
    assert_eq!(tier_of(&store, 1, BlockRange::new(0, 10)).await, Some(Tier::Nvme));
    assert_eq!(tier_of(&store, 1, BlockRange::WHOLE).await, Some(Tier::Nvme));
    assert_eq!(tier_of(&store, 1, BlockRange::WHOLE).await, Some(Tier::Ram));
    assert_eq!(tier_of(&store, 2, BlockRange::WHOLE).await, Some(Tier::Nvme));
    assert_eq!(tier_of(&store, 2, BlockRange::WHOLE).await, Some(Tier::Nvme));
    assert_eq!(tier_of(&store, 2, BlockRange::WHOLE).await, Some(Tier::Ram));
    assert!(check_whole(&store, 1, &small).await && check_whole(&store, 2, &large).await);
    assert_eq!(tier_of(&store, 3, BlockRange::WHOLE).await, None);
    store.close().await;
}

#[tokio::test]
async fn a_small_read_of_a_large_block_moves_little() {
    let dir = tempfile::tempdir().unwrap();
    let config = bare(dir.path(), 64 << 20, IoChoice::Auto);
    let store = open(config.clone()).await;
    let whole = block(1, 4 << 20);
    store.insert(&key(1), whole.clone()).await.unwrap();
    store.close().await;
    let faults = Faults::default();
    let store = testing::open(config, &Registry::new(), std::slice::from_ref(&faults)).await.unwrap();
    let mut last = (0, 0);
    let mut cost = || {
        let now = faults.reads();
        let spent = (now.0 - last.0, now.1 - last.1);
        last = now;
        spent
    };
    assert!(check(&store, 1, &whole, BlockRange::new(3_000_000, 4096)).await);
    assert_eq!(cost(), (2, 4 * 4096), "the head and the two pages of the range, at once");
    assert!(check(&store, 1, &whole, BlockRange::new(245 * 4096, 4096)).await);
    assert_eq!(cost(), (1, 4096), "one page");
    assert!(check(&store, 1, &whole, BlockRange::new((16 << 10) - 1, 2)).await);
    assert_eq!(cost(), (1, 2 * 4096), "two pages");
    assert!(check_whole(&store, 1, &whole).await);
    assert_eq!(cost(), (4, 4 << 20), "the block, in parts of 1 MiB");
    assert!(check(&store, 1, &whole, BlockRange::new(5 << 20, 1)).await);
    assert_eq!(cost(), (0, 0), "nothing");
    store.close().await;
}

#[tokio::test]
async fn a_first_whole_read_reads_the_head_along() {
    let dir = tempfile::tempdir().unwrap();
    let config = bare(dir.path(), 64 << 20, IoChoice::Auto);
    let store = open(config.clone()).await;
    let lens = [0usize, 1, 300, 5000, 65_400, 65_536, 1 << 20, 4 << 20];
    for (n, len) in lens.into_iter().enumerate() {
        store.insert(&key(n as u64), block(n as u64, len)).await.unwrap();
    }
    store.close().await;
    let faults = Faults::default();
    let store = testing::open(config, &Registry::new(), std::slice::from_ref(&faults)).await.unwrap();
    for (n, len) in lens.into_iter().enumerate() {
        let before = faults.reads();
        assert!(check_whole(&store, n as u64, &block(n as u64, len)).await);
        let parts = if len > 1 << 20 { len as u64 >> 20 } else { 1 };
        let (reads, bytes) = faults.reads();
        assert_eq!(reads - before.0, if len > 0 { parts } else { 0 }, "block of {len}");
        assert!(
            bytes - before.1 <= (len as u64).next_multiple_of(4096) + 2 * 4096,
            "block of {len}: {}",
            bytes - before.1
        );
    }
    store.close().await;
}

#[tokio::test]
async fn without_directories_the_store_is_memory_only() {
    let store = open(StoreConfig { memory: 1 << 20, ..StoreConfig::default() }).await;
    store.insert(&key(1), block(1, 1000)).await.unwrap();
    assert_eq!(tier_of(&store, 1, BlockRange::WHOLE).await, Some(Tier::Ram));
    store.insert(&key(2), block(2, 4 << 20)).await.unwrap();
    assert_eq!((store.contains(&key(2)), store.stats().nvme_limit), (None, 0));
    store.close().await;
}

#[tokio::test]
async fn blocks_that_cannot_be_stored_are_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(StoreConfig { memory: 8 << 20, ..bare(dir.path(), 8 << 20, IoChoice::Auto) }).await;
    let error = store.insert(&key(1), block(1, 3 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.to_string().contains("enlarge the cache directory"), "{error}");
    assert_eq!(store.contains(&key(1)), Some(Tier::Ram), "the copy in RAM stays");
    let huge = Bytes::from(vec![0; MAX_BLOCK_BYTES as usize + 1]);
    assert_eq!(store.insert(&key(2), huge).await.unwrap_err().kind(), ErrorKind::Invalid);
    let long = shoal_types::BlockKey::whole(shoal_types::OriginId([1; 16]), &"x".repeat(10_000));
    assert_eq!(store.insert(&long, block(3, 10)).await.unwrap_err().kind(), ErrorKind::Invalid);
    store.close().await;
    assert_eq!(store.insert(&key(4), block(4, 10)).await.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn blocks_spread_over_directories_by_size() {
    let (small, large) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = bare(small.path(), 8 << 20, IoChoice::Auto);
    config.dirs.push(DirConfig { free_ratio: 0.0, ..DirConfig::new(large.path(), 24 << 20) });
    let store = open(config.clone()).await;
    for n in 0..800 {
        store.insert(&key(n), block(n, 2000)).await.unwrap();
    }
    let stats = store.stats();
    let blocks: Vec<_> = stats.dirs.iter().map(|dir| dir.blocks).collect();
    assert!((120..280).contains(&blocks[0]) && blocks[0] + blocks[1] == 800, "{blocks:?}");
    store.close().await;
    // The order of the directories is not what finds blocks again.
    config.dirs.reverse();
    let store = open(config).await;
    for n in 0..800 {
        assert!(check_whole(&store, n, &block(n, 2000)).await, "{n}");
    }
    store.close().await;
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let config = StoreConfig { promote_bytes: 0, promote_hits: 0, ..bare(dir.path(), 8 << 20, IoChoice::Auto) };
    let store = Store::open(config, &registry).await.unwrap();
    for n in 0..30 {
        store.insert(&key(n), block(n, 500_000)).await.unwrap();
    }
    assert!(check_whole(&store, 29, &block(29, 500_000)).await && !check_whole(&store, 0, &block(0, 500_000)).await);
    let text = registry.gather_text();
    for line in [
        "shoal_store_reads_total{outcome=\"hit\",tier=\"nvme\"} 1".to_owned(),
        "shoal_store_reads_total{outcome=\"miss\",tier=\"nvme\"} 1".to_owned(),
        "shoal_store_reads_total{outcome=\"miss\",tier=\"ram\"} 2".to_owned(),
        format!("shoal_store_used_bytes{{tier=\"nvme\"}} {}", store.stats().nvme_used),
        "shoal_store_limit_bytes{tier=\"nvme\"} 8388608".to_owned(),
        format!("shoal_store_blocks {}", store.stats().blocks),
        format!("shoal_store_evictions_total {}", store.stats().evictions),
        "shoal_store_nvme_write_seconds_count".to_owned(),
        "shoal_store_dirs_in_service 1".to_owned(),
        "shoal_store_corrupt_total 0".to_owned(),
    ] {
        assert!(text.contains(&line), "`{line}` is not in\n{text}");
    }
    assert!(store.stats().evictions > 10);
    store.close().await;
}

#[tokio::test]
async fn bytes_come_with_checksums_from_every_tier() {
    use shoal_types::checksum::crc32c;
    let dir = tempfile::tempdir().unwrap();
    let whole = block(1, 300_000);
    let check = |found: &shoal_store::Found, tier: Tier| {
        let sums = found.sums.as_ref().expect("checksums are known");
        let end = found.bytes.len() as u32;
        assert_eq!(found.tier, tier);
        for range in [0..4096, 4096..131_072, 0..end] {
            let bytes = &found.bytes[range.start as usize..range.end as usize];
            assert_eq!(sums.crc_of(range.clone()), Some(crc32c(bytes)), "{range:?} of {tier:?}");
        }
        assert_eq!(sums.crc_of(1..4096), None);
    };
    let from = BlockRange::new(8192, u32::MAX);
    for (dirs, memory) in [(true, 1 << 20), (false, 1 << 20), (true, 0)] {
        let config = bare(dir.path(), 16 << 20, IoChoice::Auto);
        let dirs = if dirs { config.dirs.clone() } else { Vec::new() };
        let store = open(StoreConfig { memory, dirs, ..config }).await;
        store.insert(&key(1), whole.clone()).await.unwrap();
        let tier = if memory == 0 { Tier::Nvme } else { Tier::Ram };
        check(&store.read(&key(1), from).await.unwrap().unwrap(), tier);
        check(&store.read(&key(1), BlockRange::WHOLE).await.unwrap().unwrap(), tier);
        store.close().await;
    }
}

/// Ranges of a block of `len` bytes around its edges and around those of its pages.
fn edges(len: u32) -> Vec<BlockRange> {
    let mut marks: Vec<u32> = [0, 1, 4095, 4096, 4097, 8191, 8192, 1 << 20, len / 2].into();
    marks.extend([len, len.saturating_sub(1), len.saturating_sub(4096), len.saturating_sub(4097)]);
    let pairs = marks.iter().flat_map(|&a| marks.iter().map(move |&b| (a, b)));
    pairs.filter(|&(a, b)| a < b && b <= len).map(|(start, end)| BlockRange { start, end }).collect()
}

#[tokio::test]
async fn any_part_of_a_block_of_any_size_is_read_by_its_pages_alone() {
    const PAGE: u32 = 4096;
    let dir = tempfile::tempdir().unwrap();
    let config = bare(dir.path(), 128 << 20, IoChoice::Auto);
    let faults = Faults::default();
    let store = testing::open(config, &Registry::new(), std::slice::from_ref(&faults)).await.unwrap();
    let lens = [1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 60_000, (1 << 20) + 1, MAX_BLOCK_BYTES];
    for (n, len) in lens.into_iter().enumerate() {
        let whole = block(n as u64, len as usize);
        store.insert(&key(n as u64), whole.clone()).await.unwrap();
        for range in edges(len) {
            let before = faults.reads().1;
            assert!(check(&store, n as u64, &whole, range).await);
            let moved = faults.reads().1 - before;
            let pages =
                u64::from(range.end.next_multiple_of(PAGE).min(len.next_multiple_of(PAGE)) - range.start / PAGE * PAGE);
            // A packed record, of two pages at most, is read whole and starts anywhere in a sector.
            let most = if len <= 2 * PAGE { u64::from(3 * PAGE) } else { pages };
            assert!(moved <= most, "{range} of {len}: {moved} bytes instead of {most}");
        }
    }
    store.close().await;
}
