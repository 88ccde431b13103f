//! Files changed behind the store's back: wrong bytes are never served.

use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_store::{IoChoice, Store, StoreConfig};
use shoal_types::BlockRange;

use super::common::{Rng, bare, block, check, check_whole, key, open, ways};

const PAGE: usize = 4096;
const LIMIT: u64 = 1 << 20;

fn slab(dir: &Path) -> std::path::PathBuf {
    dir.join("shoal-cache.slab")
}

fn lens(n: u64) -> usize {
    [300, 5000, 70_000, 20_000, 90_000][n as usize % 5]
}

fn bytes(n: u64) -> Bytes {
    block(n, lens(n))
}

/// Stores `blocks` and closes; says which are readable.
async fn fill(dir: &Path, blocks: std::ops::Range<u64>) -> Vec<u64> {
    let store = open(bare(dir, LIMIT, IoChoice::Plain)).await;
    for n in blocks.clone() {
        store.insert(&key(n), bytes(n)).await.unwrap();
    }
    let there = (0..blocks.end).filter(|&n| store.contains(&key(n)).is_some()).collect();
    store.close().await;
    there
}

/// Opens the directory, reads all blocks whole and in part, and says which are intact.
async fn survivors(dir: &Path, io: IoChoice, blocks: u64) -> Vec<u64> {
    let store = open(bare(dir, LIMIT, io)).await;
    let mut intact = Vec::new();
    for n in 0..blocks {
        let whole = bytes(n);
        let part = BlockRange::new(lens(n) as u32 / 2, 100);
        let part_there = check(&store, n, &whole, part).await;
        if check_whole(&store, n, &whole).await {
            assert!(part_there);
            intact.push(n);
        }
    }
    // What was damaged can be stored again.
    store.insert(&key(1 << 40), bytes(3)).await.unwrap();
    assert!(check_whole(&store, 1 << 40, &bytes(3)).await);
    store.close().await;
    intact
}

#[tokio::test]
async fn flipped_bits_are_misses() {
    for io in ways() {
        let mut rng = Rng::new("flips");
        let dir = tempfile::tempdir().unwrap();
        let there = fill(dir.path(), 0..20).await;
        let original = std::fs::read(slab(dir.path())).unwrap();
        let mut lost = 0;
        for _ in 0..60 {
            let mut damaged = original.clone();
            for _ in 0..1 + rng.below(20) {
                let at = rng.below(damaged.len() as u64) as usize;
                damaged[at] ^= 1 << rng.below(8);
            }
            std::fs::write(slab(dir.path()), &damaged).unwrap();
            let intact = survivors(dir.path(), io, 20).await;
            assert!(intact.iter().all(|n| there.contains(n)));
            lost += there.len() - intact.len();
        }
        assert!(lost > 20, "{lost} lost: the flips should have hit something");
    }
}

#[tokio::test]
async fn bits_that_flip_under_an_open_store_are_counted_and_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let config = StoreConfig { page_bytes: 4096, ..bare(dir.path(), LIMIT, IoChoice::Auto) };
    let store = Store::open(config, &registry).await.unwrap();
    let whole = block(1, 200_000);
    store.insert(&key(1), whole.clone()).await.unwrap();
    let at = std::fs::read(slab(dir.path())).unwrap().windows(64).position(|w| w == &whole[100_000..100_064]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(slab(dir.path())).unwrap();
    file.write_all_at(&[whole[100_000] ^ 1], at as u64).unwrap();
    file.sync_all().unwrap();
    // Other pages are fine, and a damaged one costs the block.
    assert!(check(&store, 1, &whole, BlockRange::new(0, 50_000)).await);
    assert!(check(&store, 1, &whole, BlockRange::new(150_000, 50_000)).await);
    assert!(!check(&store, 1, &whole, BlockRange::new(100_500, 10)).await);
    assert_eq!(store.contains(&key(1)), None);
    assert!(registry.gather_text().contains("shoal_store_corrupt_total 1"));
    store.insert(&key(1), whole.clone()).await.unwrap();
    assert!(check_whole(&store, 1, &whole).await);
    store.close().await;
}

