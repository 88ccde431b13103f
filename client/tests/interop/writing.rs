//! Files written through our mount: what comes back, what is stored for it, what JuiceFS finds, what a crash leaves.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, copy_file_range, fallocate};
use shoal_testkit::{PATIENCE, Rng, seeded_bytes, test_seed};

use super::pair::{Keys, Pair, Recipe, edit_setting};
use crate::rig::mount::read;

/// Mounts for writing.
const WRITABLE: &[&str] = &["--writable"];

pub const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

/// Everything below the directory of objects: number of files, and their bytes.
fn objects(root: &Path) -> (u64, u64) {
    let (mut count, mut bytes, mut pending) = (0, 0, vec![root.to_owned()]);
    while let Some(path) = pending.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                (count, bytes) = (count + 1, bytes + entry.metadata().unwrap().len());
            }
        }
    }
    (count, bytes)
}

/// A file that is changed at random, and what it must hold.
struct Written {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
}

impl Written {
    fn new(path: PathBuf) -> Written {
        Written { file: open(&path), path, bytes: Vec::new() }
    }

    fn grow(&mut self, end: u64) {
        self.bytes.resize(self.bytes.len().max(end as usize), 0);
    }

    /// One random operation on up to `longest` bytes.
    fn step(&mut self, rng: &mut Rng, longest: u64) {
        let start = rng.below(longest);
        let most = *rng.pick(&[10, 4096, 70_000, 300_000]);
        let len = (1 + rng.below(most)).min(longest - start);
        match rng.below(10) {
            0..4 => {
                let mut data = vec![0; len as usize];
                rng.fill(&mut data);
                self.grow(start + len);
                self.bytes[start as usize..(start + len) as usize].copy_from_slice(&data);
                self.file.write_all_at(&data, start).unwrap();
            }
            4..7 => {
                let mut data = vec![0; len as usize];
                let got = self.file.read_at(&mut data, start).unwrap();
                let from = (start as usize).min(self.bytes.len());
                let to = ((start + len) as usize).min(self.bytes.len());
                assert!(got > 0 || from == to, "nothing at {start} of {}", self.bytes.len());
                assert!(data[..got] == self.bytes[from..from + got], "wrong bytes at {start} for {got}");
            }
            7 => {
                self.bytes.resize(start as usize, 0);
                self.file.set_len(start).unwrap();
            }
            8 => {
                let end = ((start + len) as usize).min(self.bytes.len());
                self.bytes[(start as usize).min(end)..end].fill(0);
                fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, len).unwrap();
            }
            _ => self.file.sync_all().unwrap(),
        }
        assert_eq!(self.file.metadata().unwrap().len(), self.bytes.len() as u64);
    }

    /// Makes a copy by reference beside the file.
    fn copied(&self, path: PathBuf) -> Written {
        let copy = Written { bytes: self.bytes.clone(), ..Written::new(path) };
        let (mut from, mut to, mut left) = (0, 0, self.bytes.len());
        while left > 0 {
            let copied = copy_file_range(&self.file, Some(&mut from), &copy.file, Some(&mut to), left).unwrap();
            assert!(copied > 0, "the copy ends early");
            left -= copied;
        }
        copy
    }
}

#[test]
fn juicefs_reads_what_is_written_however_it_is_stored() {
    let recipes = [
        PLAIN,
        Recipe { compress: "lz4", block_size: "256K", keys: Keys::HashPrefix, ..PLAIN },
        Recipe { compress: "zstd", cipher: Some("aes256gcm-rsa"), ..PLAIN },
        Recipe { cipher: Some("chacha20-rsa"), keys: Keys::Shards, block_size: "1M", ..PLAIN },
    ];
    for recipe in recipes {
        let Some(pair) = Pair::new("written") else { return };
        write_and_read(&pair, recipe);
    }
}

