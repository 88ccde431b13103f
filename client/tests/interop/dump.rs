//! `dump` and `load`: what one client dumps the other loads, and both dump the same bytes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use shoal_testkit::{Snapshot, seeded_bytes};

use super::pair::{Keys, Pair, Recipe, look};
use crate::rig::oracle::OracleMount;

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// Inodes of every kind, odd names and values, something in the trash.
fn write_everything(root: &Path) {
    fs::create_dir_all(root.join("d/sub/deep")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, len) in [("d/a", 200_000), ("d/empty", 0), ("d/sub/c", 70_000), ("d/sub/deep/x", 1), ("gone", 10)] {
        fs::write(root.join(name), seeded_bytes(len as u64, len)).unwrap();
    }
    for n in 0..300 {
        fs::write(root.join(format!("empty/{n} % \"<&>\\ ü")), format!("{n}")).unwrap();
    }
    fs::hard_link(root.join("d/a"), root.join("d/sub/a2")).unwrap();
    fs::hard_link(root.join("d/a"), root.join("a3")).unwrap();
    symlink("to there/%41\u{7f}ü", root.join("d/link")).unwrap();
    let sparse = fs::File::create(root.join("d/sparse")).unwrap();
    sparse.set_len(200 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (200 << 20) - 3).unwrap();
    for node in [&["p"][..], &["c", "1", "3"], &["b", "8", "1"]] {
        run(Command::new("mknod").arg(root.join(format!("d/node-{}", node[0]))).args(node));
    }
    for (name, value) in [("user.k", "0x760001ff2225"), ("user.e", "\"\""), ("user.u", "<ü> &")] {
        run(Command::new("setfattr").args(["-n", name, "-v", value]).arg(root.join("d/a")));
    }
    fs::remove_file(root.join("gone")).unwrap();
    fs::remove_file(root.join("d/sub/deep/x")).unwrap();
    fs::remove_dir(root.join("d/sub/deep")).unwrap();
}

#[track_caller]
fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}");
}

/// A volume that JuiceFS made and filled, and what it showed.
fn filled(name: &str, flags: &[&str]) -> Option<(Pair, Snapshot)> {
    let pair = Pair::new(name)?;
    pair.juicefs_formats(&PLAIN, flags);
    let theirs = pair.juicefs_mount("theirs", &[]);
    write_everything(&theirs.point);
    let seen = look(&theirs.point);
    theirs.unmount(&pair.rig);
    Some((pair, seen))
}

impl Pair {
    #[track_caller]
    fn shoal(&self, words: &[&str]) -> String {
        self.rig.ok(self.rig.shoal().args(words))
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.rig.path(name)).unwrap()
    }

    fn mounted_by_juicefs(&self, name: &str, url: &str) -> OracleMount {
        self.rig.oracle_mount(&self.juicefs, name, url, &[])
    }
}

