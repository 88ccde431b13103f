//! Nodes that leave in order: what they held is with the others when they are gone.

use rustix::process::Signal;
use shoal_testkit::{PATIENCE, wait_until};

use crate::rig::node::{http_get, origin_requests};
use crate::rig::{NodeOptions, Rig};
use crate::support::{mounts_origin_requests, one_file, read_all, small, warm_up};

#[test]
fn a_drained_node_hands_its_blocks_over_and_ends() {
    let Some(rig) = Rig::new("drain") else { return };
    let volume = one_file(&rig, "train", 48);
    let mut nodes = rig.start_ring(3, &volume.url, &small());
    warm_up(&rig, &volume.url, &nodes);
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    let mut leaving = nodes.remove(2);
    assert!(leaving.metric("shoal_store_blocks") > 0, "node 3 owns no block");
    let status = rig.ok(rig.shoal().args(["node", "status", &leaving.addr.to_string(), "--certs", "node-1"]));
    assert!(status.contains("state           serving") && status.contains("weight          10"), "{status}");
    assert_eq!(http_get(leaving.metrics, "/ready"), "ready\n");
    let before = origin_requests(&nodes);

    let said = rig.ok(rig.shoal().args(["node", "drain", &leaving.addr.to_string(), "--certs", "node-1"]));
    assert!(said.contains("leaves the ring") && said.contains(", 0 not"), "{said}");
    let status = leaving.process.wait(PATIENCE);
    assert!(status.success(), "{status}\n{}", leaving.process.output());
    rig.wait_for_members(&nodes, 2, PATIENCE);

    let mounts = [mount, rig.mount("after", &volume.url, &nodes, &[])];
    mounts.iter().for_each(|mount| read_all(mount, &volume.content));
    let asked = origin_requests(&nodes) + mounts_origin_requests(&mounts) - before;
    assert_eq!(asked, 0, "every block was in the ring\n{}", leaving.process.output());
}

#[test]
fn a_signal_drains_too_and_a_client_may_not() {
    let Some(rig) = Rig::new("drain-signal") else { return };
    let volume = one_file(&rig, "train", 24);
    let mut nodes = rig.start_ring(3, &volume.url, &small());
    warm_up(&rig, &volume.url, &nodes);
    let before = origin_requests(&nodes[..2]);
    let said =
        rig.refused(rig.shoal().args(["node", "drain", &nodes[0].addr.to_string(), "--certs"]).arg(rig.path("client")));
    assert!(said.contains("shoal cert node"), "{said}");
    assert_eq!(http_get(nodes[0].metrics, "/ready"), "ready\n");

    let mut leaving = nodes.remove(2);
    let status = leaving.process.terminate(PATIENCE);
    assert!(status.success(), "{status}\n{}", leaving.process.output());
    assert!(leaving.process.stderr().iter().any(|line| line.contains("blocks are handed over")));
    rig.wait_for_members(&nodes, 2, PATIENCE);
    let mounts = [rig.mount("after", &volume.url, &nodes, &[])];
    read_all(&mounts[0], &volume.content);
    assert_eq!(origin_requests(&nodes) + mounts_origin_requests(&mounts), before, "every block was in the ring");
}

#[test]
fn a_draining_node_says_so_and_a_second_signal_ends_it_at_once() {
    let Some(rig) = Rig::new("drain-hung") else { return };
    let volume = one_file(&rig, "train", 16);
    let mut nodes = rig.start_ring(2, &volume.url, &small());
    warm_up(&rig, &volume.url, &nodes);
    // The only one who could take its blocks does not answer.
    nodes[1].process.signal(Signal::STOP);
    nodes[0].process.signal(Signal::TERM);
    let metrics = nodes[0].metrics;
    wait_until("it says that it drains", PATIENCE, || http_get(metrics, "/ready") == "draining\n");
    assert_eq!(http_get(metrics, "/live"), "ok\n");
    assert_eq!(nodes[0].metric("shoal_node_draining"), 1);
    nodes[0].process.signal(Signal::TERM);
    let status = nodes[0].process.wait(PATIENCE);
    assert_eq!(status.code(), Some(128 + 15), "{}", nodes[0].process.output());
}

#[test]
fn without_time_to_drain_a_node_leaves_at_once() {
    let Some(rig) = Rig::new("drain-zero") else { return };
    let volume = one_file(&rig, "train", 8);
    let options = NodeOptions { flags: vec!["--drain-timeout".into(), "0".into()], ..small() };
    let mut nodes = rig.start_ring(2, &volume.url, &options);
    warm_up(&rig, &volume.url, &nodes);
    let mut leaving = nodes.remove(1);
    assert!(leaving.process.terminate(PATIENCE).success(), "{}", leaving.process.output());
    rig.wait_for_members(&nodes, 1, PATIENCE);
    assert_eq!(nodes[0].metric("shoal_cache_taken_blocks_total"), 0);
    read_all(&rig.mount("m", &volume.url, &nodes, &[]), &volume.content);
}
