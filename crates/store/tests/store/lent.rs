//! Blocks that the store gathered, which are written from where they lie: as good on the device as those that were copied.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_store::testing::{self, Crash, Disk, Faults, Odds};
use shoal_store::{IoChoice, Store, StoreConfig, StoreError};
use shoal_testkit::PATIENCE;
use shoal_types::BlockRange;
use tokio::sync::mpsc;

use super::common::{Rng, bare, block, check, check_whole, key, open, quick, ways};

/// Bytes of a piece, see `nvme::write`.
const PIECE: usize = 512 << 10;

fn gathered(store: &Store, n: u64, len: usize) -> Bytes {
    let whole = block(n, len);
    let pieces: Vec<Bytes> = whole.chunks(100_000).map(Bytes::copy_from_slice).collect();
    let gathered = store.gather(&pieces);
    assert_eq!(gathered, whole, "block {n}");
    gathered
}

#[tokio::test]
async fn a_gathered_block_of_any_length_is_read_back_also_after_a_restart() {
    let lens =
        [1 << 20, (1 << 20) + 1, (2 << 20) - 4096, (2 << 20) - 4095, (3 << 20) + 4097, 4 << 20, 16 << 20, 5000, 0];
    for (io, page_bytes) in ways().into_iter().flat_map(|io| [(io, 4 << 10), (io, 64 << 10)]) {
        let dir = tempfile::tempdir().unwrap();
        let config = || StoreConfig { page_bytes, ..bare(dir.path(), 128 << 20, io) };
        let store = open(config()).await;
        for (n, len) in (0..).zip(lens) {
            // A small one before it shares its batch if both come at once.
            let small = block(100 + n, 3000);
            let (small_key, large_key) = (key(100 + n), key(n));
            let both = (store.insert(&small_key, small), store.insert(&large_key, gathered(&store, n, len)));
            let (small, large) = tokio::join!(both.0, both.1);
            small.unwrap();
            large.unwrap();
        }
        let all_are_there = async |store: &Store| {
            for (n, len) in (0..).zip(lens) {
                let whole = block(n, len);
                assert!(check_whole(store, n, &whole).await, "{io:?}, block {n} of {len}");
                assert!(check(store, n, &whole, BlockRange::new(len as u32 / 2, 4096)).await);
                assert!(check_whole(store, 100 + n, &block(100 + n, 3000)).await);
            }
        };
        all_are_there(&store).await;
        store.close().await;
        let store = open(config()).await;
        all_are_there(&store).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_gathered_block_is_not_copied_and_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    // All blocks go to one segment: no footer is written meanwhile.
    let config = StoreConfig { segment_bytes: Some(32 << 20), ..bare(dir.path(), 160 << 20, IoChoice::Auto) };
    let store = testing::open(config, &Registry::new(), std::slice::from_ref(&faults)).await.unwrap();
    let writes_of = async |n, data| {
        let before = faults.writes();
        store.insert(&key(n), data).await.unwrap();
        faults.writes() - before
    };
    let pieces = (4 << 20) / PIECE as u64;
    assert_eq!(writes_of(0, gathered(&store, 0, 4 << 20)).await, pieces + 1, "the head goes alone");
    assert_eq!(writes_of(1, block(1, 4 << 20)).await, pieces, "the head goes with the first piece");
    let odd = gathered(&store, 2, (4 << 20) - 4091);
    assert_eq!(writes_of(2, odd.clone()).await, pieces + 2, "what is less than a page goes alone");
    assert_eq!(writes_of(3, odd.slice(1..)).await, pieces, "not at a page's boundary");
    for (n, whole) in [(0, block(0, 4 << 20)), (1, block(1, 4 << 20)), (2, odd.clone()), (3, odd.slice(1..))] {
        assert!(check_whole(&store, n, &whole).await, "block {n}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_crash_costs_no_gathered_block_that_was_stored_and_leaves_none_that_is_wrong() {
    let mut rng = Rng::new("lent");
    for round in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::new(rng.next());
        let config = || StoreConfig {
            read_patience: PATIENCE,
            hang_after: PATIENCE,
            segment_bytes: Some(8 << 20),
            ..quick(bare(Path::new(dir.path()), 65 << 20, IoChoice::Plain))
        };
        let disks = std::slice::from_ref(&disk);
        let store = testing::open_simulated(config(), &Registry::new(), disks).await.unwrap();
        disk.set_odds(Odds { delay: 500, ..Odds::default() });
        let len = |n: u64| (1 << 20) + (n as usize * 700_001) % (2 << 20);
        let (tell, mut told) = mpsc::unbounded_channel();
        let inserts: Vec<_> = (0..10)
            .map(|n| {
                let (store, data, tell) = (store.clone(), gathered(&store, n, len(n)), tell.clone());
                task::spawn("insert", async move {
                    let stored = store.insert(&key(n), data).await.is_ok();
                    tell.send(()).unwrap();
                    stored
                })
            })
            .collect();
        for _ in 0..rng.below(8) {
            told.recv().await.unwrap();
        }
        let crash = [Crash::Process, Crash::Power][round % 2];
        disk.crash(crash);
        let mut stored = Vec::new();
        for insert in inserts {
            stored.push(insert.await.unwrap());
        }
        store.close().await;
        let deadline = clock::now() + PATIENCE;
        disk.set_odds(Odds::default());
        let store = loop {
            match testing::open_simulated(config(), &Registry::new(), disks).await {
                Ok(store) => break store,
                // The last writes of the dead disk are on their way.
                Err(StoreError::InUse { .. }) if clock::now() < deadline => {
                    clock::sleep(Duration::from_millis(1)).await
                }
                Err(error) => panic!("the store does not open: {error}"),
            }
        };
        for (n, stored) in (0..).zip(stored) {
            let there = check_whole(&store, n, &block(n, len(n))).await;
            assert!(there || !stored || crash == Crash::Power, "round {round}: block {n} was stored and is lost");
        }
        store.close().await;
    }
}
