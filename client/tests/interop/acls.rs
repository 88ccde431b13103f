//! POSIX ACLs set and inherited through our mount and through JuiceFS's: one volume, one answer.

use std::path::{Path, PathBuf};
use std::process::Command;

use shoal_testkit::{PATIENCE, have_command, skipped, wait_until};

use super::pair::{Keys, Pair, Recipe};
use crate::rig::Mount;
use crate::rig::oracle::OracleMount;

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// What is done in a directory; it ends the same through any client.
const STEPS: &str = r"
set -e
umask 027
mkdir d
setfacl -m u:1000:rwx,g:100:r-x,g:4000000:x d
setfacl -d -m u::rwx,u:1000:rwx,g::r-x,o::--- d
mkdir d/sub
touch d/sub/file
( umask 077; touch d/masked; mkdir d/hidden; mkfifo d/pipe )
( umask 0; touch d/open; mkdir -m 2711 d/shared; touch d/shared/inside )
touch x; chmod 644 x
setfacl -m u:7:rw,g::r x
chmod 640 x; chmod u+s x
cp -p x preserved
touch narrow; setfacl -m u:7:rwx,m::r narrow
touch emptied; setfacl -m u:7:rwx emptied; setfacl -b emptied
touch less; setfacl -m u:7:rwx,u:8:r,g:9:rw less; setfacl -x u:7 less
setfacl -k d/hidden; touch d/hidden/plain
setfacl -m d:u::rwx,d:g::r,d:o::- d/shared; touch d/shared/simple; mkdir d/shared/dir
mv d/sub/file moved
ln d/open second
chown 12:13 d/open
chmod 2775 d
rm d/masked; touch d/later
";

struct Both {
    pair: Pair,
    ours: Mount,
    theirs: OracleMount,
}

/// Kernel caches off: what one client does, the other shows at once.
const FRESH: &[&str] = &["--attr-cache", "0", "--entry-cache", "0", "--dir-entry-cache", "0"];

impl Both {
    fn new(name: &str, format: impl Fn(&Pair)) -> Option<Both> {
        if !have_command("setfacl") {
            skipped("setfacl is not installed (package acl): scripts/install-deps --test");
            return None;
        }
        let pair = Pair::new(name)?;
        format(&pair);
        let ours = pair.shoal_mount("ours", &[&["--writable"], FRESH].concat());
        let theirs = pair.juicefs_mount("theirs", FRESH);
        Some(Both { pair, ours, theirs })
    }

    fn roots(&self) -> [PathBuf; 2] {
        [self.ours.point.clone(), self.theirs.point.clone()]
    }

    fn end(self) {
        self.ours.unmount(&self.pair.rig);
        self.theirs.unmount(&self.pair.rig);
        self.pair.assert_fsck_is_clean();
    }
}

/// What a shell prints in `dir`; it must succeed.
#[track_caller]
fn shell(dir: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}\nfails in {}: {said}", dir.display());
    String::from_utf8(output.stdout).unwrap()
}

/// Modes and ACLs of everything below `dir`.
#[track_caller]
fn acls(dir: &Path) -> String {
    shell(dir, "find . -printf '%p %M %U %G\\n' | sort; find . ! -type l | sort | xargs getfacl -n -p")
}

/// What is done through either client shows the same through both, and is what the other client would have made of it.
fn both_make_the_same(both: &Both) {
    let [ours, theirs] = both.roots();
    for (root, name) in [(&ours, "by-us"), (&theirs, "by-them")] {
        std::fs::create_dir(root.join(name)).unwrap();
        shell(&root.join(name), STEPS);
    }
    let expected = acls(&theirs.join("by-them"));
    assert!(expected.contains("user:1000:rwx") && expected.contains("default:user:1000:rwx"), "{expected}");
    for (root, name) in [(&theirs, "by-us"), (&ours, "by-them"), (&ours, "by-us")] {
        let mut last = String::new();
        wait_until(&format!("{name} shows the same at {}", root.display()), PATIENCE, || {
            let seen = acls(&root.join(name));
            if seen != last && seen != expected {
                println!("expected\n{expected}\nseen at {}\n{seen}", root.join(name).display());
            }
            last = seen;
            last == expected
        });
    }
}

#[test]
fn acls_of_a_volume_made_by_juicefs_are_the_same_for_both() {
    let Some(both) = Both::new("acls-theirs", |pair| pair.juicefs_formats(&PLAIN, &["--enable-acl"])) else { return };
    both_make_the_same(&both);
    both.end();
}

#[test]
fn acls_of_a_volume_made_by_us_are_the_same_for_both() {
    let Some(both) = Both::new("acls-ours", |pair| pair.shoal_formats(&PLAIN, &["--enable-acl"])) else { return };
    both_make_the_same(&both);
    both.end();
}

#[test]
fn each_changes_what_the_other_set() {
    let Some(both) = Both::new("acls-turns", |pair| pair.juicefs_formats(&PLAIN, &["--enable-acl"])) else { return };
    let [ours, theirs] = both.roots();
    std::fs::create_dir(ours.join("d")).unwrap();
    let steps = [
        "setfacl -m u:1000:rwx,d:u:1000:rwx d",
        "touch d/f; setfacl -m g:5:rw d/f",
        "chmod 600 d/f",
        "setfacl -m u:1001:r d/f; setfacl -x g:5 d/f",
        "setfacl -m m::rwx d/f d",
        "setfacl -k d; touch d/g",
        "setfacl -b d d/f",
    ];
    for (step, command) in steps.iter().enumerate() {
        let (actor, other) = if step % 2 == 0 { (&ours, &theirs) } else { (&theirs, &ours) };
        shell(actor, command);
        let expected = acls(&actor.join("d"));
        wait_until(command, PATIENCE, || acls(&other.join("d")) == expected);
    }
    both.end();
}

#[test]
fn the_kernel_obeys_acls_on_our_mount() {
    let Some(both) = Both::new("acls-kernel", |pair| pair.juicefs_formats(&PLAIN, &["--enable-acl"])) else { return };
    let [ours, theirs] = both.roots();
    shell(
        &theirs,
        "mkdir d; chmod 700 d; setfacl -m u:1000:rwx,g:2000:rx d; echo text >d/f; chmod 600 d/f; setfacl -m g:2000:r d/f",
    );
    let may = |who: &str, what: &str| {
        let command = format!("setpriv {who} --clear-groups sh -c '{what}' 2>/dev/null");
        Command::new("sh").args(["-c", &command]).current_dir(&ours).status().unwrap().success()
    };
    wait_until("what JuiceFS set shows", PATIENCE, || may("--reuid=1000 --regid=1", "test -x d"));
    assert!(may("--reuid=1000 --regid=1", "touch d/g") && !may("--reuid=1000 --regid=1", "cat d/f"));
    assert!(may("--reuid=9 --regid=2000", "cat d/f") && !may("--reuid=9 --regid=2000", "touch d/h"));
    assert!(!may("--reuid=9 --regid=9", "cat d/f") && !may("--reuid=9 --regid=9", "ls d"));
    both.end();
}

#[test]
fn a_volume_without_acls_says_so() {
    let Some(both) = Both::new("acls-off", |pair| pair.juicefs_formats(&PLAIN, &[])) else { return };
    let [ours, _] = both.roots();
    std::fs::write(ours.join("f"), "").unwrap();
    let output = Command::new("setfacl").args(["-m", "u:7:rwx", "f"]).current_dir(&ours).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("not supported"), "{said}");
    both.end();
}
