//! Who is refused, by which side, and that it is counted.

use std::sync::Arc;

use shoal_net::testing::TestCa;
use shoal_net::{Credentials, Endpoint, EndpointConfig, NetError, Role};
use shoal_runtime::metrics::Registry;
use shoal_types::ErrorKind;

use crate::raw::{self, Files};
use crate::support::{Blocks, PATIENCE, block, eventually, loopback, metric, whole};

struct Peer {
    endpoint: Endpoint,
    metrics: Registry,
}

impl Peer {
    fn new(credentials: Credentials) -> Peer {
        let metrics = Registry::new();
        let endpoint = Endpoint::bind(EndpointConfig::new(loopback(), credentials), &metrics).unwrap();
        endpoint.serve(Arc::new(Blocks::default()));
        Peer { endpoint, metrics }
    }

    fn refused(&self, reason: &str) -> u64 {
        metric(&self.metrics, &format!(r#"shoal_net_refused_total{{reason="{reason}"}}"#))
    }
}

/// Asks until the refusal shows: a server refuses a client after the client took the connection for made.
async fn denied(asking: &Peer, answering: &Peer) -> NetError {
    let error = asking.endpoint.get(answering.endpoint.local_addr(), &whole(block("good", 1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    error
}

#[tokio::test]
async fn a_node_of_another_ca_is_refused_by_the_asking_side() {
    let node = Peer::new(TestCa::new("g").issue(Role::Node, "n1"));
    let client = Peer::new(TestCa::new("g").issue(Role::Client, "c1"));
    let error = denied(&client, &node).await;
    assert!(error.to_string().contains("this process refuses the peer's"), "{error}");
    assert_eq!(client.refused("unknown_ca"), 1);
    eventually("the node sees that a stranger came", || node.refused("by_peer") == 1).await;
    // The next request does not even try.
    denied(&client, &node).await;
    assert_eq!(client.refused("unknown_ca"), 1);
    assert_eq!(metric(&client.metrics, "shoal_net_handshake_failures_total"), 1);
}

#[tokio::test]
async fn a_client_of_another_ca_is_refused_by_the_answering_side() {
    let files = Files::new();
    let node = Peer::new(files.credentials(Role::Node, "n1"));
    let other = Files::new();
    let client = raw::client(Some(&other.issued(Role::Client, "c1")));
    connect_in_vain(client, &node).await;
    eventually("the node counts it", || node.refused("unknown_ca") == 1).await;
    eventually("and the failed handshake", || metric(&node.metrics, "shoal_net_handshake_failures_total") == 1).await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let node = Peer::new(TestCa::new("g").issue(Role::Node, "n1"));
    connect_in_vain(raw::client(None), &node).await;
    eventually("the node counts it", || node.refused("no_certificate") == 1).await;
}

/// A raw client's connection to `node` ends without an answer to anything.
async fn connect_in_vain(client: quinn::Endpoint, node: &Peer) {
    let Ok(connection) = client.connect(node.endpoint.local_addr(), "x").unwrap().await else { return };
    let closed = shoal_runtime::clock::timeout(PATIENCE, connection.closed()).await.unwrap();
    assert!(matches!(closed, quinn::ConnectionError::ConnectionClosed(_)), "{closed}");
}

#[tokio::test]
async fn a_client_certificate_does_not_serve() {
    let ca = TestCa::new("g");
    let posing = Peer::new(ca.issue(Role::Client, "n1"));
    let client = Peer::new(ca.issue(Role::Client, "c1"));
    denied(&client, &posing).await;
    assert_eq!(client.refused("wrong_role"), 1);
}

#[tokio::test]
async fn another_group_of_the_same_ca_is_refused_by_both_sides() {
    let ca = TestCa::new("g");
    let node = Peer::new(ca.issue_for_group(Role::Node, "h", "n1"));
    let client = Peer::new(ca.issue(Role::Client, "c1"));
    denied(&client, &node).await;
    assert_eq!(client.refused("wrong_group"), 1);

    // The other way round the node's group is the client's own, seen from a client that trusts anybody.
    let files = Files::new();
    let node = Peer::new(files.credentials(Role::Node, "n1"));
    let stranger = Peer::new(TestCa::new("h").issue(Role::Client, "c1"));
    denied(&stranger, &node).await;
    assert_eq!(stranger.refused("unknown_ca"), 1);
}

#[tokio::test]
async fn a_client_of_another_group_is_refused_by_the_node() {
    let ca = TestCa::new("g");
    let node = Peer::new(ca.issue(Role::Node, "n1"));
    // The client is of group h and believes the node is too: only the node can refuse.
    let client = Peer::new(ca.issue_for_group(Role::Node, "h", "n2"));
    let error = denied(&client, &node).await;
    // The client refuses first; so let the node ask, and the client answer.
    assert!(matches!(error, NetError::Refused { .. }));
    let error = denied(&node, &client).await;
    assert!(error.to_string().contains("refuses"), "{error}");
    assert_eq!(node.refused("wrong_group"), 1);
}

#[tokio::test]
async fn an_expired_node_is_refused() {
    let ca = TestCa::new("g");
    let node = Peer::new(ca.issue_expired(Role::Node, "n1"));
    let client = Peer::new(ca.issue(Role::Client, "c1"));
    denied(&client, &node).await;
    assert_eq!(client.refused("expired"), 1);
}

#[tokio::test]
async fn an_expired_client_is_refused_and_told_so() {
    let ca = TestCa::new("g");
    let node = Peer::new(ca.issue(Role::Node, "n1"));
    let client = Peer::new(ca.issue_expired(Role::Client, "c1"));
    let error = denied(&client, &node).await;
    assert!(error.to_string().contains("the peer refuses this process's"), "{error}");
    eventually("the node counts it", || node.refused("expired") == 1).await;
    // The connection seemed made; that it was refused is remembered all the same.
    denied(&client, &node).await;
    assert_eq!(node.refused("expired"), 1);
}

#[tokio::test]
async fn new_credentials_work_without_a_new_endpoint() {
    let ca = TestCa::new("g");
    let node = Peer::new(ca.issue_expired(Role::Node, "n1"));
    let client = Peer::new(ca.issue(Role::Client, "c1"));
    denied(&client, &node).await;
    node.endpoint.reload(&ca.issue(Role::Node, "n1")).unwrap();
    client.endpoint.forget(node.endpoint.local_addr());
    let reply = client.endpoint.get(node.endpoint.local_addr(), &whole(block("good", 9))).await.unwrap();
    assert_eq!(reply.body.collect().await.unwrap().len(), 9);
}
