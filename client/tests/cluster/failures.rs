//! Nodes that die, hang or all go away: a reader never notices.

use std::net::SocketAddr;

use rustix::process::Signal;
use shoal_testkit::{PATIENCE, wait_until};

use crate::rig::node::origin_requests;
use crate::rig::{Mount, Node, NodeOptions, Rig};
use crate::support::{mounts_origin_requests, one_file, read_all, read_during, small, warm_up};

/// Waits until `mount` sees `members` nodes.
fn wait_for_view(mount: &Mount, members: u64) {
    wait_until(&format!("the mount sees {members} nodes"), PATIENCE, || {
        mount.metric("shoal_cluster_members") == members
    });
}

fn addresses(nodes: &[Node]) -> Vec<SocketAddr> {
    nodes.iter().map(|node| node.addr).collect()
}

#[test]
fn a_node_killed_in_mid_read_costs_no_error_and_comes_back_with_what_it_held() {
    let Some(rig) = Rig::new("kill") else { return };
    let volume = one_file(&rig, "train", 40);
    let mut nodes = rig.start_ring(3, &volume.url, &small());
    warm_up(&rig, &volume.url, &nodes);
    let mount = rig.mount("m", &volume.url, &nodes, &["--peer-timeout", "5"]);
    let mut dead = nodes.remove(1);
    let held = dead.metric("shoal_store_blocks");
    assert!(held > 0, "node 2 owns no block");
    read_during(&mount, &volume.content, || dead.process.kill());
    rig.wait_for_members(&nodes, 2, PATIENCE);
    wait_for_view(&mount, 2);

    let back = rig.start_node(2, &volume.url, &addresses(&nodes), &small());
    assert_eq!(back.id, dead.id, "the id stays with the cache directory");
    // It may have been handed some more before it died.
    assert!(back.metric("shoal_store_blocks") >= held, "what it held is found again");
    nodes.push(back);
    rig.wait_for_members(&nodes, 3, PATIENCE);
    wait_for_view(&mount, 3);
    let before = origin_requests(&nodes);
    let mounts = [rig.mount("after", &volume.url, &nodes, &[])];
    read_all(&mounts[0], &volume.content);
    assert_eq!(origin_requests(&nodes) + mounts_origin_requests(&mounts), before, "every block was in the ring");
    assert_eq!(nodes[2].metric("shoal_cache_origin_requests_total"), 0);
    assert!(nodes[2].metric("shoal_store_reads_total{outcome=\"hit\",tier=\"nvme\"}") > 0, "it serves from NVMe");
}

#[test]
fn a_hung_node_slows_nobody_for_long() {
    let Some(rig) = Rig::new("hang") else { return };
    let volume = one_file(&rig, "train", 32);
    let mut nodes = rig.start_ring(3, &volume.url, &small());
    let mount = rig.mount("m", &volume.url, &nodes, &["--peer-timeout", "1"]);
    read_during(&mount, &volume.content, || nodes[1].process.signal(Signal::STOP));
    // Also for a client that meets the ring in this state.
    let (hung, others) = (nodes.remove(1), nodes);
    let late = rig.mount("late", &volume.url, &others, &["--peer-timeout", "1"]);
    read_all(&late, &volume.content);
    rig.wait_for_members(&others, 2, PATIENCE);
    wait_for_view(&mount, 2);

    let mut nodes = others;
    nodes.push(hung);
    nodes[2].process.signal(Signal::CONT);
    rig.wait_for_members(&nodes, 3, PATIENCE);
    wait_for_view(&mount, 3);
    let healed = rig.mount("healed", &volume.url, &nodes, &[]);
    read_all(&healed, &volume.content);
    assert_eq!(healed.bytes_from("origin"), 0);
}

#[test]
fn without_any_node_reads_go_to_the_origin_until_nodes_are_back() {
    let Some(rig) = Rig::new("alone") else { return };
    let volume = one_file(&rig, "train", 12);
    let mut nodes = rig.start_ring(2, &volume.url, &small());
    // So little memory that the mount keeps nothing, and no pages of the kernel's either: every read shows where it goes.
    let mount = rig.mount("m", &volume.url, &nodes, &["--peer-timeout", "1", "--memory", "16M"]);
    let ask = || {
        std::fs::write("/proc/sys/vm/drop_caches", "1").expect("root may drop the kernel's pages");
        read_all(&mount, &volume.content);
    };
    ask();
    assert_eq!(mount.bytes_from("origin"), 0);
    nodes.iter_mut().for_each(|node| node.process.kill());
    ask();
    assert!(mount.bytes_from("origin") > 0, "with every node dead only the origin is left");

    let addr = nodes[0].addr;
    let options = NodeOptions { listen: Some(addr), ..small() };
    let back = rig.start_node(1, &volume.url, &[], &options);
    wait_for_view(&mount, 1);
    wait_until("the mount reads from the node that is back", PATIENCE, || {
        ask();
        back.metric("shoal_cache_read_bytes_total{tier=\"nvme\"}") > 0
    });
}
