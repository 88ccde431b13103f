//! Nodes among themselves.

use shoal_cluster::{Cluster, ClusterConfig, Member, Timing};
use shoal_net::Role;
use shoal_net::testing::TestCa;
use shoal_runtime::metrics::Registry;
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::{ErrorKind, NodeId};

use crate::harness::{TestNode, calm, wait_for_members};

#[tokio::test]
async fn three_nodes_meet_through_one_seed_and_agree() {
    let ca = TestCa::new("g");
    let first = TestNode::start(&ca, 1, &[]);
    let seeds = [first.seed()];
    let second = TestNode::start(&ca, 2, &seeds);
    let third = TestNode::start(&ca, 3, &seeds);
    for node in [&first, &second, &third] {
        wait_for_members(&node.cluster.views(), &[1, 2, 3]).await;
    }
    let epochs = [&first, &second, &third].map(|node| node.cluster.views().current().epoch());
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let metrics = second.registry.gather_text();
    assert!(metrics.contains("shoal_cluster_members 3"), "{metrics}");
    assert!(metrics.contains("shoal_cluster_changes_total{kind=\"up\"} 2"), "{metrics}");
}

#[tokio::test]
async fn killed_node_is_dropped_and_its_next_life_is_welcome() {
    let ca = TestCa::new("g");
    let first = TestNode::start_mortal(&ca, 1, &[]);
    let seeds = [first.seed()];
    let second = TestNode::start_mortal(&ca, 2, &seeds);
    let third = TestNode::start_mortal(&ca, 3, &seeds);
    wait_for_members(&second.cluster.views(), &[1, 2, 3]).await;
    let former = wait_for_members(&first.cluster.views(), &[1, 2, 3]).await.member(third.id).unwrap().incarnation;
    third.kill().await;
    for node in [&first, &second] {
        wait_for_members(&node.cluster.views(), &[1, 2]).await;
    }
    let third = TestNode::start_mortal(&ca, 3, &seeds);
    for node in [&second, &third, &first] {
        let view = wait_for_members(&node.cluster.views(), &[1, 2, 3]).await;
        let member = view.member(third.id).unwrap();
        assert_eq!(member.addr, third.addr());
        assert!(member.incarnation > former);
    }
}

#[tokio::test]
async fn node_that_will_leave_owns_nothing_and_is_still_a_member() {
    let ca = TestCa::new("g");
    let first = TestNode::start(&ca, 1, &[]);
    let second = TestNode::start(&ca, 2, &[first.seed()]);
    for node in [&first, &second] {
        wait_for_members(&node.cluster.views(), &[1, 2]).await;
    }
    let before = first.cluster.changed_at();
    second.cluster.set_leaving().await;
    assert_eq!(second.cluster.views().current().ring.len(), 1, "its own view first");
    let views = first.cluster.views();
    wait_until_async("the other sees it", PATIENCE, async || views.current().ring.len() == 1).await;
    let view = views.current();
    assert_eq!(view.members.len(), 2);
    assert!(view.member(second.id).unwrap().leaving && !view.member(first.id).unwrap().leaving);
    assert!(first.cluster.changed_at() > before);
    second.cluster.set_leaving().await;
    second.cluster.leave().await;
    wait_for_members(&first.cluster.views(), &[1]).await;
}

#[tokio::test]
async fn leaving_node_is_gone_before_leave_returns_to_a_patient_caller() {
    let ca = TestCa::new("g");
    let first = TestNode::start(&ca, 1, &[]);
    let second = TestNode::start(&ca, 2, &[first.seed()]);
    wait_for_members(&first.cluster.views(), &[1, 2]).await;
    wait_for_members(&second.cluster.views(), &[1, 2]).await;
    second.cluster.leave().await;
    wait_for_members(&first.cluster.views(), &[1]).await;
    wait_for_members(&second.cluster.views(), &[1]).await;
    // Leaving twice is no mistake.
    second.cluster.leave().await;
}

#[tokio::test]
async fn node_without_a_living_seed_works_alone_and_joins_when_the_seed_comes() {
    let ca = TestCa::new("g");
    let lonely = TestNode::start(&ca, 2, &["no-such-host.invalid:7070".into(), "127.0.0.1:1".into()]);
    wait_for_members(&lonely.cluster.views(), &[2]).await;
    // The other side knows this one.
    let other = TestNode::start(&ca, 1, &[lonely.seed()]);
    wait_for_members(&lonely.cluster.views(), &[1, 2]).await;
    wait_for_members(&other.cluster.views(), &[1, 2]).await;
}

#[tokio::test]
async fn own_address_among_the_seeds_is_ignored() {
    let ca = TestCa::new("g");
    let first = TestNode::start(&ca, 1, &[]);
    let own = first.seed();
    let second = TestNode::start(&ca, 2, std::slice::from_ref(&own));
    wait_for_members(&second.cluster.views(), &[1, 2]).await;
    let registry = Registry::new();
    let endpoint = ca.endpoint(Role::Node, "self");
    let me = Member::new(NodeId([9; 16]), "self", endpoint.local_addr());
    // No service answers at this address, so asking it would be noticed as a failure; the other seed is what counts.
    let seeds = vec![endpoint.local_addr().to_string(), own];
    let config = ClusterConfig { me, seeds, state_dir: None, timing: calm() };
    let cluster = Cluster::start(config, endpoint, &registry).unwrap();
    wait_for_members(&cluster.views(), &[1, 2, 9]).await;
}

#[tokio::test]
async fn remembered_members_lead_back_when_every_seed_is_gone() {
    let ca = TestCa::new("g");
    let dir = tempfile::tempdir().unwrap();
    let seed = TestNode::start_mortal(&ca, 1, &[]);
    let stays = TestNode::start_mortal(&ca, 2, &[seed.seed()]);
    let comes_back = TestNode::start_with(&ca, 3, &[seed.seed()], Some(dir.path()), Timing::default());
    wait_for_members(&comes_back.cluster.views(), &[1, 2, 3]).await;
    wait_for_members(&stays.cluster.views(), &[1, 2, 3]).await;
    let stays_addr = stays.addr();
    wait_until_async("the members are saved", PATIENCE, async || {
        let saved = std::fs::read(dir.path().join("members")).unwrap_or_default();
        let port = postcard_port(stays_addr.port());
        saved.windows(port.len()).any(|window| window == port)
    })
    .await;
    let gone = seed.seed();
    comes_back.kill().await;
    seed.kill().await;
    wait_for_members(&stays.cluster.views(), &[2]).await;
    let comes_back = TestNode::start_with(&ca, 3, &[gone], Some(dir.path()), Timing::default());
    wait_for_members(&comes_back.cluster.views(), &[2, 3]).await;
    wait_for_members(&stays.cluster.views(), &[2, 3]).await;
}

/// A port as postcard writes it.
fn postcard_port(port: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = port;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

#[tokio::test]
async fn impossible_configurations_are_refused() {
    let ca = TestCa::new("g");
    let endpoint = ca.endpoint(Role::Node, "n");
    let me = Member { weight: 0, ..Member::new(NodeId([1; 16]), "n", endpoint.local_addr()) };
    let config = ClusterConfig { me, seeds: Vec::new(), state_dir: None, timing: Timing::default() };
    let error = Cluster::start(config, endpoint, &Registry::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("weight"), "{error}");
}
