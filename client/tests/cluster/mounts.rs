//! The life of a mount: read-only in every way, in the background, busy, ended by signals, left dead.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use shoal_testkit::{ChildGuard, PATIENCE, wait_until};

use crate::rig::Rig;
use crate::support::{left_behind, one_file, read_all, same, small};

/// Whether something is mounted at `point`.
fn is_mounted(point: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the mount table");
    table.lines().any(|line| line.split(' ').nth(4) == point.to_str())
}

#[test]
fn every_way_to_write_is_refused_as_on_a_read_only_file_system() {
    let Some(rig) = Rig::new("read-only") else { return };
    let source = rig.mkdir("source");
    fs::create_dir(source.join("dir")).expect("made");
    fs::write(source.join("file"), "content").expect("written");
    let url = rig.format("train", &[]);
    rig.import(&source, &url);
    let mount = rig.mount("m", &url, &[], &[]);
    let at = |name: &str| mount.point.join(name);
    let (file, dir, new) = (at("file"), at("dir"), at("new"));
    let os = |result: rustix::io::Result<()>| result.map_err(io::Error::from);
    let now = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    let none = rustix::fs::AtFlags::empty();
    let cwd = rustix::fs::CWD;
    let attempts: [(&str, io::Result<()>); 16] = [
        ("create", File::create(&new).map(drop)),
        ("open for writing", File::options().write(true).open(&file).map(drop)),
        ("append", File::options().append(true).open(&file).map(drop)),
        ("truncate", File::options().write(true).truncate(true).open(&file).map(drop)),
        ("mkdir", fs::create_dir(&new)),
        ("unlink", fs::remove_file(&file)),
        ("rmdir", fs::remove_dir(&dir)),
        ("rename", fs::rename(&file, &new)),
        ("rename into a directory", fs::rename(&file, dir.join("file"))),
        ("link", fs::hard_link(&file, &new)),
        ("symlink", std::os::unix::fs::symlink("file", &new)),
        ("chmod", fs::set_permissions(&file, Permissions::from_mode(0o600))),
        ("chown", std::os::unix::fs::chown(&file, Some(1), Some(1))),
        ("utimes", os(rustix::fs::utimensat(cwd, &file, &now, none))),
        ("setxattr", os(rustix::fs::setxattr(&file, "user.a", b"b", rustix::fs::XattrFlags::empty()))),
        ("mknod", os(rustix::fs::mknodat(cwd, &new, rustix::fs::FileType::Fifo, 0o600.into(), 0))),
    ];
    for (what, result) in attempts {
        let error = result.err().unwrap_or_else(|| panic!("{what} succeeded"));
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{what}: {error}");
    }
    assert_eq!(fs::read_to_string(&file).expect("read"), "content");
}

#[test]
fn the_virtual_files_are_there_private_and_not_listed() {
    let Some(rig) = Rig::new("virtual") else { return };
    let volume = one_file(&rig, "train", 2);
    let nodes = rig.start_ring(1, &volume.url, &small());
    let mount = rig.mount("m", &volume.url, &nodes, &[]);
    let names: Vec<_> = fs::read_dir(&mount.point).expect("listed").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["big"]);
    for name in [".config", ".stats"] {
        let path = mount.point.join(name);
        let meta = fs::metadata(&path).expect("it is there");
        assert_eq!((meta.permissions().mode() & 0o7777, meta.is_file()), (0o400, true), "{name}");
        for result in [File::options().write(true).open(&path).map(drop), fs::remove_file(&path)] {
            assert_eq!(result.expect_err("refused").raw_os_error(), Some(libc::EROFS), "{name}");
        }
        assert!(fs::read(mount.point.join("big").with_file_name(name)).is_ok());
    }
    let text = fs::read_to_string(mount.point.join(".config")).expect("read");
    let config: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(config["meta_url"], volume.url);
    assert_eq!(config["name"], "train");
    assert_eq!(config["pid"], mount.process.id());
    assert_eq!(config["join"][0], nodes[0].addr.to_string());
}

#[test]
fn a_mount_in_use_is_unmounted_only_by_force() {
    let Some(rig) = Rig::new("busy") else { return };
    let volume = one_file(&rig, "train", 2);
    let mut mount = rig.mount("m", &volume.url, &[], &[]);
    let mut open = File::open(mount.point.join("big")).expect("it opens");
    let said = rig.refused(rig.shoal().arg("umount").arg(&mount.point));
    assert!(said.contains("is in use") && said.contains("--force"), "{said}");
    assert!(is_mounted(&mount.point) && !mount.stats().is_empty(), "it serves on");
    rig.ok(rig.shoal().args(["umount", "--force"]).arg(&mount.point));
    assert!(!is_mounted(&mount.point));
    assert!(mount.process.wait(PATIENCE).success(), "the mount process ends");
    let mut bytes = Vec::new();
    assert!(open.read_to_end(&mut bytes).is_err(), "files that were open fail from then on");
    drop(open);
    assert_eq!(left_behind(&rig), Vec::<String>::new());
}

