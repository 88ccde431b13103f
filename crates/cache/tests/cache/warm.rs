//! Warm-ups: what is reported stored is stored, whatever nodes do.

use shoal_cache::{ClientCache, ClientCacheConfig, WarmProgress, WarmReport};
use shoal_cluster::View;
use shoal_object::Op;
use shoal_runtime::metrics::Registry;
use shoal_types::{BlockKey, ErrorKind};

use crate::support::*;

async fn objects(count: u64, len: u32) -> (Objects, Vec<BlockKey>) {
    let objects = Objects::new();
    let mut keys = Vec::new();
    for i in 0..count {
        let name = format!("a{i}");
        objects.put(&name, i, len).await;
        keys.push(key(&name));
    }
    (objects, keys)
}

async fn warm(client: &ClientCache, keys: &[BlockKey]) -> WarmReport {
    let mut last = WarmProgress::default();
    let report = client.warm(keys.to_vec(), |progress| {
        assert_eq!(progress.done, progress.already + progress.fetched + progress.failed);
        assert!(progress.done <= progress.total);
        last = progress;
    });
    let report = report.await.unwrap();
    assert_eq!(report.total, report.already + report.fetched + report.failed);
    assert_eq!((last.total, last.done, last.bytes), (report.total, report.total, report.bytes));
    report
}

/// How many of the keys at least one node of the ring holds.
async fn held(client: &ClientCache, keys: &[BlockKey]) -> usize {
    let located = client.locate(keys).await;
    (0..keys.len()).filter(|&i| located.iter().any(|(_, tiers)| tiers[i].is_some())).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_up_fetches_each_block_once_and_its_repetition_none() {
    let (objects, mut keys) = objects(60, 20_000).await;
    let ring = Ring::start(3, &objects).await;
    let client = ring.client(&objects);
    assert_eq!(held(&client, &keys).await, 0);
    keys.push(keys[0].clone());
    let report = warm(&client, &keys).await;
    let expected = WarmReport { total: 60, fetched: 60, bytes: 60 * 20_000, ..WarmReport::default() };
    assert_eq!(report, expected);
    assert_eq!(objects.gets(), 60);
    assert_eq!(held(&client, &keys).await, 61);
    let owners: usize = client.locate(&keys).await.iter().map(|(_, tiers)| tiers.iter().flatten().count()).sum();
    assert_eq!(owners, 61, "each block lies with one node");
    let again = warm(&client, &keys).await;
    assert_eq!(again, WarmReport { total: 60, already: 60, ..WarmReport::default() });
    assert_eq!(objects.gets(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_keys_than_a_request_holds_go_in_several() {
    let (objects, keys) = objects(2500, 50).await;
    let ring = Ring::start(1, &objects).await;
    let report = warm(&ring.client(&objects), &keys).await;
    assert_eq!((report.fetched, report.bytes), (2500, 125_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_cannot_be_fetched_are_reported_failed() {
    let (objects, mut keys) = objects(20, 1000).await;
    let ring = Ring::start(2, &objects).await;
    let client = ring.client(&objects);
    keys.extend([key("gone"), key("lost")]);
    objects.0.fail_matching(Op::Get, ErrorKind::Unavailable, |key| key.ends_with('7'));
    let report = warm(&client, &keys).await;
    assert_eq!((report.fetched, report.failed), (18, 4));
    assert!(report.first_error.is_some());
    assert_eq!(held(&client, &keys).await, 18);
    objects.0.clear();
    let resumed = warm(&client, &keys).await;
    assert_eq!((resumed.already, resumed.fetched, resumed.failed), (18, 2, 2));
    let error = resumed.first_error.unwrap();
    assert!(error.contains("gone") || error.contains("lost"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_owner_passes_its_blocks_to_their_replicas() {
    let (objects, keys) = objects(40, 1000).await;
    let ring = Ring::start(3, &objects).await;
    ring.nodes[0].endpoint.close().await;
    let client = ring.client(&objects);
    let report = warm(&client, &keys).await;
    assert_eq!((report.fetched, report.failed), (40, 0), "{report:?}");
    assert_eq!(held(&client, &keys).await, 40);
    assert_eq!(client.locate(&keys).await.len(), 2, "a node that does not answer is left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_ring_fails_every_block_and_no_ring_is_an_error() {
    let (objects, keys) = objects(5, 1000).await;
    let ring = Ring::start(2, &objects).await;
    for node in &ring.nodes {
        node.endpoint.close().await;
    }
    let report = warm(&ring.client(&objects), &keys).await;
    assert_eq!((report.fetched, report.failed), (0, 5));
    assert!(report.first_error.is_some());
    let none = lone_client(&objects, |_| {}).warm(keys.clone(), |_| {}).await;
    assert_eq!(none.unwrap_err().kind(), ErrorKind::Unavailable);
    let peers = ring.peers_with(View::empty());
    let alone = ClientCache::new(ClientCacheConfig::default(), objects.0.clone(), Some(peers), &Registry::new());
    assert_eq!(alone.warm(keys, |_| {}).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(objects.gets(), 0);
}
