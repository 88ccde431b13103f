//! Volumes with known content, reads that are checked, and looks at what is left behind.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal_testkit::{PATIENCE, Snapshot, seeded_bytes, snapshot, wait_until};

use crate::rig::{Mount, Node, NodeOptions, Rig, output_within, said};

/// Bytes in a block of these volumes, small so that little data makes many blocks.
pub const BLOCK: usize = 1 << 20;

/// Bytes of one read of a reader that is watched.
const STEP: usize = 256 << 10;

/// A volume of one file.
pub struct OneFile {
    pub url: String,
    pub content: Vec<u8>,
}

/// Makes the volume `name`; its only file `big` has `blocks` blocks, the last one short.
pub fn one_file(rig: &Rig, name: &str, blocks: usize) -> OneFile {
    let content = seeded_bytes(blocks as u64, blocks * BLOCK - 1000);
    let source = rig.mkdir(format!("{name}-source"));
    std::fs::write(source.join("big"), &content).expect("the source is written");
    let url = rig.format(name, &["--block-size", "1M"]);
    rig.import(&source, &url);
    assert_eq!(rig.blocks(name), blocks as u64);
    OneFile { url, content }
}

/// Nodes with little of everything.
pub fn small() -> NodeOptions {
    NodeOptions { cache: "128M".into(), ..NodeOptions::default() }
}

/// The same, fetching each missed block by one request.
///
/// The kernel asks ahead from several threads: a read far into a block may overtake the one at its start, and would get its own bytes
/// first, as small reads do, by a request more.
pub fn whole() -> NodeOptions {
    NodeOptions { flags: vec!["--fill".into(), "whole".into()], ..small() }
}

/// Refuses two contents that differ, by the first place where they do.
#[track_caller]
pub fn same(found: &[u8], expected: &[u8], what: &str) {
    assert_eq!(found.len(), expected.len(), "length of {what}");
    if let Some(at) = found.iter().zip(expected).position(|(a, b)| a != b) {
        panic!("{what}: byte {at} is {}, not {}", found[at], expected[at]);
    }
}

/// Everything below `dir`, read. The root itself is left out: it is the volume's, not the source's.
#[track_caller]
pub fn tree_of(dir: &Path) -> Snapshot {
    let read = snapshot(dir).unwrap_or_else(|error| panic!("cannot read {}: {error}", dir.display()));
    let mut seen = read.without_directory_details();
    seen.entries.remove(Path::new(""));
    seen
}

/// Reads `big` of `mount` and compares it.
#[track_caller]
pub fn read_all(mount: &Mount, content: &[u8]) {
    let path = mount.point.join("big");
    let found = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    same(&found, content, &path.display().to_string());
}

/// Reads `big` of `mount` piece by piece; `act` happens between its first and its last quarter, while reads go on.
#[track_caller]
pub fn read_during(mount: &Mount, content: &[u8], act: impl FnOnce()) {
    let (started, acted) = (AtomicBool::new(false), AtomicBool::new(false));
    let file = File::open(mount.point.join("big")).expect("the file opens");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut piece = vec![0; STEP];
            for (number, expected) in content.chunks(STEP).enumerate() {
                let at = number * STEP;
                started.fetch_or(at > content.len() / 4, Ordering::Relaxed);
                if at > content.len() / 4 * 3 {
                    wait_until("the act", PATIENCE, || acted.load(Ordering::Relaxed));
                }
                let piece = &mut piece[..expected.len()];
                file.read_exact_at(piece, at as u64).unwrap_or_else(|error| panic!("read at {at}: {error}"));
                same(piece, expected, &format!("the piece at {at}"));
            }
        });
        wait_until("a quarter is read", PATIENCE, || started.load(Ordering::Relaxed) || reader.is_finished());
        act();
        acted.store(true, Ordering::Relaxed);
        reader.join().expect("the reader met no error and no wrong byte");
    });
}

/// Brings the whole volume into the ring; returns what was said.
#[track_caller]
pub fn warm_up(rig: &Rig, url: &str, nodes: &[Node]) -> String {
    rig.ok(rig.on_ring("warmup", nodes).args(["--quiet", "--meta", url, "/"]))
}

/// Requests that `mounts` have made of the origin.
pub fn mounts_origin_requests(mounts: &[Mount]) -> u64 {
    mounts.iter().map(|mount| mount.metric("shoal_cache_origin_requests_total")).sum()
}

/// Runs a node that must end with exit code 1 and a sentence as its last word; returns the sentence.
#[track_caller]
pub fn node_refused(command: &mut Command) -> String {
    let output = output_within(command, PATIENCE);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{command:?} must be refused\n{}", said(&output));
    assert!(output.stdout.is_empty(), "a refused node said that it serves\n{}", said(&output));
    let last = text.lines().last().unwrap_or_default();
    assert!(last.starts_with("shoal-node: "), "not a sentence of ours\n{}", said(&output));
    assert!(!text.contains("panicked"), "{text}");
    last.to_owned()
}

/// Processes that name the rig's directory on their command line, and mounts in it.
pub fn left_behind(rig: &Rig) -> Vec<String> {
    let root = rig.path("").display().to_string();
    let root = root.trim_end_matches('/');
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let bytes = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&bytes).replace('\0', " ");
        line.contains(root).then(|| format!("process {}: {line}", entry.file_name().display()))
    });
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    let mounts = table.lines().filter(|line| line.contains(root)).map(|line| format!("mount: {line}"));
    processes.chain(mounts).collect()
}

/// A file system of `size` in memory, mounted on the new directory `name`; it goes with the rig.
pub fn tmpfs(rig: &Rig, name: &str, size: &str) -> PathBuf {
    let dir = rig.mkdir(name);
    rig.ok(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&dir));
    dir
}

/// Every regular file below `dir`, in order.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the directory is listed").flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files_below(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}
