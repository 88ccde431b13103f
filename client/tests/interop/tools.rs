//! Our commands for volumes beside those of JuiceFS: the same results on the same trees, and `fsck` and `gc` find nothing afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::Value;
use shoal_testkit::seeded_bytes;

use super::pair::{Pair, look};
use super::removal::{shape, small_tree};

/// [`small_tree`], and a directory of more files than one transaction removes, one of them of three blocks.
fn larger_tree(root: &Path) {
    small_tree(root);
    fs::create_dir_all(root.join("d/many")).unwrap();
    for n in 0..230 {
        fs::write(root.join(format!("d/many/f{n:03}")), seeded_bytes(n, n as usize)).unwrap();
    }
    fs::write(root.join("d/many/big"), seeded_bytes(9, 180_000)).unwrap();
    fs::set_permissions(root.join("d/many/f001"), fs::Permissions::from_mode(0o604)).unwrap();
    std::os::unix::fs::chown(root.join("d/many/f002"), Some(12), Some(34)).unwrap();
}

fn hours(mount: &Path) -> Vec<String> {
    let entries = fs::read_dir(mount.join(".trash")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_tree_is_removed_past_the_trash_and_into_it() {
    let Some(pair) = Pair::with_tree("rmr", &[], larger_tree) else { return };
    let ours = pair.fresh("ours");
    let theirs = pair.juicefs_mount("theirs", &["--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"]);
    let said =
        pair.rig.ok(pair.rig.shoal().arg("clone").args(["-p"]).arg(ours.point.join("d")).arg(ours.point.join("e")));
    assert!(said.contains("inodes copied"), "{said}");
    // Hard links come apart.
    let before = shape(&ours.point.join("e"));
    before.assert_same(&shape(&theirs.point.join("e")), "the copy, seen by JuiceFS");
    let blocks = pair.block_count();
    pair.rig.ok(pair.rig.shoal().args(["rmr", "--skip-trash"]).arg(ours.point.join("d")));
    assert!(!theirs.point.join("d").exists());
    assert_eq!(pair.block_count(), blocks, "the copy shares every block");
    pair.assert_fsck_is_clean();
    pair.rig.ok(pair.rig.shoal().args(["rmr", "--meta", &pair.url(), "/e", "/top"]));
    assert!(!theirs.point.join("e").exists() && !theirs.point.join("top").exists());
    for hour in hours(&theirs.point) {
        pair.juicefs(&["restore", &pair.url(), &hour, "--put-back"]);
    }
    before.assert_same(&shape(&theirs.point.join("e")), "what JuiceFS restored");
    pair.rig.ok(pair
        .rig
        .shoal()
        .args(["rmr", "--skip-trash", "-p", "3"])
        .args([ours.point.join("e"), ours.point.join("top")]));
    assert_eq!(pair.block_count(), 0, "nothing names a block any more");
    let said = pair.rig.refused(pair.rig.shoal().arg("rmr").arg(ours.point.join("e")));
    assert!(said.contains("no such path"), "{said}");
    theirs.unmount(&pair.rig);
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

#[test]
fn copies_are_those_that_juicefs_makes() {
    let Some(pair) = Pair::with_tree("clone", &[], larger_tree) else { return };
    let ours = pair.fresh("ours");
    let theirs = pair.juicefs_mount("theirs", &["--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"]);
    let (at, there) = (|name: &str| ours.point.join(name), |name: &str| theirs.point.join(name).display().to_string());
    for (flags, name) in [(&["-p"][..], "kept"), (&[], "own")] {
        pair.rig.ok(pair.rig.shoal().arg("clone").args(flags).arg(at("d")).arg(at(&format!("ours-{name}"))));
        let (from, to) = (there("d"), there(&format!("theirs-{name}")));
        pair.juicefs(&[&["clone"][..], flags, &[&from, &to]].concat());
        let (mut mine, mut other) = (shape(&at(&format!("ours-{name}"))), shape(&at(&format!("theirs-{name}"))));
        if name == "own" {
            // Their times are of when they were made.
            for entry in mine.entries.values_mut().chain(other.entries.values_mut()) {
                entry.mtime = (0, 0);
            }
        }
        other.assert_same(&mine, name);
    }
    pair.rig.ok(pair.rig.shoal().args(["clone", "--meta", &pair.url(), "/d/a", "/one"]));
    assert_eq!(fs::read(at("one")).unwrap(), fs::read(at("d/a")).unwrap());
    assert_eq!(fs::metadata(at("one")).unwrap().nlink(), 1);
    let refused = |from: &str, to: &str| pair.rig.refused(pair.rig.shoal().arg("clone").arg(at(from)).arg(at(to)));

    assert!(refused("d", "one").contains("exists already"));
    assert!(refused("d", "d/sub/in").contains("below it"));
    assert!(refused("d", "nowhere/in").contains("no such directory"));
    // A copy is a file of its own.
    fs::write(at("ours-kept/a"), b"changed").unwrap();
    assert_eq!(fs::metadata(at("d/a")).unwrap().len(), 200_000);
    let whole = look(&at("d"));
    theirs.unmount(&pair.rig);
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
    let again = pair.juicefs_mount("again", &[]);
    whole.assert_same(&look(&again.point.join("d")), "the original");
    again.unmount(&pair.rig);
}

#[test]
fn what_juicefs_removed_is_put_together_and_put_back() {
    let Some(pair) = Pair::with_tree("restore", &[], larger_tree) else { return };
    let theirs = pair.juicefs_mount("theirs", &["--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"]);
    let before = shape(&theirs.point);
    pair.juicefs(&["rmr", &theirs.point.join("d").display().to_string()]);
    assert!(!theirs.point.join("d").exists());
    for hour in hours(&theirs.point) {
        let said = pair.rig.ok(pair.rig.shoal().args(["restore", &pair.url(), &hour]));
        assert!(said.contains(" 0 failed"), "{said}");
        let left: Vec<_> = fs::read_dir(theirs.point.join(".trash").join(&hour)).unwrap().flatten().collect();
        assert!(left.len() <= 1, "one tree: {left:?}");
    }
    for hour in hours(&theirs.point) {
        pair.rig.ok(pair.rig.shoal().args(["restore", "--put-back", &pair.url(), &hour]));
    }
    before.assert_same(&shape(&theirs.point), "what was there");
    let said = pair.rig.refused(pair.rig.shoal().args(["restore", &pair.url(), "1999-01-01-00"]));
    assert!(said.contains("1999-01-01-00"), "{said}");
    theirs.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

#[test]
fn what_is_told_of_a_volume_is_what_juicefs_tells() {
    let Some(pair) = Pair::with_tree("told", &[], larger_tree) else { return };
    let ours = pair.fresh("ours");
    let theirs = pair.juicefs_mount("theirs", &[]);
    let (at, there) = (|name: &str| ours.point.join(name), |name: &str| theirs.point.join(name).display().to_string());
    let ok = |words: &[&str], path: &str| pair.rig.ok(pair.rig.shoal().args(words).arg(at(path)));
    let stdout = |words: &[&str]| {
        let output = pair.rig.oracle_command(&pair.juicefs, words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for path in ["d", ""] {
        for flags in
            [&[][..], &["--depth", "3", "--entries", "2"], &["--strict", "--depth", "0"], &["--csv", "--strict"]]
        {
            let words = [&["summary"][..], flags].concat();
            let place = there(path);
            assert_eq!(ok(&words, path), stdout(&[&words[..], &[&place]].concat()), "{words:?} {path}");
        }
    }
    let facts = |text: &str| -> Vec<String> {
        let told = ["inode:", "files:", "dirs:", "length:", "size:", "path:", "paths:", "\t/", "chunks/"];
        let lines = text.lines().filter(|line| told.iter().any(|word| line.contains(word)));
        // Our further columns stand behind theirs.
        lines.map(|line| line.split('|').take(7).map(str::trim).collect::<Vec<_>>().join("|")).collect()
    };
    for (flags, path) in [
        (&[][..], "d"),
        (&["--recursive"], "d"),
        (&["-r", "--strict"], "d"),
        (&[], "d/a"),
        (&[], "d/many/big"),
        (&["-r"], ""),
    ] {
        let words = [&["info"][..], flags].concat();
        let place = there(path);
        let other = stdout(&[&words[..], &[&place]].concat());
        assert_eq!(facts(&ok(&words, path)), facts(&other), "{words:?} {path}");
    }
    let status = |text: String| -> Value {
        let mut status: Value = serde_json::from_str(&text).expect("JSON");
        // A heartbeat may come between the two that are compared.
        let sessions = status["Sessions"].as_array_mut().into_iter().flatten();
        sessions.for_each(|session| drop(session.as_object_mut().unwrap().remove("Expire")));
        status
    };
    let mine = status(pair.rig.ok(pair.rig.shoal().args(["status", &pair.url()])));
    let other = status(stdout(&["status", &pair.url()]));
    for part in ["Setting", "Sessions", "Stat"] {
        assert_eq!(mine[part], other[part], "{part}");
    }
    fs::remove_file(at("top")).unwrap();
    let more = |output: String| status(output)["Stat"].clone();
    let mine = more(pair.rig.ok(pair.rig.shoal().args(["status", "-m", &pair.url()])));
    assert_eq!(mine, more(stdout(&["status", "-m", &pair.url()])));
    assert_eq!(mine["TrashFileCount"], 1);
    let one = status(pair.rig.ok(pair.rig.shoal().args(["status", &pair.url(), "--session", "2"])));
    assert_eq!(one["MountPoint"], ours.point.display().to_string(), "{one}");
    let said = pair.rig.refused(pair.rig.shoal().args(["status", &pair.url(), "-s", "99"]));
    assert!(said.contains("no session 99"), "{said}");
    theirs.unmount(&pair.rig);
    ours.unmount(&pair.rig);
}

#[test]
fn a_volume_is_destroyed_only_by_its_name_and_when_nobody_uses_it() {
    let Some(pair) = Pair::with_tree("destroyed", &[], small_tree) else { return };
    let url = pair.url();
    let status: Value = serde_json::from_str(&pair.rig.ok(pair.rig.shoal().args(["status", &url]))).unwrap();
    let uuid = status["Setting"]["UUID"].as_str().expect("a UUID").to_owned();
    let destroy = |words: &[&str]| {
        let mut command = pair.rig.shoal();
        command.args(["destroy", &url]).args(words);
        command
    };
    let said = pair.rig.refused(&mut destroy(&["11111111-10f1-473c-bdf0-b8ed81207873", "--yes"]));
    assert!(said.contains(&uuid), "{said}");
    let ours = pair.fresh("ours");
    let output = destroy(&[&uuid, "--yes"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("has clients: 1"), "{said}");
    ours.unmount(&pair.rig);
    let output = destroy(&[&uuid]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("WARNING: 1. ALL objects"), "nobody said yes: {said}");
    assert!(pair.block_count() > 0);
    pair.assert_fsck_is_clean();
    pair.rig.ok(&mut destroy(&[&uuid, "--yes"]));
    assert_eq!(fs::read_dir(pair.objects()).unwrap().count(), 0, "not even a directory is left");
    let said = pair.rig.refused(pair.rig.shoal().args(["status", &url]));
    assert!(said.contains("no volume"), "{said}");
    // Whoever comes next finds room.
    pair.juicefs_formats(&super::removal::PLAIN, &[]);
    let again = pair.fresh("again");
    assert_eq!(fs::read_dir(&again.point).unwrap().count(), 0);
    again.unmount(&pair.rig);
}
