//! Users that count as another one: `--root-squash` and `--all-squash`, as with JuiceFS.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use super::pair::{Keys, Pair, Recipe};

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// Whom squashed users count as, and an ordinary user.
const NOBODY: u32 = 65_534;
const USER: u32 = 1000;

/// What squash.py tries its hand at.
fn targets(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let made = |name: &str, mode: u32, uid: u32, gid: u32| {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(mode)).unwrap();
        chown(dir.join(name), Some(uid), Some(gid)).unwrap();
    };
    for (name, mode, uid, gid) in [
        ("private", 0o700, 0, 0),
        ("roots", 0o755, 0, 0),
        ("group", 0o770, 0, NOBODY),
        ("nobodys", 0o755, NOBODY, NOBODY),
        ("open", 0o777, 0, 0),
        ("sticky", 0o1777, 0, 0),
    ] {
        fs::create_dir(dir.join(name)).unwrap();
        made(name, mode, uid, gid);
    }
    for (name, mode, uid) in [
        ("private/file", 0o644, 0),
        ("roots/file", 0o644, 0),
        ("roots/secret", 0o600, 0),
        ("roots/program", 0o755, 0),
        ("nobodys/file", 0o644, NOBODY),
        ("sticky/roots", 0o644, 0),
        ("sticky/nobodys", 0o644, NOBODY),
        ("sticky/users", 0o644, USER),
    ] {
        fs::write(dir.join(name), "#!/bin/sh\n").unwrap();
        made(name, mode, uid, uid);
    }
}

/// Every name below `dir` with mode, owner, group and size.
fn owners(dir: &Path) -> Vec<(String, u32, u32, u32, u64)> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(&next).unwrap().flatten() {
            let attr = entry.metadata().unwrap();
            let name = entry.path().strip_prefix(dir).unwrap().display().to_string();
            found.push((name, attr.mode(), attr.uid(), attr.gid(), attr.len()));
            if attr.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Where JuiceFS is not like Linux: access(2) is always allowed, and a sticky directory says EACCES.
fn juicefs_differs(line: &str) -> bool {
    line.starts_with("may ") || line.ends_with("in sticky - EPERM")
}

#[test]
fn squashed_users_may_what_the_other_one_may() {
    let Some(pair) = Pair::new("squash") else { return };
    pair.shoal_formats(&PLAIN, &["--trash-days", "0"]);
    // Users that are nobody to the rig's directory get to the mounts in it.
    pair.rig.ok(Command::new("chmod").arg("755").arg(pair.rig.path("")));
    let plain = pair.fresh("plain");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/squash.py");
    let nobody = format!("{NOBODY}:{NOBODY}");
    let caches = ["--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"];
    for flag in ["--root-squash", "--all-squash"] {
        let flags = [&caches[..], &[flag, &nobody]].concat();
        let ours = pair.shoal_mount("ours", &[&["--writable"], &flags[..]].concat());
        let theirs = pair.juicefs_mount("theirs", &[&flags[..], &["-o", "allow_other"]].concat());
        for (who, gid) in [(0, 0), (USER, USER), (USER, NOBODY)] {
            let [ours, theirs] = [("ours", &ours.point), ("theirs", &theirs.point)].map(|(name, root)| {
                targets(&plain.point.join(name));
                let (who, gid) = (who.to_string(), gid.to_string());
                let said = pair.rig.ok(Command::new("python3").arg(&script).arg(root.join(name)).args([&who, &gid]));
                let left = owners(&plain.point.join(name));
                fs::remove_dir_all(plain.point.join(name)).unwrap();
                (said, left)
            });
            let differ = ours.0.lines().zip(theirs.0.lines()).filter(|(ours, theirs)| ours != theirs);
            let differ: Vec<_> = differ.filter(|(ours, _)| !juicefs_differs(ours)).collect();
            assert_eq!(differ, [], "{flag}: ours and theirs, as user {who} of group {gid}");
            assert_eq!(ours.1, theirs.1, "{flag}: what user {who} left");
            assert!(ours.0.contains("create in open - done"), "{}", ours.0);
            assert!(
                ours.0.contains("may read secret - EACCES") && ours.0.contains("\nread secret - EACCES"),
                "{}",
                ours.0
            );
        }
        theirs.unmount(&pair.rig);
        ours.unmount(&pair.rig);
    }
    plain.unmount(&pair.rig);
    pair.assert_fsck_is_clean();
}

#[test]
fn users_are_not_squashed_where_the_kernel_checks_acls() {
    let Some(pair) = Pair::new("squash-acl") else { return };
    pair.shoal_formats(&PLAIN, &["--enable-acl"]);
    let flags = ["--writable", "--root-squash", "65534:65534"];
    let (mut refused, _) = pair.rig.mount_command("refused", &pair.url(), &[], &flags);
    let said = pair.rig.refused(&mut refused);
    assert!(said.contains("--root-squash") && said.contains("ACL"), "{said}");
}
