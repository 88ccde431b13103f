//! An object store that refuses, loses or holds what is uploaded under a mount that is written to.
//!
//! Every check of bytes is also one of the kernel's pages: nobody may see what was not stored. `SHOAL_LONG=1` lets the store be away
//! for longer than the mount is patient.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use shoal_runtime::task;
use shoal_testkit::{PATIENCE, seeded_bytes, skipped, wait_until};

use super::bed::{Bed, SMALL_BLOCKS, VOLUME};
use crate::rig::Rig;
use crate::rig::origin::{Origin, PutTrouble};

/// Blocks of the volume.
const BLOCK: usize = 256 << 10;
/// Bytes of a write that is lost: less than a block, and one request of the kernel.
const LOST: usize = 100_000;
/// What a key without rights is told.
const DENIED: PutTrouble = PutTrouble::Refuse(403, "AccessDenied");
/// What a busy server says.
const BUSY: PutTrouble = PutTrouble::Refuse(503, "SlowDown");

/// A mounted volume whose objects are in a server that does as it is told.
struct Ground {
    bed: Bed,
    origin: Origin,
}

impl Ground {
    fn new(name: &str, flags: impl FnOnce(&Rig) -> Vec<String>) -> Option<Ground> {
        let (rig, origin) = (Rig::new(name)?, Origin::start(Ipv4Addr::LOCALHOST));
        let (url, bucket, flags) = (rig.url(VOLUME), origin.bucket(), flags(&rig));
        let mut format = rig.shoal();
        format.args(["format", &url, VOLUME, "--trash-days", "0"]).args(SMALL_BLOCKS);
        rig.ok(format.args(["--storage", "s3", "--bucket", &bucket, "--access-key", "k", "--secret-key", "s"]));
        let bed = Bed::of(rig, &url, &flags.iter().map(String::as_str).collect::<Vec<_>>());
        Some(Ground { bed, origin })
    }

    /// A new file in the mount with these bytes, not synced.
    fn written(&self, name: &str, bytes: &[u8]) -> File {
        let file = File::create_new(self.bed.path(name)).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    /// Waits until as many PUTs have met trouble as there are blocks in this many bytes.
    fn meets_trouble(&self, bytes: usize) {
        let want = bytes.div_ceil(BLOCK) as u64;
        wait_until("uploads meet trouble", PATIENCE, || self.origin.troubled_puts() >= want);
    }

    #[track_caller]
    fn assert_reads(&self, name: &str, bytes: &[u8]) {
        assert!(fs::read(self.bed.path(name)).unwrap() == bytes, "{name} has other bytes");
    }

    /// Asserts that a client that knows nothing reads the files, and that nothing is wrong with the volume once what `gc` may find
    /// is deleted.
    #[track_caller]
    fn end(self, leaked: Leaked, files: &[(&str, &[u8])]) {
        let Ground { bed, origin: _origin } = self;
        let fresh = bed.mount_again("fresh", &[]);
        for (name, bytes) in files {
            assert!(fs::read(fresh.point.join(name)).unwrap() == *bytes, "{name} has other bytes for others");
        }
        fresh.unmount(&bed.rig);
        let url = bed.url.clone();
        let rig = bed.finish();
        rig.ok(rig.shoal().args(["fsck", &url]));
        if leaked == Leaked::Perhaps {
            rig.ok(rig.shoal().args(["gc", "--delete", &url]));
        }
        let found = rig.ok(rig.shoal().args(["gc", &url]));
        assert!(found.contains(" 0 leaked (0 bytes)"), "{found}");
    }
}

/// Whether objects may be left that no file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaked {
    Nothing,
    Perhaps,
}

fn no_flags(_: &Rig) -> Vec<String> {
    Vec::new()
}

