//! A loss of power under a directory of objects.

use std::sync::Arc;

use bytes::Bytes;
use shoal_object::{Location, ObjectOptions, ObjectStore, TierStores, open};
use shoal_runtime::metrics::Registry;
use shoal_testkit::{Disk, seeded_bytes};

fn store_on(disk: &Disk) -> Arc<dyn ObjectStore> {
    let bucket = format!("{}/", disk.root().display());
    // Bounded rates bring the one decorator that is not always there.
    let options = ObjectOptions { upload_bytes_per_s: 1 << 30, ..ObjectOptions::default() };
    open(&Location { storage: "file".into(), bucket, ..Location::default() }, &options, &Registry::new()).unwrap()
}

fn content(n: u64) -> Bytes {
    seeded_bytes(n, 100_000 + n as usize).into()
}

async fn put(store: &dyn ObjectStore, numbers: std::ops::Range<u64>) {
    for n in numbers {
        store.put(&format!("vol/chunks/{}/{n}", n % 7), content(n)).await.unwrap();
    }
}

/// Few objects are synced one by one, many with their file system; through every decorator, and through a volume's tiers.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_synced_is_there_after_a_loss_of_power() {
    let Some(disk) = Disk::new() else { return };
    let store = store_on(&disk);
    put(&*store, 0..3).await;
    store.sync().await.unwrap();
    put(&*store, 3..103).await;
    TierStores::new(store.clone(), Default::default()).sync().await.unwrap();
    put(&*store, 103..106).await;
    store.sync().await.unwrap();
    disk.lose_power();
    drop(store);
    disk.unmount();
    disk.mount();

    let store = store_on(&disk);
    for n in 0..106 {
        let body = store.get(&format!("vol/chunks/{}/{n}", n % 7), None, None).await.unwrap();
        assert_eq!(body.collect(1 << 20).await.unwrap(), content(n), "object {n}");
    }
    drop(store);
    disk.unmount();
}