#[test]
fn a_mount_that_hangs_is_detached_by_force() {
    let Some(rig) = Rig::new("hung") else { return };
    let volume = one_file(&rig, "train", 2);
    let mut mount = rig.mount("m", &volume.url, &[], &["--attr-cache", "0"]);
    // Somebody sits in it: not this process, whose children would hang with the mount when they close what they inherit.
    let sitter = ChildGuard::spawn("sitter", Command::new("sleep").arg("1000").current_dir(&mount.point));
    mount.process.signal(Signal::STOP);
    let said = rig.refused(rig.shoal().arg("umount").arg(&mount.point));
    assert!(said.contains("is in use") && said.contains("--force"), "{said}");
    rig.ok(rig.shoal().args(["umount", "--force"]).arg(&mount.point));
    assert!(!is_mounted(&mount.point));
    mount.process.signal(Signal::CONT);
    drop(sitter);
    assert!(mount.process.wait(PATIENCE).success());
}

#[test]
fn sigterm_and_sigint_unmount_also_in_use() {
    let Some(rig) = Rig::new("signals") else { return };
    let volume = one_file(&rig, "train", 2);
    for (name, signal) in [("term", Signal::TERM), ("int", Signal::INT)] {
        let mut mount = rig.mount(name, &volume.url, &[], &[]);
        mount.process.signal(signal);
        assert!(mount.process.wait(PATIENCE).success());
        assert!(!is_mounted(&mount.point));
    }
    let mut mount = rig.mount("busy", &volume.url, &[], &[]);
    let open = File::open(mount.point.join("big")).expect("it opens");
    assert!(mount.process.terminate(PATIENCE).success());
    assert!(!is_mounted(&mount.point));
    drop(open);
    assert_eq!(left_behind(&rig), Vec::<String>::new());
}

#[test]
fn a_mount_whose_process_was_killed_is_cleaned_up() {
    let Some(rig) = Rig::new("killed") else { return };
    let volume = one_file(&rig, "train", 2);
    let mut mount = rig.mount("m", &volume.url, &[], &[]);
    let open = File::open(mount.point.join("big")).expect("it opens");
    mount.process.kill();
    assert!(is_mounted(&mount.point), "the kernel keeps a mount whose process is gone");
    let said = rig.refused(&mut rig.mount_command("m", &volume.url, &[], &[]).0);
    assert!(said.contains("shoal umount"), "{said}");
    rig.ok(rig.shoal().arg("umount").arg(&mount.point));
    assert!(!is_mounted(&mount.point));
    drop(open);
    let mount = rig.mount("m", &volume.url, &[], &[]);
    read_all(&mount, &volume.content);
}

#[test]
fn the_background_form_returns_once_it_serves_and_tells_why_it_does_not() {
    let Some(rig) = Rig::new("background") else { return };
    let volume = one_file(&rig, "train", 2);
    let (point, log) = (rig.mkdir("m"), rig.path("logs/mount.log"));
    let mount = |url: &str, at: &Path| {
        let mut command = rig.shoal();
        command.args(["mount", "-d", url]).arg(at).args(["--metrics", "none", "--log"]).arg(&log);
        command
    };
    let said = rig.ok(&mut mount(&volume.url, &point));
    assert!(said.contains(&point.display().to_string()) && said.contains("mount.log"), "{said}");
    same(&fs::read(point.join("big")).expect("it serves"), &volume.content, "big");
    let config = fs::read_to_string(point.join(".config")).expect("read");
    let config: serde_json::Value = serde_json::from_str(&config).expect("valid JSON");
    let pid = config["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32)).expect("its process");
    assert!(fs::metadata(&log).expect("the log is there").len() > 0);

    let said = rig.refused(&mut mount(&rig.url("missing"), &rig.mkdir("other")));
    assert!(said.contains("missing.db"), "{said}");
    let said = rig.refused(&mut mount(&volume.url, &point));
    assert!(said.contains("in use"), "{said}");
    let said = rig.refused(mount(&volume.url, &rig.path("other")).arg("--log-level=error").args(["-o", "ro,rw"]));
    assert!(said.contains("read-only"), "{said}");

    kill_process(pid, Signal::TERM).expect("its process runs");
    wait_until("the mount is gone", PATIENCE, || !is_mounted(&point));
    wait_until("its process is gone", PATIENCE, || left_behind(&rig).is_empty());
}
