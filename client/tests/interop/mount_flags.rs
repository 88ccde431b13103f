//! Flags of our mount that JuiceFS's has too, and the tools that look into a running mount.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Command;

use shoal_runtime::clock;
use shoal_testkit::{ChildGuard, PATIENCE};

use super::pair::{Pair, with_volume};
use super::removal::{shape, small_tree};

/// Kernel caches off and writable, and further flags.
fn fresh<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let caches = ["--writable", "--attr-cache", "0s", "--entry-cache", "0ms", "--dir-entry-cache", "0"];
    caches.into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn a_directory_is_mounted_as_if_it_were_the_whole_volume() {
    let Some(pair) = Pair::with_tree("subdir", &[], small_tree) else { return };
    let ours = pair.shoal_mount("ours", &fresh(&["--subdir", "/d"]));
    let theirs = pair.juicefs_mount(
        "theirs",
        &["--subdir", "/d", "--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"],
    );
    let whole = pair.fresh("whole");
    shape(&theirs.point).assert_same(&shape(&ours.point), "the directory");
    let at = |name: &str| ours.point.join(name);
    assert_eq!(fs::metadata(&ours.point).unwrap().ino(), 1);
    assert_eq!(fs::metadata(at("sub/..")).unwrap().ino(), 1);
    assert!(!at(".trash").exists() && !at("top").exists());
    fs::create_dir(at("new")).unwrap();
    fs::write(at("new/file"), b"content").unwrap();
    fs::rename(at("b"), at("new/b")).unwrap();
    fs::rename(at("new/file"), at("file")).unwrap();
    fs::hard_link(at("file"), at("linked")).unwrap();
    fs::remove_file(at("sub/c")).unwrap();
    std::os::unix::fs::chown(&ours.point, Some(5), None).unwrap();
    assert_eq!(fs::metadata(whole.point.join("d")).unwrap().uid(), 5);
    shape(&theirs.point).assert_same(&shape(&ours.point), "what was changed");
    shape(&whole.point.join("d")).assert_same(&shape(&ours.point), "and in the whole volume");
    let said = pair.rig.ok(pair.rig.shoal().arg("info").arg(at("new/b")));
    assert!(said.contains("path: /d/new/b"), "{said}");
    pair.rig.ok(pair.rig.shoal().arg("rmr").arg(at("sub")));
    assert!(!whole.point.join("d/sub").exists() && whole.point.join("d/a").exists());

    let (mut refused, _) = pair.rig.mount_command("missing", &pair.url(), &[], &["--subdir", "/not/there"]);
    let said = pair.rig.refused(&mut refused);
    assert!(said.contains("/not/there"), "{said}");
    let made = pair.shoal_mount("made", &fresh(&["--subdir", "not/there"]));
    fs::write(made.point.join("x"), b"x").unwrap();
    assert_eq!(fs::read(whole.point.join("not/there/x")).unwrap(), b"x");
    assert_eq!(fs::metadata(whole.point.join("not/there")).unwrap().mode() & 0o777, 0o777);
    made.unmount(&pair.rig);
    whole.unmount(&pair.rig);
    theirs.unmount(&pair.rig);
    ours.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
    pair.assert_gc_is_clean();
}

#[test]
fn a_mount_behaves_as_its_flags_say() {
    let Some(pair) = Pair::with_tree("mount-flags", &[], small_tree) else { return };
    let flags = ["--umask", "077", "--prefix-internal", "--heartbeat", "3s", "--no-bgjob"];
    let ours = pair.shoal_mount("ours", &fresh(&[&flags[..], &["--readdir-cache"]].concat()));
    let at = |name: &str| ours.point.join(name);
    with_volume(&pair.url(), async |engine| {
        let sessions = engine.records().sessions().await.unwrap();
        let left = sessions[0].expire - clock::unix_now().as_secs() as i64;
        assert!((0..=15).contains(&left), "five heartbeats of three seconds: {left}");
    });
    File::options().create_new(true).write(true).mode(0o666).open(at("d/private")).unwrap();
    fs::create_dir(at("dir")).unwrap();
    for (name, mode) in [("d/private", 0o600), ("dir", 0o700)] {
        assert_eq!(fs::metadata(at(name)).unwrap().mode() & 0o777, mode, "{name}");
    }
    let listed = || fs::read_dir(at("d")).unwrap().count();
    assert_eq!(listed(), listed());
    fs::remove_file(at("d/b")).unwrap();
    assert!(
        !fs::read_dir(at("d")).unwrap().any(|entry| entry.unwrap().file_name() == "b"),
        "listings do not outlive changes"
    );
    assert!(at(".jfs.stats").exists() && at(".jfs.config").exists() && !at(".stats").exists());
    let said = pair.rig.ok(pair.rig.shoal().arg("summary").arg(&ours.point));
    assert!(said.contains("d/sub/"), "{said}");
    ours.unmount(&pair.rig);

    let reader = pair.shoal_mount("reader", &["--read-only"]);
    assert_eq!(fs::write(reader.point.join("x"), b"").unwrap_err().raw_os_error(), Some(libc::EROFS));
    let said = pair.rig.refused(pair.rig.shoal().arg("rmr").arg(reader.point.join("d")));
    assert!(said.contains("mounted for reading"), "{said}");
    reader.unmount(&pair.rig);
    let (mut both, _) = pair.rig.mount_command("both", &pair.url(), &[], &["--read-only", "--writable"]);
    assert!(!both.output().unwrap().status.success());
    let (mut ro, _) = pair.rig.mount_command("ro", &pair.url(), &[], &["--writable", "-o", "ro"]);
    let said = pair.rig.refused(&mut ro);
    assert!(said.contains("-o ro"), "{said}");
    let (mut staging, _) = pair.rig.mount_command("staging", &pair.url(), &[], &["-o", "ro", "--writeback"]);
    let said = pair.rig.refused(&mut staging);
    assert!(said.contains("read-only") && said.contains("--writeback"), "{said}");
    pair.assert_fsck_is_clean();
}

