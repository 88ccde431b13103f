//! Who is refused, by which side, and that it is counted.

use std::sync::Arc;

use shoal_net::testing::TestCa;
use shoal_net::{Credentials, Endpoint, NetError, Renewal, Role, ca};
use shoal_runtime::metrics::Registry;
use shoal_types::ErrorKind;
use shoal_wire::{Request, Response};

use crate::raw::{self, Files};
use crate::support::{Blocks, PATIENCE, block, eventually, eventually_gets, metric, patient, whole};

struct Peer {
    endpoint: Endpoint,
    metrics: Registry,
}

impl Peer {
    fn new(credentials: Credentials) -> Peer {
        let metrics = Registry::new();
        let endpoint = Endpoint::bind(patient(credentials), &metrics).unwrap();
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
async fn certificates_that_begin_later_are_refused_by_either_side() {
    let ca = TestCa::new("g");
    let (node, client) = (Peer::new(ca.issue_not_yet_valid(Role::Node, "n1")), Peer::new(ca.issue(Role::Client, "c1")));
    denied(&client, &node).await;
    assert_eq!((client.refused("not_yet_valid"), client.refused("expired")), (1, 0));

    let (node, client) = (Peer::new(ca.issue(Role::Node, "n1")), Peer::new(ca.issue_not_yet_valid(Role::Client, "c1")));
    let error = denied(&client, &node).await;
    assert!(error.to_string().contains("the peer refuses this process's"), "{error}");
    eventually("the node counts it", || node.refused("not_yet_valid") == 1).await;
}

/// Who the node takes `client` for.
async fn seen_as(client: &Peer, node: &Peer) -> String {
    match client.endpoint.call(node.endpoint.local_addr(), &Request::View, PATIENCE).await.unwrap() {
        Response::View(name) => String::from_utf8(name.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_uses_new_credentials_for_new_connections_and_keeps_the_old_ones() {
    let ca = TestCa::new("g");
    let (node, client) = (Peer::new(ca.issue(Role::Node, "n1")), Peer::new(ca.issue(Role::Client, "c1")));
    assert_eq!(seen_as(&client, &node).await, "shoal://g/client/c1");
    client.endpoint.reload(&ca.issue(Role::Client, "c2")).unwrap();
    assert_eq!(seen_as(&client, &node).await, "shoal://g/client/c1");
    assert_eq!(metric(&client.metrics, r#"shoal_net_connections{direction="outbound"}"#), 1);
    client.endpoint.forget(node.endpoint.local_addr());
    assert_eq!(seen_as(&client, &node).await, "shoal://g/client/c2");
}

#[tokio::test]
async fn a_node_uses_new_credentials_and_authorities_for_new_connections_and_keeps_the_old_ones() {
    let (ca, other) = (TestCa::new("g"), TestCa::new("g"));
    let (node, old) = (Peer::new(ca.issue(Role::Node, "n1")), Peer::new(ca.issue(Role::Client, "c1")));
    assert_eq!(seen_as(&old, &node).await, "shoal://g/client/c1");
    // What it had is no longer shown to anybody: who comes now finds the expired one.
    node.endpoint.reload(&ca.issue_expired(Role::Node, "n1")).unwrap();
    let late = Peer::new(ca.issue(Role::Client, "c2"));
    denied(&late, &node).await;
    assert_eq!(late.refused("expired"), 1);
    // Another authority: its clients are taken, those of the one before no more.
    node.endpoint.reload(&other.issue(Role::Node, "n1")).unwrap();
    let new = Peer::new(other.issue(Role::Client, "c3"));
    assert_eq!(seen_as(&new, &node).await, "shoal://g/client/c3");
    late.endpoint.forget(node.endpoint.local_addr());
    denied(&late, &node).await;
    // The connection from before is the same one still.
    assert_eq!(seen_as(&old, &node).await, "shoal://g/client/c1");
    assert_eq!(metric(&old.metrics, "shoal_net_handshake_failures_total"), 0);
    assert_eq!(metric(&node.metrics, r#"shoal_net_connections{direction="inbound"}"#), 2);
}

#[tokio::test]
async fn new_credentials_work_without_a_new_endpoint() {
    let ca = TestCa::new("g");
    let node = Peer::new(ca.issue_expired(Role::Node, "n1"));
    let client = Peer::new(ca.issue(Role::Client, "c1"));
    denied(&client, &node).await;
    node.endpoint.reload(&ca.issue(Role::Node, "n1")).unwrap();
    client.endpoint.forget(node.endpoint.local_addr());
    eventually_gets(&client.endpoint, node.endpoint.local_addr()).await;
}

#[tokio::test]
async fn certificates_replaced_on_disk_come_into_use_and_bad_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let [old_ca, new_ca, node_dir] = ["old-ca", "new-ca", "node"].map(|name| dir.path().join(name));
    let issue = |ca_dir, role, name: &str| {
        let out = dir.path().join(name);
        ca::issue(ca_dir, role, name, &out, 9).unwrap();
        Peer::new(Credentials::load(&out).unwrap())
    };
    for ca_dir in [&old_ca, &new_ca] {
        ca::init(ca_dir, "g", false).unwrap();
    }
    let of_old = issue(&old_ca, Role::Client, "c-old");
    let of_new = issue(&new_ca, Role::Client, "c-new");
    ca::issue(&old_ca, Role::Node, "n1", &node_dir, 9).unwrap();
    let credentials = Credentials::load(&node_dir).unwrap();
    let node = Peer::new(credentials.clone());
    let mut renewal = Renewal::new(node.endpoint.clone(), credentials.identity().clone(), &node_dir);
    let ask = async |client: &Peer| eventually_gets(&client.endpoint, node.endpoint.local_addr()).await;
    let reloads = |outcome: &str| {
        metric(&node.metrics, &format!(r#"shoal_net_certificate_reloads_total{{outcome="{outcome}"}}"#))
    };
    ask(&of_old).await;
    renewal.look().await;
    assert_eq!((reloads("ok"), reloads("refused")), (0, 0), "nothing has changed");

    // A certificate of the new authority, and both authorities trusted.
    ca::renew(&new_ca, Role::Node, "n1", &node_dir, 30).unwrap();
    let both = [&old_ca, &new_ca].map(|ca_dir| std::fs::read_to_string(ca_dir.join("ca.pem")).unwrap()).concat();
    std::fs::write(node_dir.join("ca.pem"), both).unwrap();
    let expiry = metric(&node.metrics, "shoal_net_certificate_expiry_seconds");
    renewal.look().await;
    assert_eq!((reloads("ok"), reloads("refused")), (1, 0));
    assert!(metric(&node.metrics, "shoal_net_certificate_expiry_seconds") > expiry + 20 * 86_400);
    ask(&of_new).await;
    ask(&of_old).await;

    // Half a change: the key is not the certificate's.
    let key = std::fs::read(node_dir.join("key.pem")).unwrap();
    std::fs::write(node_dir.join("key.pem"), std::fs::read(dir.path().join("c-new/key.pem")).unwrap()).unwrap();
    renewal.look().await;
    renewal.look().await;
    assert_eq!((reloads("ok"), reloads("refused")), (1, 1), "said once for the same files");
    ask(&issue(&new_ca, Role::Client, "c-2")).await;
    // Another role is another process.
    for name in ["key.pem", "cert.pem"] {
        std::fs::copy(dir.path().join("c-new").join(name), node_dir.join(name)).unwrap();
    }
    renewal.reload().await;
    assert_eq!((reloads("ok"), reloads("refused")), (1, 2));
    std::fs::write(node_dir.join("key.pem"), key).unwrap();
    ca::renew(&new_ca, Role::Node, "n1", &node_dir, 30).unwrap();
    renewal.reload().await;
    assert_eq!((reloads("ok"), reloads("refused")), (2, 2));
    ask(&issue(&new_ca, Role::Client, "c-3")).await;
}
