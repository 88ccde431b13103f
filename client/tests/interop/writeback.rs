//! `--writeback`: what is synced is on this host's disk, outlives a killed mount, and reaches the object store and JuiceFS.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

use rustix::fs::{Advice, fadvise};
use shoal_testkit::{PATIENCE, seeded_bytes, wait_until};

use super::pair::{Keys, Pair, Recipe, VOLUME};
use crate::rig::mount::{Mount, read};

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// Mounts with blocks staged in the rig's directory `stage` for as long as `delay`.
fn mount(pair: &Pair, name: &str, delay: &str) -> Mount {
    let stage = pair.rig.path("stage");
    let dir = stage.to_str().unwrap();
    pair.shoal_mount(name, &["--writable", "--writeback", "--cache-dir", dir, "--upload-delay", delay])
}

/// Directories and files of blocks in the object store.
fn objects(pair: &Pair) -> usize {
    let prefix = pair.objects().file_name().unwrap().to_owned();
    let dirs = std::fs::read_dir(pair.rig.path("")).unwrap().flatten();
    let dirs = dirs.filter(|dir| dir.file_name().to_str().unwrap().starts_with(prefix.to_str().unwrap()));
    dirs.map(|dir| std::fs::read_dir(dir.path().join(VOLUME).join("chunks")).map_or(0, Iterator::count)).sum()
}

fn write_synced(mount: &Mount, name: &str, bytes: &[u8]) {
    let file = File::create(mount.point.join(name)).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_all().unwrap();
}

fn staged(mount: &Mount) -> u64 {
    mount.metric("shoal_stage_blocks")
}

/// Kills the mount, so that nothing is done in order.
fn kill(pair: &Pair, mut mount: Mount) {
    mount.process.kill();
    pair.rig.ok(pair.rig.shoal().args(["umount", "--force"]).arg(&mount.point));
}

