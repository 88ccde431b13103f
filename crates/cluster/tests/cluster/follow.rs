//! Clients.

use std::time::Duration;

use shoal_cluster::Follower;
use shoal_net::Role;
use shoal_net::testing::TestCa;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_testkit::PATIENCE;
use shoal_types::ErrorKind;

use crate::harness::{TestNode, wait_for_members};

#[tokio::test]
async fn follower_sees_the_ring_change() {
    let ca = TestCa::new("g");
    let first = TestNode::start(&ca, 1, &[]);
    let client = ca.endpoint(Role::Client, "client");
    let registry = Registry::new();
    let follower = Follower::start(vec![first.seed()], client, PATIENCE, &registry).await.unwrap();
    wait_for_members(&follower.views(), &[1]).await;
    let second = TestNode::start(&ca, 2, &[first.seed()]);
    wait_for_members(&follower.views(), &[1, 2]).await;
    assert_eq!(follower.views().current().epoch(), first.cluster.views().current().epoch());
    second.cluster.leave().await;
    wait_for_members(&follower.views(), &[1]).await;
    assert!(registry.gather_text().contains("shoal_cluster_members 1"));
}

#[tokio::test]
async fn follower_moves_on_when_its_node_leaves_or_dies_and_keeps_the_last_view() {
    let ca = TestCa::new("g");
    let first = TestNode::start_mortal(&ca, 1, &[]);
    let second = TestNode::start_mortal(&ca, 2, &[first.seed()]);
    let third = TestNode::start_mortal(&ca, 3, &[first.seed()]);
    wait_for_members(&first.cluster.views(), &[1, 2, 3]).await;
    let client = ca.endpoint(Role::Client, "client");
    // Only the first node is known at the start, so that is the one it follows.
    let follower = Follower::start(vec![first.seed()], client, PATIENCE, &Registry::new()).await.unwrap();
    wait_for_members(&follower.views(), &[1, 2, 3]).await;
    first.cluster.leave().await;
    first.kill().await;
    wait_for_members(&follower.views(), &[2, 3]).await;
    second.kill().await;
    wait_for_members(&follower.views(), &[3]).await;
    third.kill().await;
    // Nothing is left to tell it otherwise.
    let mut views = follower.views();
    let change = clock::timeout(Duration::from_millis(300), views.changed()).await;
    assert!(change.is_err());
    assert_eq!(follower.views().current().members.len(), 1);
}

#[tokio::test]
async fn follower_passes_dead_seeds() {
    let ca = TestCa::new("g");
    let dead = TestNode::start(&ca, 7, &[]);
    let dead_seed = dead.seed();
    dead.kill().await;
    let first = TestNode::start(&ca, 1, &[]);
    let client = ca.endpoint(Role::Client, "client");
    let seeds = vec!["no-such-host.invalid:1".into(), dead_seed, first.seed()];
    let follower = Follower::start(seeds, client, PATIENCE, &Registry::new()).await.unwrap();
    wait_for_members(&follower.views(), &[1]).await;
}

#[tokio::test]
async fn follower_without_an_answer_names_every_address_it_tried() {
    let ca = TestCa::new("g");
    let client = ca.endpoint(Role::Client, "client");
    let seeds = vec!["no-such-host.invalid:7070".to_owned(), "127.0.0.1:1".to_owned()];
    let error = Follower::start(seeds, client.clone(), Duration::from_millis(500), &Registry::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(text.starts_with("no node of the ring answered: tried "), "{text}");
    assert!(text.contains("no-such-host.invalid:7070 (") && text.contains("127.0.0.1:1 ("), "{text}");
    let none = Follower::start(Vec::new(), client, Duration::ZERO, &Registry::new()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Invalid);
}
