//! A block is fetched from the object store once, however many clients want it.

use std::sync::Barrier;

use shoal_testkit::{PATIENCE, Tree, seeded_bytes, wait_until};

use crate::rig::node::origin_requests;
use crate::rig::{Mount, Rig};
use crate::support::{
    BLOCK, files_below, mounts_origin_requests, one_file, read_all, same, small, tree_of, warm_up, whole,
};

#[test]
fn a_second_client_reads_from_the_ring_what_the_first_one_brought_there() {
    let Some(rig) = Rig::new("second") else { return };
    let source = rig.mkdir("source");
    Tree::new(11).files(60).file_bytes_max(1 << 20).write(&source).expect("the tree is written");
    std::fs::write(source.join("big"), seeded_bytes(1, 20 * BLOCK + 12_345)).expect("the file is written");
    let url = rig.format("train", &[]);
    rig.import(&source, &url);
    let blocks = rig.blocks("train");
    let nodes = rig.start_ring(3, &url, &whole());
    let expected = tree_of(&source);
    let read = |mount: &Mount| {
        tree_of(&mount.point).assert_same(&expected, &mount.point.display().to_string());
    };

    let first = rig.mount("first", &url, &nodes, &[]);
    read(&first);
    let mounts = [first, rig.mount("second", &url, &nodes, &[])];
    assert_eq!(origin_requests(&nodes) + mounts_origin_requests(&mounts), blocks, "the first reader's cost");
    read(&mounts[1]);

    assert_eq!(origin_requests(&nodes) + mounts_origin_requests(&mounts), blocks, "the second reader costs nothing");
    let [_, second] = &mounts;
    let from_blocks = second.metric("shoal_vfs_read_bytes_total") - second.metric("shoal_vfs_hole_bytes_total");
    let from_peers = second.metric("shoal_net_received_bytes_total");
    assert_eq!(second.bytes_from("origin"), 0);
    assert!(from_peers * 100 >= from_blocks * 99, "{from_peers} of {from_blocks} bytes came from the ring");
    for node in &nodes {
        assert!(node.metric("shoal_cache_origin_requests_total") > 0, "{} has no share of the work", node.name);
    }
}

#[test]
fn eight_clients_that_want_one_cold_file_at_once_cost_one_read_of_the_origin() {
    let Some(rig) = Rig::new("eight") else { return };
    let volume = one_file(&rig, "train", 24);
    let nodes = rig.start_ring(3, &volume.url, &whole());
    let flags = ["--memory", "64M"];
    let mounts: Vec<Mount> = (1..=8).map(|n| rig.mount(&format!("m{n}"), &volume.url, &nodes, &flags)).collect();
    let start = Barrier::new(mounts.len());
    std::thread::scope(|scope| {
        for mount in &mounts {
            scope.spawn(|| {
                start.wait();
                read_all(mount, &volume.content);
            });
        }
    });
    assert_eq!(mounts_origin_requests(&mounts), 0);
    assert_eq!(origin_requests(&nodes), 24);
}

#[test]
fn after_a_warm_up_nothing_comes_from_the_origin() {
    let Some(rig) = Rig::new("warm") else { return };
    let volume = one_file(&rig, "train", 16);
    let nodes = rig.start_ring(3, &volume.url, &small());
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    let said = rig.ok(rig.shoal().args(["warmup", "--quiet"]).arg(mount.point.join("big")));
    assert!(said.starts_with("16 blocks: 16 fetched (") && said.contains(", 0 already there, 0 failed"), "{said}");
    assert_eq!(origin_requests(&nodes), 16);
    let said = rig.ok(rig.shoal().args(["warmup", "--quiet"]).arg(&mount.point));
    assert!(said.starts_with("16 blocks: 0 fetched (") && said.contains(", 16 already there, 0 failed"), "{said}");
    let said = warm_up(&rig, &volume.url, &nodes);
    assert!(said.contains(", 16 already there, 0 failed"), "{said}");
    read_all(&mount, &volume.content);
    assert_eq!(origin_requests(&nodes) + mount.metric("shoal_cache_origin_requests_total"), 16);
}

#[test]
fn a_warm_up_that_cannot_be_done_says_why() {
    let Some(rig) = Rig::new("warm-refused") else { return };
    let volume = one_file(&rig, "train", 4);
    let nodes = rig.start_ring(2, &volume.url, &small());
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    let alone = rig.mount("alone", &volume.url, &[], &[]);

    let warm = |words: &[&str]| {
        let mut command = rig.shoal();
        command.args(["warmup", "--quiet"]).args(words);
        rig.refused(&mut command)
    };
    let missing = mount.point.join("missing");
    assert!(warm(&[&missing.display().to_string()]).contains("no such path"), "a missing path in a mount");
    let mut command = rig.on_ring("warmup", &nodes);
    let said = rig.refused(command.args(["--meta", &volume.url, "/missing"]));
    assert!(said.contains("no such path in the volume: /missing"), "{said}");
    let said = warm(&[&alone.point.display().to_string()]);
    assert!(said.contains("no ring to warm") && said.contains("--join"), "{said}");
    let said = warm(&[&rig.path("train-source").display().to_string()]);
    assert!(said.contains("not in a Shoal mount"), "{said}");

    // The third block is in no object store: three are warmed, one is reported.
    let objects = files_below(&rig.path("train-objects/train/chunks"));
    let kept = std::fs::read(&objects[2]).expect("the object is there");
    std::fs::remove_file(&objects[2]).expect("removed");
    let name = objects[2].file_name().expect("a name").to_string_lossy().into_owned();
    let said = warm(&[&mount.point.display().to_string()]);
    assert!(said.contains("1 of 4 blocks are not in the ring") && said.contains(&name), "{said}");
    std::fs::write(&objects[2], kept).expect("restored");
    let said = warm_up(&rig, &volume.url, &nodes);
    assert!(said.starts_with("4 blocks: 1 fetched (") && said.contains(", 3 already there, 0 failed"), "{said}");
    read_all(&mount, &volume.content);
    same(&std::fs::read(alone.point.join("big")).expect("read"), &volume.content, "the mount without a ring");
}

#[test]
fn what_a_client_writes_is_offered_to_the_ring() {
    let Some(rig) = Rig::new("offered") else { return };
    let url = rig.format("train", &[]);
    let nodes = rig.start_ring(2, &url, &small());
    let writer = rig.mount("writer", &url, &nodes, &["--writable", "--fill-group"]);
    let content = seeded_bytes(5, 6 * BLOCK + 777);
    std::fs::write(writer.point.join("file"), &content).expect("the file is written");
    let taken = || writer.metric("shoal_cache_offered_blocks_total{outcome=\"taken\"}");
    wait_until("the owners have every block", PATIENCE, || taken() == rig.blocks("train"));

    let reader = rig.mount("reader", &url, &nodes, &[]);
    assert!(crate::rig::mount::read(&reader.point.join("file")) == content);
    assert_eq!(reader.bytes_from("origin"), 0, "a reader finds it in the ring");
    assert_eq!(origin_requests(&nodes), rig.blocks("train"), "each owner fetched its blocks once");
}
