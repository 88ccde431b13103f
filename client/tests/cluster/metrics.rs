//! What an operator reads on the metrics pages adds up, and is named by one rule.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use shoal_testkit::{PATIENCE, Tree, wait_until};

use crate::rig::node::{http_get, metric};
use crate::rig::{Mount, Node, Rig};
use crate::support::{BLOCK, one_file, read_all, small, tree_of};

/// Sum of all lines of a counter, whatever their labels.
fn sum(text: &str, name: &str) -> u64 {
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit(' ').next());
    values.map(|value| value.parse::<f64>().expect("a number") as u64).sum()
}

#[test]
fn bytes_by_tier_add_up_to_what_was_delivered() {
    let Some(rig) = Rig::new("sums") else { return };
    let source = rig.mkdir("source");
    Tree::new(5).files(80).file_bytes_max(3 << 20).write(&source).expect("the tree is written");
    let url = rig.format("train", &["--block-size", "1M"]);
    rig.import(&source, &url);
    let nodes = rig.start_ring(3, &url, &small());
    let ring = rig.mount("ring", &url, &nodes, &["--memory", "32M"]);
    let alone = rig.mount("alone", &url, &[], &["--memory", "32M"]);
    let expected = tree_of(&source);
    for mount in [&ring, &alone, &ring] {
        tree_of(&mount.point).assert_same(&expected, "the mount");
        std::fs::write("/proc/sys/vm/drop_caches", "1").expect("root may drop the kernel's pages");
    }
    for mount in [&ring, &alone] {
        let text = mount.stats();
        let delivered = metric(&text, "shoal_vfs_read_bytes_total");
        assert!(delivered > 0);
        assert_eq!(delivered, metric(&text, "shoal_fuse_read_bytes_total"), "vfs and fuse count the same bytes");
        let blocks = delivered - metric(&text, "shoal_vfs_hole_bytes_total");
        assert_eq!(sum(&text, "shoal_cache_read_bytes_total"), blocks, "{}", mount.point.display());
        assert_eq!(sum(&text, "shoal_cache_errors_total"), 0);
    }
    assert_eq!(ring.bytes_from("origin"), 0);
    assert_eq!(alone.bytes_from("peer"), 0);
    assert!(alone.bytes_from("origin") > 0 && ring.bytes_from("peer") > 0);

    // What left the nodes is what their tiers delivered and what the mount received: nothing is counted twice or lost.
    let across = |name: &str| nodes.iter().map(|node| node.metric(name)).sum::<u64>();
    wait_until("the nodes' sums and the mount's agree", PATIENCE, || {
        let by_tier: u64 = nodes.iter().map(|node| sum(&node.metrics_text(), "shoal_cache_read_bytes_total")).sum();
        by_tier == across("shoal_net_sent_bytes_total") && by_tier == ring.metric("shoal_net_received_bytes_total")
    });
}

#[test]
fn the_pages_show_what_an_operator_asks_for() {
    let Some(rig) = Rig::new("pages") else { return };
    let volume = one_file(&rig, "train", 8);
    let nodes = rig.start_ring(2, &volume.url, &small());
    let page = "127.0.0.1:0";
    let mut mount = rig.mount("m", &volume.url, &nodes, &["--metrics", page]);
    read_all(&mount, &volume.content);

    let node = nodes[0].metrics_text();
    for name in [
        "shoal_cluster_members 2",
        "shoal_store_limit_bytes{tier=\"nvme\"}",
        "shoal_store_limit_bytes{tier=\"ram\"}",
        "shoal_store_used_bytes{tier=\"nvme\"}",
        "shoal_store_evictions_total 0",
        "shoal_store_corrupt_total 0",
        "shoal_cache_errors_total{kind=\"timeout\"} 0",
        "shoal_cache_read_duration_seconds_bucket{tier=\"origin\",le=\"0.001\"}",
        "shoal_cache_read_duration_seconds_count{tier=\"origin\"}",
        "shoal_object_request_duration_seconds_bucket{",
        "shoal_net_refused_total{reason=\"unknown_ca\"} 0",
    ] {
        assert!(node.contains(name), "no `{name}` on a node's page:\n{node}");
    }
    let epochs: Vec<f64> = nodes.iter().map(|node| number(&node.metrics_text(), "shoal_cluster_epoch")).collect();
    assert_eq!(epochs[0], epochs[1], "nodes of one ring show one epoch");
    assert_eq!(epochs[0], number(&mount.stats(), "shoal_cluster_epoch"));

    // The page and the virtual file are the same registry.
    let line = mount.process.stdout().concat();
    let addr = line.rsplit("metrics=").next().and_then(|text| text.trim().parse().ok()).expect("the page's address");
    let text = http_get(addr, "/metrics");
    for name in [
        "shoal_cluster_members 2",
        "shoal_fuse_read_duration_seconds_bucket{le=",
        "shoal_cache_read_duration_seconds_bucket{tier=\"peer\",le=",
        "shoal_fuse_reads_total{path=\"inline\"}",
        "shoal_fuse_open_handles",
        "shoal_vfs_readahead_blocks_total",
    ] {
        assert!(text.contains(name), "no `{name}` on a mount's page:\n{text}");
    }
    assert_eq!(metric(&text, "shoal_vfs_read_bytes_total"), mount.metric("shoal_vfs_read_bytes_total"));
    assert_eq!(http_get(addr, "/healthz"), "ok\n");

    for text in [&node, &text] {
        named_by_the_rule(text);
    }
    errors_are_counted_by_kind(&rig, &mount);
    assert!(mount.process.terminate(PATIENCE).success());
}

fn number(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name}"))
}

/// `shoal_<crate>_<what>_<unit>`, `_total` on counters and on nothing else, a help text for each.
fn named_by_the_rule(text: &str) {
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a kind");
            kinds.insert(name, kind);
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            assert!(help.len() > 5, "{name} has no help");
        }
    }
    assert!(!kinds.is_empty());
    let crates = ["cache", "cluster", "fuse", "meta", "net", "node", "object", "stage", "store", "vfs"];
    for (name, kind) in kinds {
        let mut words = name.split('_');
        assert_eq!(words.next(), Some("shoal"), "{name}");
        let of = words.next().unwrap_or_default();
        assert!(crates.contains(&of) && words.next().is_some(), "{name} names no crate");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        if kind == "histogram" {
            assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name} has no unit");
        }
    }
}

fn errors_are_counted_by_kind(rig: &Rig, mount: &Mount) {
    let before = mount.metric("shoal_fuse_errors_total{kind=\"not_found\"}");
    for object in crate::support::files_below(&rig.path("train-objects/train/chunks")) {
        std::fs::remove_file(object).expect("removed");
    }
    for number in 1..=2 {
        std::fs::remove_dir_all(Node::cache_dir(rig, number)).expect("removed");
    }
    // Only blocks that are nowhere in RAM either fail; another mount, alone, has none.
    let url = rig.url("train");
    let alone = rig.mount("alone", &url, &[], &[]);
    let file = File::open(alone.point.join("big")).expect("it opens");
    let error = file.read_at(&mut vec![0; 4096], BLOCK as u64).expect_err("there is no object");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert!(alone.metric("shoal_fuse_errors_total{kind=\"not_found\"}") > 0);
    assert!(alone.metric("shoal_cache_errors_total{kind=\"not_found\"}") > 0);
    assert_eq!(mount.metric("shoal_fuse_errors_total{kind=\"not_found\"}"), before, "the other mount is untouched");
}