/// Every file as JuiceFS reads it.
fn assert_juicefs_reads(pair: &Pair, files: &[(&str, Vec<u8>)]) {
    let theirs = pair.juicefs_mount("theirs", &[]);
    for (name, bytes) in files {
        assert!(read(&theirs.point.join(name)) == *bytes, "{name} through JuiceFS");
    }
    theirs.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

#[test]
fn what_was_synced_and_not_stored_outlives_a_killed_mount() {
    for recipe in [PLAIN, Recipe { compress: "zstd", cipher: Some("aes256gcm-rsa"), keys: Keys::HashPrefix, ..PLAIN }] {
        let Some(pair) = Pair::new("writeback") else { return };
        pair.shoal_formats(&recipe, &["--trash-days", "0"]);
        let files = [("a", seeded_bytes(1, 1_000_000)), ("b", seeded_bytes(2, 70_000))];
        let ours = mount(&pair, "ours", "1h");
        for (name, bytes) in &files {
            write_synced(&ours, name, bytes);
        }
        let before = staged(&ours);
        assert!(before >= 16 + 2);
        write_synced(&ours, "removed", &seeded_bytes(3, 200_000));
        assert!(staged(&ours) >= before + 4);
        std::fs::remove_file(ours.point.join("removed")).unwrap();
        wait_until("what was removed is staged no more", PATIENCE, || staged(&ours) == before);
        assert_eq!(objects(&pair), 0, "nothing is stored yet");
        kill(&pair, ours);

        // The next one stores what it finds, although it stages nothing itself.
        let ours = pair.shoal_mount("reader", &["--writable", "--cache-dir", pair.rig.path("stage").to_str().unwrap()]);
        for (name, bytes) in &files {
            assert!(read(&ours.point.join(name)) == *bytes, "{name} through ours");
        }
        wait_until("all is stored", PATIENCE, || staged(&ours) == 0);
        ours.unmount(&pair.rig);
        assert_juicefs_reads(&pair, &files);
    }
}

#[test]
fn staged_blocks_are_read_from_the_disk_and_stored_by_umount_flush() {
    let Some(pair) = Pair::new("flush") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let bytes = seeded_bytes(1, 30_000_000);
    let ours = pair.shoal_mount(
        "ours",
        &[
            "--writable",
            "--writeback",
            "--cache-dir",
            pair.rig.path("stage").to_str().unwrap(),
            "--upload-delay",
            "1h",
            // Too little to keep the file.
            "--memory",
            "17M",
        ],
    );
    write_synced(&ours, "file", &bytes);
    assert_eq!(objects(&pair), 0, "nothing is stored yet");
    let file = File::open(ours.point.join("file")).unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    drop(file);
    assert!(read(&ours.point.join("file")) == bytes);
    assert!(ours.bytes_from("nvme") > 0 && ours.bytes_from("origin") == 0, "{}", ours.stats());
    let Mount { point, mut process } = ours;
    pair.rig.ok(pair.rig.shoal().args(["umount", "--flush"]).arg(&point));
    assert!(process.wait(PATIENCE).success());
    assert_juicefs_reads(&pair, &[("file", bytes)]);
}

/// This host's hour of the day, some hours from now.
fn hour_in(pair: &Pair, hours: u32) -> u32 {
    let now: u32 = pair.rig.ok(Command::new("date").arg("+%H")).trim().parse().unwrap();
    (now + hours) % 24
}

#[test]
fn staged_blocks_are_stored_in_their_hours() {
    let Some(pair) = Pair::new("hours") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let stage = pair.rig.path("stage");
    let mount_at = |name: &str, from: u32, to: u32| {
        let hours = format!("{},{}", hour_in(&pair, from), hour_in(&pair, to));
        let dir = stage.to_str().unwrap();
        pair.shoal_mount(name, &["--writable", "--writeback", "--cache-dir", dir, "--upload-hours", &hours])
    };
    let bytes = seeded_bytes(1, 200_000);
    // Far enough from the hour that ends meanwhile.
    let ours = mount_at("later", 3, 4);
    write_synced(&ours, "file", &bytes);
    assert_eq!((staged(&ours), objects(&pair)), (4, 0));
    ours.unmount(&pair.rig);
    let ours = mount_at("now", 22, 2);
    wait_until("all is stored", PATIENCE, || staged(&ours) == 0);
    ours.unmount(&pair.rig);
    assert_juicefs_reads(&pair, &[("file", bytes)]);
}

#[test]
fn large_blocks_are_stored_directly_if_only_small_ones_are_to_be_staged() {
    let Some(pair) = Pair::new("threshold") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let stage = pair.rig.path("stage");
    let flags =
        ["--writable", "--writeback", "--upload-delay", "1h", "--writeback-threshold-size", "64K", "--cache-dir"];
    let ours = pair.shoal_mount("ours", &[&flags[..], &[stage.to_str().unwrap()]].concat());
    // Three whole blocks, and a smaller one.
    let bytes = seeded_bytes(1, (3 << 16) + 1000);
    write_synced(&ours, "file", &bytes);
    assert_eq!((staged(&ours), ours.metric("shoal_vfs_stored_blocks_total")), (1, 3));
    let Mount { point, mut process } = ours;
    pair.rig.ok(pair.rig.shoal().args(["umount", "--flush"]).arg(&point));
    assert!(process.wait(PATIENCE).success());
    assert_juicefs_reads(&pair, &[("file", bytes)]);
}

#[test]
fn a_full_disk_means_direct_uploads() {
    let Some(pair) = Pair::new("fulldisk") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let small = pair.rig.mkdir("stage");
    pair.rig.ok(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&small));
    let bytes = seeded_bytes(1, 10_000_000);
    let ours = mount(&pair, "ours", "1h");
    write_synced(&ours, "file", &bytes);
    assert!(ours.metric("shoal_stage_declined_blocks_total") > 100);
    assert!((1..32).contains(&staged(&ours)), "{} blocks are staged", staged(&ours));
    let Mount { point, mut process } = ours;
    pair.rig.ok(pair.rig.shoal().args(["umount", "--flush"]).arg(&point));
    assert!(process.wait(PATIENCE).success());
    pair.rig.ok(Command::new("umount").arg(&small));
    assert_juicefs_reads(&pair, &[("file", bytes)]);
}

#[test]
fn juicefs_stores_what_we_staged() {
    let Some(pair) = Pair::new("handed") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let files = [("file", seeded_bytes(1, 3_000_000))];
    let ours = mount(&pair, "ours", "1h");
    write_synced(&ours, files[0].0, &files[0].1);
    kill(&pair, ours);
    let stage = pair.rig.path("stage");
    // A flag that is given twice counts once: the rig names a directory of its own first.
    let theirs = pair.juicefs_mount("uploader", &["--writeback", "--cache-dir", stage.to_str().unwrap()]);
    let left =
        || std::fs::read_dir(stage.join(uuid(&stage)).join("rawstaging/chunks/0/0")).map_or(0, |dir| dir.count());
    wait_until("JuiceFS has stored it", PATIENCE, || left() == 0);
    theirs.unmount(&pair.rig);
    assert_juicefs_reads(&pair, &files);
}

/// Name of the one volume's directory in `stage`.
fn uuid(stage: &std::path::Path) -> std::ffi::OsString {
    std::fs::read_dir(stage).unwrap().next().unwrap().unwrap().file_name()
}