/// Does what a log can show.
fn busy(root: &Path) {
    for n in 0..7 {
        fs::write(root.join(format!("busy{n}")), b"content").unwrap();
        assert_eq!(fs::read(root.join(format!("busy{n}"))).unwrap(), b"content");
    }
    fs::metadata(root.join("absent")).unwrap_err();
    fs::remove_file(root.join("busy0")).unwrap();
}

#[test]
fn a_mount_tells_what_it_does() {
    let Some(pair) = Pair::with_tree("telling", &[], small_tree) else { return };
    let ours = pair.fresh("ours");
    let log = pair.rig.path("access.log");
    let reader = ChildGuard::spawn("cat", Command::new("cat").arg(ours.point.join(".accesslog")));
    // An empty line says that it listens.
    reader.wait_for_line("a line", PATIENCE, |line| line.starts_with('#').then_some(()));
    busy(&ours.point);
    reader.wait_for_line("the removal", PATIENCE, |line| line.contains("] unlink (").then_some(()));
    fs::write(&log, reader.stdout().join("\n") + "\n").unwrap();
    drop(reader);
    let rows = |text: &str| -> Vec<(String, u64)> {
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        let mut rows: Vec<_> = text.lines().filter_map(row).collect();
        rows.sort();
        rows
    };
    let path = log.display().to_string();
    let mine = rows(&pair.rig.ok(pair.rig.shoal().args(["profile", &path, "--interval", "0"])));
    let count = |op: &str| mine.iter().find(|(name, _)| name == op).map_or(0, |(_, count)| *count);
    assert!(count("create") == 7 && count("unlink") == 1 && count("open") >= 7, "{mine:?}");
    let output = pair.rig.oracle_command(&pair.juicefs, &["profile", &path, "--interval", "0"]).output().unwrap();
    assert_eq!(rows(&String::from_utf8_lossy(&output.stdout)), mine, "JuiceFS reads our log");
    assert!(fs::read_to_string(&log).unwrap().contains("no such file or directory"));
    let one = rows(&pair.rig.ok(pair.rig.shoal().args(["profile", &path, "--interval", "0", "--uid", "12345"])));
    assert_eq!(one, []);

    let said = pair.rig.ok(pair.rig.shoal().arg("stats").arg(&ours.point).args(["--count", "2", "-l", "1"]));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 4 && lines[0].contains("fuse") && lines[1].contains("write"), "{said}");
    let refused = pair.rig.refused(pair.rig.shoal().arg("stats").arg(&ours.point).args(["--schema", "uz"]));
    assert!(refused.contains("`z`"), "{refused}");

    let out = pair.rig.path("out");
    let debug =
        pair.rig.ok(pair.rig.shoal().arg("debug").arg(&ours.point).args(["--stats-sec", "0", "--out-dir"]).arg(&out));
    assert!(Path::new(debug.trim()).exists(), "{debug}");
    let dir = fs::read_dir(&out).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap().path();
    for (name, holds) in [
        ("config.json", "\"mountpoint\""),
        ("stats.1.txt", "shoal_fuse_op_duration_seconds"),
        ("volume.json", "\"Sessions\""),
        ("process.txt", "VmRSS"),
        ("system.txt", "Linux"),
    ] {
        let text = fs::read_to_string(dir.join(name)).unwrap();
        assert!(text.contains(holds), "{name}: {text}");
    }
    ours.unmount(&pair.rig);
}

#[test]
fn objects_are_reached_where_the_mount_is_told() {
    let Some(pair) = Pair::with_tree("bucket", &[], small_tree) else { return };
    let moved = pair.rig.path("moved");
    fs::rename(pair.objects(), &moved).unwrap();
    // JuiceFS wants the slash here.
    let there = &format!("{}/", moved.display());
    let flags = ["--bucket", there, "--get-timeout", "5s", "--put-timeout", "5", "--io-retries", "2", "--writable"];
    let ours = pair.shoal_mount("ours", &flags);
    fs::write(ours.point.join("new"), b"new").unwrap();
    let theirs = pair.juicefs_mount("theirs", &["--bucket", there]);
    assert_eq!(fs::read(theirs.point.join("new")).unwrap(), b"new");
    shape(&theirs.point).assert_same(&shape(&ours.point), "what is there");
    theirs.unmount(&pair.rig);
    ours.unmount(&pair.rig);
    let said = pair.rig.refused(&mut pair.rig.mount_command("lost", &pair.url(), &[], &[]).0);
    assert!(said.contains(pair.objects().to_str().unwrap()), "the setting is what it was: {said}");
}
