//! Gossip between nodes, and never from clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_net::{Endpoint, Role};
use shoal_runtime::metrics::Registry;

use crate::support::{Blocks, Pair, eventually, metric, patient};

#[tokio::test]
async fn small_gossip_travels_as_a_datagram_and_large_as_a_stream() {
    let pair = Pair::new();
    let registry = Registry::new();
    let second = Endpoint::bind(patient(pair.ca.issue(Role::Node, "n2")), &registry).unwrap();
    let small = Bytes::from_static(b"small");
    second.gossip(pair.peer(), small.clone());
    eventually("the first arrives", || pair.service.gossip.lock().len() == 1).await;
    second.gossip(pair.peer(), small.clone());
    eventually("the second arrives", || pair.service.gossip.lock().len() == 2).await;
    let large = Bytes::from(vec![7; 200_000]);
    second.gossip(pair.peer(), large.clone());
    eventually("the third arrives", || pair.service.gossip.lock().len() == 3).await;
    let from = || "n2".to_owned();
    assert_eq!(*pair.service.gossip.lock(), [(from(), small.clone()), (from(), small), (from(), large)]);
    assert_eq!(metric(&registry, r#"shoal_net_gossip_total{outcome="sent_datagram"}"#), 2);
    assert_eq!(metric(&registry, r#"shoal_net_gossip_total{outcome="sent_stream"}"#), 1);
    assert_eq!(metric(&pair.node_metrics, r#"shoal_net_gossip_total{outcome="received"}"#), 3);
}

#[tokio::test]
async fn gossip_of_a_client_is_refused_and_counted() {
    let pair = Pair::new();
    let refused = r#"shoal_net_refused_total{reason="gossip_from_client"}"#;
    pair.client.gossip(pair.peer(), Bytes::from_static(b"I am a node, really"));
    eventually("the datagram is refused", || metric(&pair.node_metrics, refused) == 1).await;
    pair.client.gossip(pair.peer(), vec![1; 100_000].into());
    eventually("the stream is refused", || metric(&pair.node_metrics, refused) == 2).await;
    assert!(pair.service.gossip.lock().is_empty());
}

#[tokio::test]
async fn gossip_to_a_dead_peer_is_dropped_without_waiting() {
    let pair = Pair::with(|config| config.connect_timeout = Duration::from_secs(2));
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = silent.local_addr().unwrap();
    for _ in 0..1000 {
        pair.client.gossip(peer, Bytes::from_static(b"x"));
    }
    let dropped = r#"shoal_net_gossip_total{outcome="dropped"}"#;
    eventually("all are dropped", || metric(&pair.client_metrics, dropped) == 1000).await;
}

#[tokio::test]
async fn gossip_of_an_impossible_size_is_dropped() {
    let pair = Pair::new();
    pair.client.gossip(pair.peer(), Bytes::new());
    pair.client.gossip(pair.peer(), vec![0; (1 << 20) + 1].into());
    assert_eq!(metric(&pair.client_metrics, r#"shoal_net_gossip_total{outcome="dropped"}"#), 2);
}

#[tokio::test]
async fn only_the_first_service_counts() {
    let pair = Pair::new();
    let other = Arc::new(Blocks::default());
    pair.node.serve(other.clone());
    let second = Endpoint::bind(patient(pair.ca.issue(Role::Node, "n2")), &Registry::new()).unwrap();
    second.gossip(pair.peer(), Bytes::from_static(b"x"));
    eventually("the first service hears it", || pair.service.gossip.lock().len() == 1).await;
    assert!(other.gossip.lock().is_empty());
}