/// Changes files at random; what they hold then is what both clients read.
pub fn write_and_read(pair: &Pair, recipe: Recipe) {
    println!("{recipe:?}");
    pair.shoal_formats(&recipe, &[]);
    let ours = pair.shoal_mount("ours", WRITABLE);
    let mut rng = Rng::new(test_seed("written"));
    let mut files: Vec<Written> = (0..3).map(|n| Written::new(ours.point.join(format!("f{n}")))).collect();
    for _ in 0..200 {
        let which = rng.index(files.len());
        files[which].step(&mut rng, 1 << 20);
    }
    let copy = files[0].copied(ours.point.join("copy"));
    files.push(copy);
    let all: Vec<(PathBuf, Vec<u8>)> = files.into_iter().map(|file| (file.path, file.bytes)).collect();
    for (path, bytes) in &all {
        assert!(read(path) == *bytes, "{}", path.display());
    }
    ours.unmount(&pair.rig);
    let theirs = pair.juicefs_mount("theirs", &[]);
    for (path, bytes) in &all {
        let there = theirs.point.join(path.file_name().unwrap());
        assert!(read(&there) == *bytes, "{} through JuiceFS", path.display());
    }
    theirs.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

#[test]
fn little_is_stored_for_little_that_is_written() {
    let Some(pair) = Pair::new("little") else { return };
    pair.shoal_formats(&Recipe { block_size: "4M", ..PLAIN }, &[]);
    let ours = pair.shoal_mount("ours", WRITABLE);
    let path = ours.point.join("large");
    let mut bytes = seeded_bytes(1, 100 << 20);
    std::fs::write(&path, &bytes).unwrap();
    let (count, stored) = objects(&pair.objects());

    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"ten bytes.").unwrap();
    drop(file);
    bytes.extend(b"ten bytes.");
    assert_eq!(objects(&pair.objects()), (count + 1, stored + 10), "ten bytes more are one small object");

    let middle = seeded_bytes(2, 64 << 10);
    let mut file = open(&path);
    file.seek(SeekFrom::Start(50 << 20)).unwrap();
    file.write_all(&middle).unwrap();
    drop(file);
    bytes[50 << 20..(50 << 20) + (64 << 10)].copy_from_slice(&middle);
    assert_eq!(objects(&pair.objects()), (count + 2, stored + 10 + (64 << 10)), "64 KiB in the middle are 64 KiB");
    assert!(read(&path) == bytes);
    ours.unmount(&pair.rig);
}

#[test]
fn each_client_sees_what_the_other_has_closed() {
    let Some(pair) = Pair::new("both") else { return };
    take_turns(&pair);
}

/// Lets both clients append to one file.
pub fn take_turns(pair: &Pair) {
    pair.shoal_formats(&PLAIN, &[]);
    let ours = pair.shoal_mount("ours", WRITABLE);
    let theirs = pair.juicefs_mount("theirs", &["--attr-cache", "0", "--entry-cache", "0", "--open-cache", "0"]);
    let mut all = Vec::new();
    for round in 0..10u64 {
        let point = if round % 2 == 0 { &ours.point } else { &theirs.point };
        let line = seeded_bytes(round, 5000 + round as usize * 30_000);
        let mut file = open(&point.join("shared"));
        file.seek(SeekFrom::Start(all.len() as u64)).unwrap();
        file.write_all(&line).unwrap();
        drop(file);
        all.extend(line);
        for point in [&ours.point, &theirs.point] {
            // What the kernel remembers of the file's length is a second old at most.
            let seen = || std::fs::metadata(point.join("shared")).is_ok_and(|seen| seen.len() == all.len() as u64);
            shoal_testkit::wait_until("the new length is seen", PATIENCE, seen);
            assert!(read(&point.join("shared")) == all, "round {round} at {}", point.display());
        }
    }
    ours.unmount(&pair.rig);
    theirs.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}

#[test]
fn what_was_synced_outlives_a_killed_mount() {
    let Some(pair) = Pair::new("killed") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    for round in 0..3u64 {
        let mut ours = pair.shoal_mount(&format!("ours{round}"), WRITABLE);
        for (name, bytes) in &kept {
            assert!(read(&ours.point.join(name)) == *bytes, "{name} after {round} crashes");
        }
        let name = format!("f{round}");
        let bytes = seeded_bytes(round, 1_000_000);
        let file = open(&ours.point.join(&name));
        file.write_all_at(&bytes, 0).unwrap();
        file.sync_all().unwrap();
        // Never synced: it may be there or not, but must do no harm.
        file.write_all_at(&seeded_bytes(9, 300_000), bytes.len() as u64).unwrap();
        ours.process.kill();
        drop(file);
        pair.rig.ok(pair.rig.shoal().args(["umount", "--force"]).arg(&ours.point));
        let after = pair.shoal_mount(&format!("after{round}"), &[]);
        let found = read(&after.point.join(&name));
        assert!(found[..bytes.len()] == bytes, "what was synced is there");
        after.unmount(&pair.rig);
        kept.push((name, found));
    }
    pair.assert_fsck_is_clean();
}

#[test]
fn a_full_volume_says_so() {
    let Some(pair) = Pair::new("full") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    edit_setting(&pair.url(), |text| text.replacen("{", "{\n\"Capacity\": 1048576,", 1));
    let ours = pair.shoal_mount("ours", WRITABLE);
    let small = ours.point.join("small");
    std::fs::write(&small, vec![7; 500_000]).unwrap();
    let large = open(&ours.point.join("large"));
    large.write_all_at(&vec![8; 2_000_000], 0).unwrap();
    let error = large.sync_all().expect_err("the volume holds one MiB");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()), "{error}");
    large.sync_all().unwrap();
    large.write_all_at(&[9; 100], 0).unwrap();
    large.sync_all().unwrap();
    assert_eq!(read(&small), vec![7; 500_000]);
    drop(large);
    assert_eq!(read(&ours.point.join("large")), [9; 100]);
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}
