//! JuiceFS changes a volume while we have it mounted: after its close, and once the kernel's second of trust is over, we show
//! what it wrote; never bytes that nobody wrote.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use shoal_runtime::task;
use shoal_testkit::{PATIENCE, seeded_bytes, snapshot, wait_until};

use super::pair::{Keys, Pair, Recipe, look};
use crate::rig::Mount;
use crate::rig::oracle::OracleMount;

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// A volume mounted by both.
struct Both {
    pair: Pair,
    theirs: OracleMount,
    ours: Mount,
}

impl Both {
    fn new(flags: &[&str]) -> Option<Both> {
        let pair = Pair::new("live")?;
        pair.juicefs_formats(&PLAIN, flags);
        let theirs = pair.juicefs_mount("theirs", &[]);
        let ours = pair.shoal_mount("ours", &[]);
        Some(Both { pair, theirs, ours })
    }

    fn there(&self, name: &str) -> PathBuf {
        self.theirs.point.join(name)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.ours.point.join(name)
    }

    /// The file as we show it, `None` while it is not there. Any other failure fails the test.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        match fs::read(self.here(name)) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// Waits until we show `content`; whatever we show before must be `before`.
    #[track_caller]
    fn becomes(&self, name: &str, before: Option<&[u8]>, content: Option<&[u8]>) {
        wait_until(&format!("{name} is as JuiceFS left it"), PATIENCE, || {
            let seen = self.read(name);
            let known = seen.as_deref() == before || seen.as_deref() == content;
            assert!(known, "{name} shows {} that nobody wrote", describe(seen.as_deref()));
            seen.as_deref() == content
        });
    }

    fn end(self) {
        become_alike(&self.theirs.point, &self.ours.point);
        self.ours.unmount(&self.pair.rig);
        self.theirs.unmount(&self.pair.rig);
    }
}

/// Waits until both mounts show the same tree: attributes are fresh once the kernel's trust in them is over.
#[track_caller]
fn become_alike(theirs: &Path, ours: &Path) {
    let expected = look(theirs);
    let mut last = Vec::new();
    wait_until("both show the same tree", PATIENCE, || {
        let Ok(seen) = snapshot(ours) else { return false };
        let differences = expected.differences(&seen);
        if differences != last {
            println!("differences: {differences:#?}");
        }
        last = differences;
        last.is_empty()
    });
}

fn describe(content: Option<&[u8]>) -> String {
    match content {
        None => "no file".to_owned(),
        Some(content) => {
            let zeros = content.iter().filter(|byte| **byte == 0).count();
            format!("{} bytes with {zeros} zeros", content.len())
        }
    }
}

/// `len` bytes without a zero among them: a zero in what we show was invented.
fn no_zeros(seed: u64, len: usize) -> Vec<u8> {
    seeded_bytes(seed, len).into_iter().map(|byte| byte | 1).collect()
}