#[track_caller]
fn assert_same_text(ours: &str, theirs: &str) {
    for (number, (our_line, their_line)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(our_line, their_line, "line {}", number + 1);
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn both_dump_the_same_bytes() {
    let Some((pair, _)) = filled("dumps", &["--access-key", "AK", "--secret-key", "SK", "--enable-acl"]) else {
        return;
    };
    let url = pair.url();
    for (number, flags) in [&[][..], &["--keep-secret-key"], &["--subdir", "/d", "--skip-trash"]].iter().enumerate() {
        let (ours, theirs) = (format!("ours-{number}.json"), format!("theirs-{number}.json"));
        pair.shoal(&[&["dump", &url, &ours], *flags].concat());
        pair.juicefs(&[&["dump", &url, &theirs], *flags].concat());
        assert_same_text(&pair.text(&ours), &pair.text(&theirs));
        assert_eq!(pair.text(&ours).contains("\"removed\""), number != 1, "secrets go unless they are to stay");
    }
    // To standard output, and with one directory at a time.
    let printed = pair.shoal(&["dump", &url, "--threads", "1", "--fast"]);
    assert_same_text(&printed, &pair.text("theirs-0.json"));
    pair.juicefs(&["dump", &url, "theirs.json.gz"]);
    let loaded = pair.rig.url("from-gz");
    pair.shoal(&["load", &loaded, "theirs.json.gz"]);
    pair.shoal(&["dump", &loaded, "again.json.gz"]);
    let unzipped = Command::new("gzip").args(["-dc", "again.json.gz"]).current_dir(pair.rig.path("")).output().unwrap();
    assert!(unzipped.status.success(), "gzip takes what we compress");
    assert_eq!(
        fs::read_dir(pair.rig.path(""))
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_str().unwrap().contains("partial"))
            .count(),
        0
    );
}

/// Limits a user and a group.
fn limit_owners(pair: &Pair) {
    pair.juicefs(&["quota", "set", &pair.url(), "--uid", "7", "--inodes", "9001"]);
    pair.juicefs(&["quota", "set", &pair.url(), "--gid", "8", "--capacity", "23"]);
}

/// Asserts that a volume that was loaded has these limits. (JuiceFS's `quota check` passes over the trash, which its mounts charge.)
#[track_caller]
fn assert_owners_are_limited(pair: &Pair, url: &str) {
    for (owner, limit) in [(["--uid", "7"], " 9,001 "), (["--gid", "8"], " 23 GiB ")] {
        let said = pair.juicefs(&["quota", "get", url, owner[0], owner[1]]);
        assert!(said.contains(limit), "{owner:?}: {said}");
    }
}

#[test]
fn what_juicefs_dumps_we_load() {
    let Some((pair, seen)) = filled("loads", &[]) else { return };
    pair.juicefs(&["quota", "set", &pair.url(), "--path", "/d", "--capacity", "1", "--inodes", "1000"]);
    limit_owners(&pair);
    pair.juicefs(&["dump", &pair.url(), "dump.json", "--keep-secret-key"]);
    let ours = pair.rig.url("ours");
    pair.shoal(&["load", &ours, "dump.json"]);
    assert_owners_are_limited(&pair, &ours);
    let mount = pair.rig.mount("ours", &ours, &[], &[]);
    seen.assert_same(&look(&mount.point), "what was dumped");
    mount.unmount(&pair.rig);
    for words in [&["fsck", &ours][..], &["fsck", &ours, "--path", "/", "--recursive", "--sync-dir-stat"]] {
        let said = pair.juicefs(words);
        assert!(!said.contains("should be") && !said.contains("<ERROR>"), "{said}");
    }
    pair.juicefs(&["quota", "check", &ours, "--path", "/d", "--strict"]);
    pair.age_objects();
    let said = pair.juicefs(&["gc", &ours, "--delete"]);
    assert!(said.contains(" 0 leaked") && said.contains(" 0 pending delete"), "{said}");
    // A volume that was loaded is written to, and its blocks go when nothing names them.
    let theirs = pair.mounted_by_juicefs("loaded", &ours);
    seen.assert_same(&look(&theirs.point), "what was dumped");
    fs::write(theirs.point.join("new"), "new").unwrap();
    theirs.unmount(&pair.rig);
}

#[test]
fn what_we_dump_juicefs_loads() {
    let Some((pair, seen)) = filled("dumped", &[]) else { return };
    limit_owners(&pair);
    pair.shoal(&["dump", &pair.url(), "dump.json.gz", "--keep-secret-key"]);
    let theirs = pair.rig.url("theirs-loaded");
    pair.juicefs(&["load", &theirs, "dump.json.gz"]);
    assert_owners_are_limited(&pair, &theirs);
    let mount = pair.mounted_by_juicefs("their-copy", &theirs);
    seen.assert_same(&look(&mount.point), "what was dumped");
    mount.unmount(&pair.rig);
    let ours = pair.rig.mount("our-view", &theirs, &[], &[]);
    seen.assert_same(&look(&ours.point), "what was dumped");
    ours.unmount(&pair.rig);
}

#[test]
fn binary_dumps_load_in_both() {
    let Some((pair, _)) = filled("binary", &[]) else { return };
    // JuiceFS 1.4.2 loads no attribute at all of a binary dump, its own included, that has an empty one.
    let edit = pair.juicefs_mount("edit", &[]);
    run(Command::new("setfattr").args(["-x", "user.e"]).arg(edit.point.join("d/a")));
    let seen = look(&edit.point);
    edit.unmount(&pair.rig);
    limit_owners(&pair);
    let (ours, theirs) = (pair.rig.url("ours"), pair.rig.url("theirs-db"));
    pair.juicefs(&["dump", &pair.url(), "theirs.bin", "--binary", "--keep-secret-key"]);
    pair.shoal(&["dump", &pair.url(), "ours.bin", "--binary", "--keep-secret-key"]);
    pair.shoal(&["load", &ours, "theirs.bin", "--binary"]);
    pair.juicefs(&["load", &theirs, "ours.bin", "--binary"]);
    let numbers = |text: &str| {
        let rows = text.lines().map(|line| line.replace('|', " "));
        let rows = rows.map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        rows.filter(|row| row.len() == 2 && row[1].parse::<u64>().is_ok()).collect::<Vec<_>>()
    };
    let stat = |name: &str| numbers(&pair.juicefs(&["load", name, "--binary", "--stat"]));
    // We write one counter less: when slices were cleaned up last.
    let without_counters =
        |rows: Vec<Vec<String>>| rows.into_iter().filter(|row| row[0] != "counter").collect::<Vec<_>>();
    assert!(stat("ours.bin").len() > 10);
    assert_eq!(without_counters(stat("ours.bin")), without_counters(stat("theirs.bin")));
    assert_eq!(numbers(&pair.shoal(&["load", "theirs.bin", "--binary", "--stat"])), stat("theirs.bin"));
    for url in [&ours, &theirs] {
        assert_owners_are_limited(&pair, url);
        let mount = pair.rig.mount("view", url, &[], &[]);
        seen.assert_same(&look(&mount.point), url);
        mount.unmount(&pair.rig);
        let said = pair.juicefs(&["fsck", url, "--path", "/", "--recursive", "--sync-dir-stat"]);
        assert!(!said.contains("should be") && !said.contains("<ERROR>"), "{said}");
        pair.shoal(&["dump", url, "again.json"]);
        pair.shoal(&["dump", &pair.url(), "source.json"]);
        assert_same_text(&tree_of(&pair.text("again.json")), &tree_of(&pair.text("source.json")));
    }
}

/// A dump from its tree on.
fn tree_of(text: &str) -> String {
    text[text.find("\"FSTree\"").expect("a tree")..].to_owned()
}

#[test]
fn a_volume_is_loaded_only_where_nothing_is() {
    let Some((pair, _)) = filled("refused", &[]) else { return };
    let url = pair.url();
    pair.shoal(&["dump", &url, "dump.json"]);
    let sentence = pair.rig.refused(pair.rig.shoal().args(["load", &url, "dump.json"]));
    assert!(sentence.contains("exists already"), "{sentence}");
    let half = pair.text("dump.json");
    fs::write(pair.rig.path("half.json"), &half[..half.len() / 2]).unwrap();
    let other = pair.rig.url("half");
    let sentence = pair.rig.refused(pair.rig.shoal().args(["load", &other, "half.json"]));
    assert!(sentence.contains("ends too early"), "{sentence}");
    let sentence = pair.rig.refused(pair.rig.shoal().args(["dump", &other]));
    assert!(sentence.contains("no volume"), "{sentence}");
    let sentence = pair.rig.refused(pair.rig.shoal().args(["dump", &url, "no/such/directory/dump.json"]));
    assert!(sentence.contains("no/such/directory"), "{sentence}");
}