#[tokio::test]
async fn a_tail_torn_at_any_page_costs_only_what_was_torn() {
    let mut rng = Rng::new("torn tail");
    let dir = tempfile::tempdir().unwrap();
    let there = fill(dir.path(), 0..2).await;
    let before = std::fs::read(slab(dir.path())).unwrap();
    let after_there = fill(dir.path(), 2..5).await;
    let after = std::fs::read(slab(dir.path())).unwrap();
    assert!(there.iter().all(|n| after_there.contains(n)));
    let changed: Vec<_> = (0..after.len() / PAGE)
        .filter(|page| before[page * PAGE..(page + 1) * PAGE] != after[page * PAGE..(page + 1) * PAGE])
        .collect();
    assert!(changed.len() > 40);
    for (n, &page) in changed.iter().enumerate() {
        let mut torn = after.clone();
        let cut = page * PAGE;
        match n % 4 {
            0 => torn[cut..].fill(0),
            1 => torn[cut..].iter_mut().for_each(|byte| *byte = rng.next() as u8),
            2 => torn[cut..].copy_from_slice(&before[cut..]),
            _ => torn.truncate(cut),
        }
        std::fs::write(slab(dir.path()), &torn).unwrap();
        let intact = survivors(dir.path(), ways()[n % 2], 5).await;
        assert!(
            there.iter().all(|n| intact.contains(n)),
            "torn at page {page}: {intact:?} left, {there:?} were untouched"
        );
    }
}

#[tokio::test]
async fn any_mix_of_old_and_new_pages_serves_no_wrong_bytes() {
    let mut rng = Rng::new("mixed pages");
    let dir = tempfile::tempdir().unwrap();
    // Several rounds through the directory, so that every segment was written more than once.
    fill(dir.path(), 0..60).await;
    let old = std::fs::read(slab(dir.path())).unwrap();
    fill(dir.path(), 60..75).await;
    let new = std::fs::read(slab(dir.path())).unwrap();
    let mut found = 0;
    for round in 0..60 {
        let mut mixed = new.clone();
        for page in 0..new.len() / PAGE {
            if rng.below(8) < round % 8 {
                mixed[page * PAGE..(page + 1) * PAGE].copy_from_slice(&old[page * PAGE..(page + 1) * PAGE]);
            }
        }
        std::fs::write(slab(dir.path()), &mixed).unwrap();
        found += survivors(dir.path(), ways()[round as usize % 2], 75).await.len();
    }
    assert!(found > 100);
}

#[tokio::test]
async fn a_slab_of_another_directory_is_an_empty_one() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path(), 0..10).await;
    fill(other.path(), 20..21).await;
    std::fs::copy(slab(one.path()), slab(other.path())).unwrap();
    assert_eq!(survivors(other.path(), IoChoice::Auto, 21).await, Vec::<u64>::new());
}

/// A loss of power may take the head of a new segment and leave its footer: with a number that is given twice, that footer would speak for
/// what is written there in the next life.
#[tokio::test]
async fn a_lost_head_and_a_surviving_footer_hide_nothing_that_is_stored_later() {
    const SEGMENT: usize = 128 << 10;
    let dir = tempfile::tempdir().unwrap();
    let config = || StoreConfig { segment_bytes: Some(SEGMENT as u64), ..bare(dir.path(), 8 << 20, IoChoice::Plain) };
    let life = async |blocks: std::ops::Range<u64>| {
        let store = open(config()).await;
        for n in blocks {
            store.insert(&key(n), block(n, 20_000)).await.unwrap();
        }
        store.close().await;
        std::fs::read(slab(dir.path())).unwrap()
    };
    let mut disk = life(0..3).await;
    let after = life(10..50).await;
    // Of all that was written since, what lies behind new heads is there, and nothing else.
    let mut lost = 0;
    for (now, later) in disk.chunks_exact_mut(SEGMENT).zip(after.chunks_exact(SEGMENT)) {
        if now[..PAGE] != later[..PAGE] {
            now[PAGE..].copy_from_slice(&later[PAGE..]);
            lost += 1;
        }
    }
    assert!(lost > 5, "{lost} heads lost");
    std::fs::write(slab(dir.path()), &disk).unwrap();
    life(100..110).await;
    let store = open(config()).await;
    for n in 100..110 {
        assert!(check_whole(&store, n, &block(n, 20_000)).await, "block {n} was stored and is gone");
    }
    store.close().await;
}