fn write_at(path: &Path, at: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn each_change_of_juicefs_shows_after_its_close() {
    let Some(both) = Both::new(&[]) else { return };
    let mut content = no_zeros(1, 50_000);
    fs::write(both.there("f"), &content).unwrap();
    both.becomes("f", None, Some(&content));

    let mut step = |what: &str, change: &dyn Fn(&Path), edit: &dyn Fn(&mut Vec<u8>)| {
        println!("{what}");
        let before = content.clone();
        change(&both.there("f"));
        edit(&mut content);
        both.becomes("f", Some(&before), Some(&content));
    };
    let patch = no_zeros(2, 7000);
    step("overwrite", &|path| write_at(path, 20_000, &patch), &|all| all[20_000..27_000].copy_from_slice(&patch));
    step("append", &|path| OpenOptions::new().append(true).open(path).unwrap().write_all(&patch).unwrap(), &|all| {
        all.extend_from_slice(&patch)
    });
    let set_len = |path: &Path, len| OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
    step("truncate", &|path| set_len(path, 10_001), &|all| all.truncate(10_001));
    step("grow", &|path| set_len(path, 40_000), &|all| all.resize(40_000, 0));
    step("append after growing", &|path| write_at(path, 40_000, &patch), &|all| all.extend_from_slice(&patch));
    let replacement = no_zeros(3, 30_000);
    step(
        "replace by rename",
        &|path| {
            let draft = path.with_file_name("draft");
            fs::write(&draft, &replacement).unwrap();
            fs::rename(&draft, path).unwrap();
        },
        &|all| all.clone_from(&replacement),
    );
    let before = replacement;
    fs::remove_file(both.there("f")).unwrap();
    both.becomes("f", Some(&before), None);
    fs::create_dir(both.there("f")).unwrap();
    fs::write(both.there("f/inside"), "a directory now").unwrap();
    both.becomes("f/inside", None, Some(b"a directory now"));
    both.end();
}

#[test]
fn readers_of_a_growing_file_see_only_what_was_written() {
    const ROUNDS: u64 = 150;
    let Some(both) = Both::new(&[]) else { return };
    let whole: Vec<u8> = (0..ROUNDS).flat_map(|round| no_zeros(round, 100 + 37 * round as usize)).collect();
    fs::write(both.there("log"), "").unwrap();
    let (path, total) = (both.there("log"), whole.len());
    let writer = task::thread("writer", move || {
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        for round in 0..ROUNDS {
            file.write_all(&no_zeros(round, 100 + 37 * round as usize)).unwrap();
            if round % 2 == 0 {
                file.sync_data().unwrap();
            }
            if round % 5 == 0 {
                file = OpenOptions::new().append(true).open(&path).unwrap();
            }
        }
    });
    let (mut follower, mut followed) = (None, Vec::new());
    wait_until("a reader sees the whole file", PATIENCE, || {
        let Some(seen) = both.read("log") else { return false };
        assert!(whole.starts_with(&seen), "the file shows {} that nobody wrote", describe(Some(&seen)));
        // One handle stays open, as `tail -f` would keep it.
        let follower = follower.get_or_insert_with(|| File::open(both.here("log")).unwrap());
        follower.read_to_end(&mut followed).unwrap();
        assert!(whole.starts_with(&followed), "the open handle shows {} that nobody wrote", describe(Some(&followed)));
        seen.len() == total && followed.len() == total
    });
    writer.join().unwrap();
    drop(follower);
    both.end();
}

#[test]
fn an_open_file_survives_compaction() {
    // Without a trash, the blocks that compaction replaces go at once.
    let Some(both) = Both::new(&["--trash-days", "0"]) else { return };
    let mut content = no_zeros(1, 600_000);
    fs::write(both.there("f"), &content).unwrap();
    let file = OpenOptions::new().write(true).open(both.there("f")).unwrap();
    for round in 0..60u64 {
        let (at, bytes) = (round as usize * 9000, no_zeros(100 + round, 4000));
        file.write_all_at(&bytes, at as u64).unwrap();
        file.sync_data().unwrap();
        content[at..at + 4000].copy_from_slice(&bytes);
    }
    drop(file);
    both.becomes("f", None, Some(&content));
    let open = File::open(both.here("f")).unwrap();
    // A block that RAM holds would be served whatever became of its object: this mount holds next to nothing.
    let small = both.pair.shoal_mount("small", &["--memory", "64K", "--max-readahead", "0"]);
    let small_open = File::open(small.point.join("f")).unwrap();
    let mut start = [0; 1000];
    small_open.read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, content[..1000]);

    let objects = both.pair.objects();
    let count = || walk(&objects);
    let before = count();
    both.pair.juicefs(&["compact", both.there("").to_str().unwrap()]);
    wait_until("the replaced blocks are gone", PATIENCE, || count() < before / 2);
    for handle in [&open, &small_open] {
        let mut seen = vec![0; content.len()];
        handle.read_exact_at(&mut seen, 0).unwrap();
        assert!(seen == content, "the open handle shows {}", describe(Some(&seen)));
    }
    drop((open, small_open));
    small.unmount(&both.pair.rig);
    both.becomes("f", None, Some(&content));
    both.end();
}

/// Files below `dir`.
fn walk(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { 1 }).sum()
}

#[test]
fn the_trash_is_reached_by_name_as_in_juicefs() {
    let Some(both) = Both::new(&[]) else { return };
    fs::create_dir(both.there("d")).unwrap();
    for name in ["d/one", "two"] {
        fs::write(both.there(name), name).unwrap();
    }
    both.becomes("d/one", None, Some(b"d/one"));
    fs::remove_file(both.there("two")).unwrap();
    fs::remove_dir_all(both.there("d")).unwrap();
    let theirs = look(&both.there(".trash"));
    assert!(theirs.entries.len() >= 5, "an hour, two files and a directory: {:?}", theirs.entries.keys());
    // The trash itself has whatever size and time JuiceFS makes up; the hours in it are directories like any other.
    let hours: Vec<_> = fs::read_dir(both.there(".trash")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for hour in hours {
        become_alike(&both.there(".trash").join(&hour), &both.here(".trash").join(&hour));
    }
    both.end();
}

#[test]
fn a_file_that_is_removed_stays_readable_where_it_is_open() {
    let Some(both) = Both::new(&[]) else { return };
    let content = no_zeros(1, 500_000);
    fs::write(both.there("f"), &content).unwrap();
    both.becomes("f", None, Some(&content));
    let open = File::open(both.here("f")).unwrap();
    fs::remove_file(both.there("f")).unwrap();
    both.becomes("f", Some(&content), None);
    let mut seen = vec![0; content.len()];
    open.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == content, "it is in the trash, blocks and all");
    drop(open);
    both.end();
}

#[test]
fn a_file_that_is_removed_for_good_fails_or_reads_right_where_it_is_open() {
    let Some(both) = Both::new(&["--trash-days", "0"]) else { return };
    let content = no_zeros(1, 500_000);
    for name in ["f", "other"] {
        fs::write(both.there(name), &content).unwrap();
    }
    let small = both.pair.shoal_mount("small", &["--memory", "64K", "--max-readahead", "0"]);
    let open = File::open(small.point.join("f")).unwrap();
    open.read_exact_at(&mut [0; 100], 0).unwrap();
    fs::remove_file(both.there("f")).unwrap();
    let objects = both.pair.objects();
    wait_until("its blocks are gone", PATIENCE, || walk(&objects) <= 1 + content.len().div_ceil(64 << 10));
    let mut seen = vec![0; content.len()];
    match open.read_at(&mut seen, 0) {
        Ok(len) => assert!(seen[..len] == content[..len], "{} that nobody wrote", describe(Some(&seen[..len]))),
        Err(error) => println!("refused: {error}"),
    }
    drop(open);
    assert!(fs::read(small.point.join("other")).unwrap() == content, "the mount serves on");
    small.unmount(&both.pair.rig);
    both.end();
}
