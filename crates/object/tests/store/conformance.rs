//! The conformance suite on memory, on a directory, and on stores behind decorators and shards.

use std::sync::Arc;

use shoal_object::{Location, ObjectOptions, ObjectStore, decorate, memory, open, probe, sharded, testing};
use shoal_runtime::metrics::Registry;
use shoal_testkit::TestDir;

fn file_store(dir: &TestDir) -> Arc<dyn ObjectStore> {
    let bucket = format!("{}/", dir.path().display());
    let location = Location { storage: "file".into(), bucket, ..Location::default() };
    open(&location, &ObjectOptions::default(), &Registry::new()).unwrap()
}

#[tokio::test]
async fn memory_conforms() {
    testing::conformance(memory(), "").await;
    testing::conformance(memory(), "vol/").await;
}

#[tokio::test]
async fn a_directory_conforms() {
    let dir = TestDir::new("object-file");
    let store = file_store(&dir);
    probe(store.as_ref()).await.unwrap();
    testing::conformance(store.clone(), "").await;
    testing::conformance(store, "vol/").await;
}

#[tokio::test]
async fn decorators_change_nothing_that_conforms() {
    let store = decorate(memory(), &ObjectOptions::default(), &Registry::new());
    testing::conformance(store, "").await;
}

#[tokio::test]
async fn shards_conform() {
    let stores = (0..4).map(|_| memory()).collect();
    let store = sharded(stores, Arc::new(|key: &str| key.bytes().map(usize::from).sum::<usize>() % 4));
    testing::conformance(store, "").await;
}
