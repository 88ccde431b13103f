//! How nodes and clients find the ring, and what they say of themselves.

use shoal_testkit::{PATIENCE, wait_until};

use crate::rig::{Node, NodeOptions, Rig};
use crate::support::{one_file, read_all, small};

#[test]
fn nodes_and_clients_find_the_ring_by_a_file_that_is_written_later() {
    let Some(rig) = Rig::new("seed-file") else { return };
    let volume = one_file(&rig, "train", 4);
    let seeds = rig.path("nodes");
    std::fs::write(&seeds, "# nobody yet\n").expect("written");
    let seed = format!("file:{}", seeds.display());
    let options = NodeOptions { flags: vec!["--join".into(), seed.clone()], ..small() };
    let nodes = [1, 2].map(|number| rig.start_node(number, &volume.url, &[], &options));
    rig.wait_for_members(&nodes, 1, PATIENCE);
    std::fs::write(&seeds, format!("{} # the first\nno address\n", nodes[0].addr)).expect("written");
    rig.wait_for_members(&nodes, 2, PATIENCE);
    let mount = rig.mount("m", &volume.url, &[], &["--join", &seed, "--certs", "client"]);
    read_all(&mount, &volume.content);
    assert_eq!(mount.metric("shoal_cluster_members"), 2);
}

#[test]
fn a_node_that_dies_again_and_again_owns_nothing_but_serves() {
    let Some(rig) = Rig::new("flapping") else { return };
    let volume = one_file(&rig, "train", 8);
    let nodes = rig.start_ring(2, &volume.url, &small());
    let seeds = [nodes[0].addr, nodes[1].addr];
    let mut flapping = rig.start_node(3, &volume.url, &seeds, &small());
    // Five returns in short order are enough; on a slow machine it takes some more.
    for restart in 1.. {
        assert!(restart <= 15, "it is not damped");
        flapping.process.kill();
        flapping = rig.start_node(3, &volume.url, &seeds, &small());
        wait_until("its members are remembered", PATIENCE, || Node::cache_dir(&rig, 3).join("members").is_file());
        let known = || nodes.iter().chain([&flapping]).all(|node| node.metric("shoal_cluster_members") == 3);
        wait_until("all see three nodes", PATIENCE, known);
        if flapping.metric("shoal_cluster_damped") == 1 {
            assert!(restart >= 4, "damped at restart {restart}");
            break;
        }
    }
    let owners = || nodes.iter().chain([&flapping]).all(|node| node.metric("shoal_cluster_owners") == 2);
    wait_until("everybody says so", PATIENCE, owners);
    let epochs: Vec<u64> = nodes.iter().chain([&flapping]).map(|node| node.metric("shoal_cluster_epoch")).collect();
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let table = rig.ok(&mut rig.on_ring("status", &nodes));
    let row = table.lines().find(|line| line.starts_with("node-3")).expect("it is listed");
    assert!(row.contains("damped") && row.contains("0.0%"), "{table}");
    read_all(&rig.mount("m", &volume.url, &nodes, &[]), &volume.content);
}

#[test]
fn status_shows_zone_weight_and_state() {
    let Some(rig) = Rig::new("zones") else { return };
    let volume = one_file(&rig, "train", 4);
    let flags = |flags: &[&str]| NodeOptions { flags: flags.iter().map(|flag| (*flag).into()).collect(), ..small() };
    let first = rig.start_node(1, &volume.url, &[], &flags(&["--zone", "rack-a", "--weight", "300"]));
    let second = rig.start_node(2, &volume.url, &[first.addr], &flags(&["--zone", "rack-b", "--weight", "100"]));
    let nodes = [first, second];
    rig.wait_for_members(&nodes, 2, PATIENCE);
    let table = rig.ok(&mut rig.on_ring("status", &nodes));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..6], ["NODE", "ADDRESS", "ZONE", "STATE", "WEIGHT", "SHARE"]);
    assert_eq!(rows[1][2..5], ["rack-a", "serving", "300"]);
    assert_eq!(rows[2][2..5], ["rack-b", "serving", "100"]);
    let share: f64 = rows[1][5].trim_end_matches('%').parse().expect("a share");
    assert!((65.0..85.0).contains(&share), "three quarters are {share} %");
    let text = rig.ok(rig.on_ring("status", &nodes).args([&volume.url, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(json["nodes"][1]["stat"]["zone"], "rack-b");
    assert_eq!(json["nodes"][1]["stat"]["weight"], 100);
    assert_eq!(json["nodes"][1]["state"], "serving");
}