#[test]
fn uploads_that_fail_for_a_while_cost_time_only() {
    let Some(ground) = Ground::new("up-short", no_flags) else { return };
    let troubles = [
        ("busy", BUSY),
        ("denied", DENIED),
        ("no-bucket", PutTrouble::Refuse(404, "NoSuchBucket")),
        ("lost", PutTrouble::Lose),
        ("held", PutTrouble::Hold),
    ];
    let files: Vec<(&str, Vec<u8>)> =
        troubles.iter().zip(1..).map(|((name, _), seed)| (*name, seeded_bytes(seed, 12 * BLOCK + 77))).collect();
    for ((name, trouble), (_, bytes)) in troubles.iter().zip(&files) {
        println!("{name}");
        ground.origin.trouble_puts(*trouble);
        let file = ground.written(name, bytes);
        let syncing = task::thread("fsync", move || file.sync_all());
        ground.meets_trouble(bytes.len());
        assert!(!syncing.is_finished(), "{name}: nothing is stored");
        ground.assert_reads(name, bytes);
        ground.bed.mkdir(&format!("meanwhile-{name}"));
        ground.origin.trouble_puts(PutTrouble::None);
        syncing.join().unwrap().unwrap();
        ground.assert_reads(name, bytes);
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    ground.end(Leaked::Nothing, &files);
}

#[test]
fn uploads_that_fail_for_good_are_told_once_and_nobody_sees_their_bytes() {
    let Some(ground) = Ground::new("up-bad", no_flags) else { return };
    // No store changes its mind about a request that it finds invalid.
    lose_a_write(ground, PutTrouble::Refuse(400, "InvalidRequest"));
}

#[test]
fn a_store_that_is_away_for_long_is_told_once_and_nobody_sees_the_bytes() {
    if std::env::var_os("SHOAL_LONG").is_none() {
        return skipped("uploads that fail for longer than a mount is patient: only with SHOAL_LONG=1");
    }
    for (name, trouble) in [("busy", BUSY), ("denied", DENIED), ("held", PutTrouble::Hold)] {
        println!("{name}");
        let Some(ground) = Ground::new(&format!("up-{name}"), no_flags) else { return };
        lose_a_write(ground, trouble);
    }
}

/// Writes over a stored file while `trouble` lasts until the mount has given up; then goes on.
fn lose_a_write(ground: Ground, trouble: PutTrouble) {
    let mut kept = seeded_bytes(1, 5 * BLOCK + 99);
    ground.written("file", &kept).sync_all().unwrap();
    let open = || OpenOptions::new().read(true).write(true).open(ground.bed.path("file")).unwrap();
    let (writer, other) = (open(), open());
    ground.origin.trouble_puts(trouble);
    // Over the end, and in one piece: a second one might be told of the first.
    writer.write_all_at(&seeded_bytes(2, LOST), kept.len() as u64 - LOST as u64 / 2).unwrap();
    assert_eq!(errno(writer.sync_all()), Some(libc::EIO));
    ground.origin.trouble_puts(PutTrouble::None);
    let mut seen = vec![0; kept.len() + BLOCK];
    assert_eq!(writer.read_at(&mut seen, 0).unwrap(), kept.len(), "the file is as long as it was");
    assert!(seen[..kept.len()] == kept, "an open file shows bytes that are lost");
    ground.assert_reads("file", &kept);
    writer.sync_all().unwrap();
    assert_eq!(errno(other.write_all_at(b"x", 0)), Some(libc::EIO), "each handle is told");
    other.sync_all().unwrap();

    let patch = seeded_bytes(3, BLOCK);
    writer.write_all_at(&patch, 1000).unwrap();
    writer.sync_all().unwrap();
    kept[1000..][..BLOCK].copy_from_slice(&patch);
    ground.assert_reads("file", &kept);
    drop((writer, other));
    ground.end(Leaked::Perhaps, &[("file", &kept)]);
}

fn errno(result: io::Result<()>) -> Option<i32> {
    result.expect_err("the write is lost").raw_os_error()
}

/// Flags that stage blocks in the directory `stage` of the rig, where this is free for `--free-space-ratio` at least.
fn staged_in(dir: &Path, keep_free: &str) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    ["--writeback", "--cache-dir", dir, "--free-space-ratio", keep_free].map(str::to_owned).into()
}

#[test]
fn staged_blocks_wait_for_the_store() {
    let Some(ground) = Ground::new("up-staged", |rig| staged_in(&rig.path("stage"), "0")) else { return };
    let files =
        [("busy", BUSY), ("denied", DENIED)].map(|(name, trouble)| (name, trouble, seeded_bytes(7, 12 * BLOCK)));
    for (name, trouble, bytes) in &files {
        ground.origin.trouble_puts(*trouble);
        // The store knows nothing of it yet.
        ground.written(name, bytes).sync_all().unwrap();
        ground.meets_trouble(bytes.len());
        ground.assert_reads(name, bytes);
        assert!(ground.bed.mount.metric("shoal_stage_blocks") >= 12);
        ground.origin.trouble_puts(PutTrouble::None);
        wait_until("all is stored", PATIENCE, || ground.bed.mount.metric("shoal_stage_blocks") == 0);
    }
    assert_eq!(ground.bed.mount.metric("shoal_vfs_upload_retries_total"), 0);
    let files = files.each_ref().map(|(name, _, bytes)| (*name, &bytes[..]));
    ground.end(Leaked::Nothing, &files);
}

#[test]
fn writers_wait_where_neither_the_staging_disk_nor_the_store_takes_blocks() {
    // A disk of which a part is left free, and one that is written until it is full.
    for keep_free in ["0.1", "0"] {
        println!("{keep_free}");
        let flags = |rig: &Rig| {
            let dir = rig.mkdir("stage");
            rig.ok(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(&dir));
            staged_in(&dir, keep_free)
        };
        let Some(ground) = Ground::new("up-full", flags) else { return };
        ground.origin.trouble_puts(BUSY);
        let bytes = seeded_bytes(1, 40 * BLOCK);
        let file = ground.written("file", &bytes);
        let syncing = task::thread("fsync", move || file.sync_all());
        ground.meets_trouble(bytes.len());
        assert!(!syncing.is_finished(), "most of it has no place yet");
        let mount = &ground.bed.mount;
        assert!(mount.metric("shoal_stage_declined_blocks_total") > 0);
        assert!((1..8).contains(&mount.metric("shoal_stage_blocks")), "a disk of 2 MiB");
        ground.assert_reads("file", &bytes);
        ground.origin.trouble_puts(PutTrouble::None);
        syncing.join().unwrap().unwrap();
        wait_until("all is stored", PATIENCE, || mount.metric("shoal_stage_blocks") == 0);
        ground.assert_reads("file", &bytes);
        ground.end(Leaked::Nothing, &[("file", &bytes)]);
    }
}
