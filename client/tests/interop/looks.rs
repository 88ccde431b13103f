//! What a mount looks at anew, and what reading leaves behind: `--open-cache` and `--atime-mode`, as with JuiceFS.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use shoal_runtime::clock;
use shoal_testkit::{PATIENCE, wait_until};

use super::pair::{Keys, Pair, Recipe};
use crate::rig::Mount;
use crate::rig::oracle::OracleMount;

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

const DAY: i64 = 24 * 3600;

/// The volume mounted by both clients with the same flags.
struct Both<'a> {
    pair: &'a Pair,
    ours: Mount,
    theirs: OracleMount,
}

impl Both<'_> {
    fn mount<'a>(pair: &'a Pair, flags: &[&str]) -> Both<'a> {
        let ours = pair.shoal_mount("ours", &[&["--writable"], flags].concat());
        Both { pair, ours, theirs: pair.juicefs_mount("theirs", flags) }
    }

    fn roots(&self) -> [(&'static str, &Path); 2] {
        [("ours", &self.ours.point), ("theirs", &self.theirs.point)]
    }

    fn unmount(self) {
        self.theirs.unmount(&self.pair.rig);
        self.ours.unmount(&self.pair.rig);
    }
}

#[test]
fn a_file_opened_lately_is_opened_again_as_it_was() {
    let Some(pair) = Pair::new("open-cache") else { return };
    pair.shoal_formats(&PLAIN, &["--trash-days", "0"]);
    let other = pair.fresh("other");
    let names = ["--attr-cache", "0", "--entry-cache", "1h", "--dir-entry-cache", "1h"];
    for (time, sees) in [("0s", "new and longer"), ("1h", "old")] {
        let both = Both::mount(&pair, &[&names[..], &["--open-cache", time]].concat());
        for (who, root) in both.roots() {
            let path = root.join(who);
            fs::write(&path, "old").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            fs::write(other.point.join(who), "new and longer").unwrap();
            let seen = fs::read_to_string(&path).unwrap();
            // JuiceFS may show any mixture of the two within that time.
            assert!(seen == sees || who == "theirs" && time != "0s", "{who} with --open-cache {time}: {seen}");
        }
        // What this mount changes it sees at once, in whatever way.
        let path = both.ours.point.join("ours");
        fs::write(&path, "own").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "own");
        OpenOptions::new().write(true).open(&path).unwrap().set_len(2).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "ow");
        fs::hard_link(&path, both.ours.point.join("linked")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 2);
        let file = File::open(&path).unwrap();
        fs::remove_file(both.ours.point.join("linked")).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 1);
        drop(file);
        both.unmount();
    }
    other.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}

#[test]
fn a_mount_tells_the_use_it_knows_without_asking() {
    let Some(pair) = Pair::new("statfs") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let used = |mount: &Mount| {
        let stat = rustix::fs::statvfs(&mount.point).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    };
    let fast = pair.shoal_mount("fast", &["--writable", "--fast-statfs", "--heartbeat", "1h"]);
    let other = pair.fresh("other");
    assert_eq!((used(&fast), used(&other)), (0, 0));
    fs::write(other.point.join("file"), [1; 1 << 20]).unwrap();
    assert_eq!((used(&fast), used(&other)), (0, 1 << 20), "it has not looked since");
    other.unmount(&pair.rig);
    fast.unmount(&pair.rig);
}

fn atime(path: &Path) -> (i64, i64) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.atime(), found.atime_nsec())
}

/// Sets the times of access and change to two days ago.
fn age(path: &Path) {
    let then = Timespec { tv_sec: clock::unix_now().as_secs() as i64 - 2 * DAY, tv_nsec: 0 };
    let times = Timestamps { last_access: then, last_modification: then };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

type Look = fn(&Path);

/// What can be done to a file, a directory or a link that is no change.
const LOOKS: [(&str, &str, Look); 6] = [
    ("file", "stat", |path| assert!(fs::metadata(path).is_ok())),
    ("file", "open to read", |path| drop(File::open(path).unwrap())),
    ("file", "open to write", |path| drop(OpenOptions::new().write(true).open(path).unwrap())),
    ("file", "read", |path| drop(fs::read(path).unwrap())),
    ("dir", "list", |path| assert!(fs::read_dir(path).unwrap().count() > 0)),
    ("link", "read the link", |path| drop(fs::read_link(path).unwrap())),
];

fn look_targets(root: &Path) -> PathBuf {
    let dir = root.join("looked-at");
    fs::create_dir_all(dir.join("dir/sub")).unwrap();
    fs::write(dir.join("file"), "content").unwrap();
    symlink("file", dir.join("link")).unwrap();
    dir
}

/// Which looks change the time of access, the first time and right after.
fn noted(root: &Path) -> Vec<(&'static str, [bool; 2])> {
    let dir = look_targets(root);
    let of = |(name, what, look): (&str, &'static str, Look)| {
        let path = dir.join(name);
        age(&path);
        let changed = [(); 2].map(|()| {
            let before = atime(&path);
            look(&path);
            atime(&path) != before
        });
        (what, changed)
    };
    let noted = LOOKS.into_iter().map(of).collect();
    fs::remove_dir_all(dir).unwrap();
    noted
}

#[test]
fn reading_leaves_the_time_that_the_mount_was_told_to() {
    let Some(pair) = Pair::new("atime") else { return };
    pair.shoal_formats(&PLAIN, &[]);
    let fresh = ["--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0", "--atime-mode"];
    for mode in ["noatime", "relatime", "strictatime"] {
        let both = Both::mount(&pair, &[&fresh[..], &[mode]].concat());
        let [ours, theirs] = both.roots().map(|(_, root)| noted(root));
        assert_eq!(ours, theirs, "{mode}");
        assert_eq!(ours.iter().any(|(_, changed)| changed[0]), mode != "noatime");
        if mode == "strictatime" {
            for (who, root) in both.roots() {
                let path = look_targets(root).join("file");
                fs::read(&path).unwrap();
                let first = atime(&path);
                wait_until("reading counts again after a second", PATIENCE, || {
                    fs::read(&path).unwrap();
                    atime(&path) != first
                });
                fs::remove_dir_all(root.join("looked-at")).unwrap_or_else(|error| panic!("{who}: {error}"));
            }
        }
        both.unmount();
    }
    let reader = pair.shoal_mount("reader", &["--read-only", "--atime-mode", "strictatime"]);
    assert_eq!(fs::read_dir(&reader.point).unwrap().count(), 0);
    reader.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}
