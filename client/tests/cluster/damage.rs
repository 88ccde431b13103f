//! Bytes that go bad: on a node's device, in the object store.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shoal_testkit::PATIENCE;

use crate::rig::node::origin_requests;
use crate::rig::{Node, Rig};
use crate::support::{BLOCK, files_below, one_file, read_all, same, small, warm_up, whole};

const BLOCKS: usize = 24;

/// Flips a bit in every quarter of a block of everything the node has stored.
fn damage_slab(rig: &Rig) {
    let path = Node::cache_dir(rig, 1).join("shoal-cache.slab");
    let slab = File::options().read(true).write(true).open(path).expect("the slab is there");
    let len = slab.metadata().expect("its length").len();
    for at in (150_000..len).step_by(BLOCK / 4) {
        let mut byte = [0];
        slab.read_exact_at(&mut byte, at).expect("read");
        byte[0] ^= 0x40;
        slab.write_all_at(&byte, at).expect("written");
    }
    slab.sync_all().expect("on disk");
}

/// Blocks the node has found damaged: scrubbing may be there before a reader.
fn found_damage(node: &Node) -> u64 {
    node.metric("shoal_store_corrupt_total") + node.metric("shoal_store_scrub_corrupt_total")
}

#[test]
fn bytes_that_rot_while_a_node_is_stopped_are_never_served() {
    let Some(rig) = Rig::new("rot-stopped") else { return };
    let volume = one_file(&rig, "train", BLOCKS);
    let mut nodes = rig.start_ring(1, &volume.url, &whole());
    warm_up(&rig, &volume.url, &nodes);
    assert!(nodes[0].process.terminate(PATIENCE).success());
    damage_slab(&rig);
    let nodes = rig.start_ring(1, &volume.url, &whole());
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    read_all(&mount, &volume.content);
    assert!(found_damage(&nodes[0]) > 0);
    assert_eq!(origin_requests(&nodes), BLOCKS as u64, "every block was damaged, so every one is fetched anew");
    read_all(&rig.mount("again", &volume.url, &nodes, &[]), &volume.content);
    assert_eq!(origin_requests(&nodes), BLOCKS as u64, "and is whole from then on");
}

#[test]
fn bytes_that_rot_under_a_running_node_are_never_served() {
    let Some(rig) = Rig::new("rot-running") else { return };
    let volume = one_file(&rig, "train", BLOCKS);
    let mut nodes = rig.start_ring(1, &volume.url, &whole());
    warm_up(&rig, &volume.url, &nodes);
    // Started again it has nothing in RAM.
    assert!(nodes[0].process.terminate(PATIENCE).success());
    let nodes = rig.start_ring(1, &volume.url, &whole());
    damage_slab(&rig);
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    read_all(&mount, &volume.content);
    assert_eq!(found_damage(&nodes[0]), BLOCKS as u64);
    assert_eq!(origin_requests(&nodes), BLOCKS as u64);
}

/// What a program that reads `path` whole is told.
fn error_of(path: &Path) -> Option<i32> {
    std::fs::read(path).expect_err("the read fails").raw_os_error()
}

#[test]
fn a_bad_object_fails_reads_of_its_bytes_and_nothing_else() {
    let Some(rig) = Rig::new("objects") else { return };
    let source = rig.mkdir("source");
    let names = ["missing", "short", "long", "empty", "good"];
    let content = |n: usize| shoal_testkit::seeded_bytes(n as u64, 3 * BLOCK);
    for (n, name) in names.iter().enumerate() {
        std::fs::write(source.join(name), content(n)).expect("written");
    }
    let url = rig.format("train", &["--block-size", "1M"]);
    rig.import(&source, &url);
    let objects = files_below(&rig.path("train-objects/train/chunks"));
    // The middle block of each file, found by its bytes: objects of this volume are plain.
    let object_of = |n: usize| -> PathBuf {
        let wanted = &content(n)[BLOCK..2 * BLOCK];
        objects.iter().find(|path| std::fs::read(path).expect("read") == wanted).expect("an object a block").clone()
    };
    let victims: Vec<PathBuf> = (0..4).map(object_of).collect();
    std::fs::remove_file(&victims[0]).expect("removed");
    File::options().write(true).open(&victims[1]).and_then(|file| file.set_len(BLOCK as u64 - 1)).expect("cut");
    File::options().write(true).open(&victims[2]).and_then(|file| file.set_len(BLOCK as u64 + 1)).expect("grown");
    std::fs::write(&victims[3], "").expect("emptied");

    let nodes = rig.start_ring(2, &url, &small());
    let mounts = [rig.mount("ring", &url, &nodes, &[]), rig.mount("alone", &url, &[], &[])];
    for mount in &mounts {
        for (n, name) in names[..4].iter().enumerate() {
            let path = mount.point.join(name);
            assert_eq!(error_of(&path), Some(libc::EIO), "{}", path.display());
            let (file, mut block) = (File::open(&path).expect("it opens"), vec![0; BLOCK]);
            for at in [0, 2 * BLOCK] {
                file.read_exact_at(&mut block, at as u64).unwrap_or_else(|error| panic!("{name} at {at}: {error}"));
                same(&block, &content(n)[at..at + BLOCK], "a good block of a damaged file");
            }
        }
        same(&std::fs::read(mount.point.join("good")).expect("read"), &content(4), "good");
        let errors = mount.stats();
        assert!(errors.contains("shoal_cache_errors_total{kind=\"not_found\"}"), "{errors}");
    }
    // Put right, they are read at once: no failure is remembered.
    for (n, path) in victims.iter().enumerate() {
        std::fs::write(path, &content(n)[BLOCK..2 * BLOCK]).expect("restored");
        for mount in &mounts {
            let found: io::Result<Vec<u8>> = std::fs::read(mount.point.join(names[n]));
            same(&found.expect("read"), &content(n), names[n]);
        }
    }
}
