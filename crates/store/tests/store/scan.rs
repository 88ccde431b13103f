//! Listing what cache directories hold.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use shoal_store::{DirConfig, IoChoice, Store, StoreConfig};
use shoal_types::{BlockKey, BlockRange, BlockSpan, OriginId, Tier};

use super::common::{Rng, bare, block, check_whole, key, open};

/// Every block of the store and how often it was listed, in steps of `max`.
async fn list(store: &Store, max: usize) -> HashMap<BlockKey, (u32, usize)> {
    let (mut all, mut cursor) = (HashMap::new(), None);
    loop {
        let (blocks, next) = store.scan(cursor, max).await.unwrap();
        assert!(blocks.len() <= max && (next.is_none() || blocks.len() == max), "{} of {max}", blocks.len());
        for block in blocks {
            all.entry(block.key).or_insert((block.len, 0)).1 += 1;
        }
        cursor = next;
        if cursor.is_none() {
            return all;
        }
    }
}

fn len(n: u64) -> usize {
    [300, 5000, 70_000, 0, 150_000][n as usize % 5]
}

#[tokio::test]
async fn a_listing_names_every_block_once_whatever_the_step() {
    let mut rng = Rng::new("scan");
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut config = bare(dirs[0].path(), 4 << 20, IoChoice::Auto);
    config.dirs.push(DirConfig { free_ratio: 0.0, ..DirConfig::new(dirs[1].path(), 2 << 20) });
    let mut store = open(config.clone()).await;
    assert!(list(&store, 10).await.is_empty());
    let mut first = 0;
    for round in 0..4 {
        for n in first..first + 60 {
            store.insert(&key(n), block(n, len(n))).await.unwrap();
        }
        first += 60;
        let live: Vec<_> = (0..first).filter(|&n| store.contains(&key(n)).is_some()).collect();
        assert!(round == 0 || live.len() < first as usize, "some were evicted");
        for max in [1, 7, 1 + rng.below(50) as usize, 10_000] {
            let listed = list(&store, max).await;
            assert_eq!(listed.len(), live.len(), "round {round}, step {max}");
            assert!(live.iter().all(|&n| listed.get(&key(n)) == Some(&(len(n) as u32, 1))));
        }
        store.close().await;
        assert!(list(&store, 10).await.is_empty(), "a closed store lists nothing");
        store = open(config.clone()).await;
        assert_eq!(list(&store, 9).await.len(), live.len(), "after a restart");
    }
    store.close().await;
}

#[tokio::test]
async fn a_listing_gives_the_whole_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(bare(dir.path(), 4 << 20, IoChoice::Auto)).await;
    let span = BlockSpan::Part { etag: "\"abc\"".into(), offset: 8 << 20, len: 70_000 };
    let part = BlockKey::new(OriginId([3; 16]), "bucket/file.bin", span);
    store.insert(&part, block(1, 70_000)).await.unwrap();
    let (blocks, end) = store.scan(None, 5).await.unwrap();
    assert!(end.is_none() && blocks.len() == 1);
    let listed = &blocks[0].key;
    assert_eq!(
        (listed, listed.origin(), listed.object(), listed.span()),
        (&part, part.origin(), part.object(), part.span())
    );
    store.close().await;
}

#[tokio::test]
async fn a_damaged_head_hides_blocks_and_lists_no_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(bare(dir.path(), 8 << 20, IoChoice::Auto)).await;
    for n in 0..30 {
        store.insert(&key(n), block(n, 70_000)).await.unwrap();
    }
    let slab = dir.path().join("shoal-cache.slab");
    let name = b"vol/chunks/0/0/2_0_4194304";
    let at = std::fs::read(&slab).unwrap().windows(name.len()).position(|window| window == name).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&slab).unwrap();
    file.write_all_at(b"x", at as u64).unwrap();
    file.sync_all().unwrap();
    let listed = list(&store, 100).await;
    assert!(!listed.contains_key(&key(2)) && listed.len() >= 2, "{}", listed.len());
    store.close().await;
}

#[tokio::test]
async fn a_block_kept_in_ram_only_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(StoreConfig { memory: 8 << 20, ..bare(dir.path(), 8 << 20, IoChoice::Auto) }).await;
    store.insert_ram(&key(1), block(1, 70_000));
    assert_eq!((store.contains(&key(1)), store.stats().blocks), (Some(Tier::Ram), 0));
    assert!(check_whole(&store, 1, &block(1, 70_000)).await);
    let found = store.read(&key(1), BlockRange::new(5, 10)).await.unwrap().unwrap();
    assert_eq!((found.tier, found.bytes), (Tier::Ram, block(1, 70_000).slice(5..15)));
    assert!(list(&store, 10).await.is_empty());
    // A later insert writes it.
    store.insert(&key(1), block(1, 70_000)).await.unwrap();
    assert_eq!(list(&store, 10).await.len(), 1);
    store.close().await;
}
