//! The commands that look: status and info.

use shoal_testkit::PATIENCE;

use crate::rig::Rig;
use crate::support::{one_file, read_all, small, warm_up};

#[test]
fn status_shows_every_node_as_a_table_and_as_json() {
    let Some(rig) = Rig::new("status") else { return };
    let volume = one_file(&rig, "train", 12);
    let nodes = rig.start_ring(3, &volume.url, &small());
    warm_up(&rig, &volume.url, &nodes);
    let table = rig.ok(&mut rig.on_ring("status", &nodes));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("NODE") && lines[0].contains("ADDRESS") && lines[0].contains("ORIGIN"), "{table}");
    for (line, node) in lines[1..].iter().zip(&nodes) {
        assert!(line.starts_with(&node.name) && line.contains(&node.addr.to_string()), "{table}");
    }

    let text = rig.ok(rig.on_ring("status", &nodes).args([&volume.url, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(json["setting"]["Name"], "train");
    let listed = json["nodes"].as_array().expect("a list");
    assert_eq!(listed.len(), 3);
    let mut shares = 0.0;
    for (entry, node) in listed.iter().zip(&nodes) {
        assert_eq!(entry["name"], node.name);
        assert_eq!(entry["id"], node.id);
        assert_eq!(entry["addr"], node.addr.to_string());
        assert_eq!(entry["error"], serde_json::Value::Null);
        assert_eq!(entry["stat"]["members"], 3);
        assert_eq!(entry["stat"]["blocks"], node.metric("shoal_store_blocks"));
        shares += entry["share"].as_f64().expect("a number");
    }
    assert!((shares - 1.0).abs() < 1e-6, "shares add up to {shares}");
    let fetched: u64 = listed.iter().filter_map(|entry| entry["stat"]["origin_requests"].as_u64()).sum();
    assert_eq!(fetched, 12);

    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    let by_path = rig.ok(rig.shoal().arg("status").arg(mount.point.join("big")));
    assert!(by_path.contains("\"Name\": \"train\"") && by_path.contains(&nodes[2].name), "{by_path}");
}

#[test]
fn status_tells_a_node_that_does_not_answer() {
    let Some(rig) = Rig::new("status-dead") else { return };
    let volume = one_file(&rig, "train", 2);
    let mut nodes = rig.start_ring(2, &volume.url, &small());
    // A stopped process keeps its place in the ring for some seconds, or has just lost it: both are told.
    nodes[1].process.signal(rustix::process::Signal::STOP);
    let table = rig.ok(&mut rig.on_ring("status", &nodes[..1]));
    assert!(table.contains("node-1"), "{table}");
    assert!(table.lines().count() == 2 || table.contains("node node-2 does not answer"), "{table}");
    rig.wait_for_members(&nodes[..1], 1, PATIENCE);
    let table = rig.ok(&mut rig.on_ring("status", &nodes[..1]));
    assert!(!table.contains("node-2"), "{table}");
}

#[test]
fn info_shows_what_a_file_is_made_of_and_where_it_is_cached() {
    let Some(rig) = Rig::new("info") else { return };
    let volume = one_file(&rig, "train", 3);
    let nodes = rig.start_ring(2, &volume.url, &small());
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    let info = || rig.ok(rig.shoal().arg("info").arg(mount.point.join("big")));

    let cold = info();
    assert!(cold.contains("/big :") && cold.contains("inode: 2"), "{cold}");
    assert!(cold.contains(&format!("({} Bytes)", volume.content.len())) && cold.contains("path: /big"), "{cold}");
    assert!(cold.contains("chunkIndex") && cold.contains("objectName"), "{cold}");
    let blocks = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().filter(|line| line.contains("train/chunks/"));
        lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
    };
    for line in blocks(&cold) {
        assert!(["node-1", "node-2"].contains(&line[7].as_str()), "no owner: {line:?}");
        assert_eq!(line[8], "-", "cached before it was read: {line:?}");
    }
    assert_eq!(blocks(&cold).len(), 3, "{cold}");

    warm_up(&rig, &volume.url, &nodes);
    read_all(&mount, &volume.content);
    let warm = info();
    for line in blocks(&warm) {
        let owner = &line[7];
        let places: Vec<&str> = line[8].split(',').collect();
        let here = [format!("{owner}:ram"), format!("{owner}:nvme")];
        assert!(places.iter().any(|place| here.contains(&(*place).to_owned())), "not with its owner: {line:?}");
    }
    let by_meta = rig.ok(rig.on_ring("info", &nodes).args(["--meta", &volume.url, "/big"]));
    assert_eq!(blocks(&by_meta), blocks(&warm));
    let root = rig.ok(rig.shoal().arg("info").arg(&mount.point));
    assert!(root.contains("files: 1") && root.contains("dirs: 1"), "{root}");
    let said = rig.refused(rig.shoal().arg("info").arg(mount.point.join("missing")));
    assert!(said.contains("no such path"), "{said}");
    let alone = rig.ok(rig.shoal().args(["info", "--meta", &volume.url, "/big"]));
    assert!(blocks(&alone).iter().all(|line| line[7] == "-" && line[8] == "-"), "{alone}");
}
