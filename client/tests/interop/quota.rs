//! Quotas: what one client sets and counts, the other shows, keeps and finds right.

use std::process::{Command, Output};

use super::pair::{Keys, Pair, Recipe};

/// Mounts for writing.
const WRITABLE: &[&str] = &["--writable"];

const PLAIN: Recipe = Recipe { compress: "none", cipher: None, keys: Keys::Plain, block_size: "64K" };

/// Runs a shell command as user and group `id`.
fn shell_as(id: u32, script: &str) -> Output {
    let id = id.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "sh", "-c", script]);
    command.output().expect("setpriv runs")
}

#[track_caller]
fn works(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn exceeds(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("quota exceeded"), "{said}");
}

impl Pair {
    fn shoal_quota(&self, words: &[&str]) -> String {
        let (action, flags) = words.split_first().expect("an action");
        self.rig.ok(self.rig.shoal().args(["quota", action, &self.url()]).args(flags))
    }

    /// The lines of its table.
    fn juicefs_quota(&self, words: &[&str]) -> String {
        let (action, flags) = words.split_first().expect("an action");
        let said = self.juicefs(&[&["quota", action, &self.url()], flags].concat());
        let framed = |line: &&str| line.starts_with(['+', '|']);
        let lines = said.lines().map(|line| line.trim_start_matches("stdout: ")).filter(framed);
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// Both clients say the same about every quota of these.
    fn both_say(&self, subjects: &[&[&str]]) {
        for subject in subjects {
            let words = [&["get"], *subject].concat();
            let (theirs, ours) = (self.juicefs_quota(&words), self.shoal_quota(&words));
            assert_eq!(ours, theirs, "{subject:?}");
            assert!(ours.contains('%'), "no limits of {subject:?}: {ours}");
        }
        assert_eq!(self.shoal_quota(&["list"]), self.juicefs_quota(&["list"]));
        self.juicefs_quota(&["check"]);
        self.shoal_quota(&["check"]);
    }
}

const SUBJECTS: [&[&str]; 3] = [&["--path", "/d"], &["--uid", "1010"], &["--gid", "1011"]];

/// Two users work below `point` until they are refused.
fn use_up(point: &std::path::Path) {
    let at = |words: &str| words.replace('@', &point.display().to_string());
    works(&shell_as(1010, &at("cd @/d && touch 1 && ln 1 1b && touch 2 && head -c 5000 /dev/zero >1")));
    exceeds(&shell_as(1010, &at("mkdir @/d/3")));
    works(&shell_as(1011, &at("mkdir @/e/x && head -c 30000 /dev/zero >@/e/x/f")));
    exceeds(&shell_as(1011, &at("head -c 70000 /dev/zero >@/e/x/g")));
    works(&shell_as(1012, &at("touch @/d/4")));
    exceeds(&shell_as(1012, &at("touch @/d/5")));
    // Who owns it pays for it, not who writes; and nobody is kept from giving.
    works(&shell_as(0, &at("touch @/e/given && chown 1010:1012 @/e/given")));
    works(&shell_as(1010, &at("rm @/d/2")));
}

#[test]
fn quotas_set_by_ours_are_kept_by_ours_and_found_right_by_juicefs() {
    let Some(pair) = Pair::new("quota") else { return };
    pair.shoal_formats(&PLAIN, &["--trash-days", "0"]);
    for words in [
        &["set", "--path", "/d", "--create", "--inodes", "4"][..],
        &["set", "--path", "e", "--create", "--capacity", "1"],
        &["set", "--uid", "1010", "--inodes", "2"],
        &["set", "--gid", "1011", "--capacity", "64K"],
    ] {
        pair.shoal_quota(words);
    }
    let mount = pair.rig.mount("ours", &pair.url(), &[], WRITABLE);
    works(&shell_as(0, &format!("chmod 777 {0}/d {0}/e", mount.point.display())));
    use_up(&mount.point);
    mount.unmount(&pair.rig);
    pair.both_say(&SUBJECTS);
    for subject in SUBJECTS {
        pair.shoal_quota(&[&["delete"], subject].concat());
        let words = [&["get"], subject].concat();
        assert_eq!(pair.shoal_quota(&words), pair.juicefs_quota(&words));
    }
}

#[test]
fn quotas_set_and_counted_by_juicefs_are_kept_by_ours() {
    let Some(pair) = Pair::new("quota") else { return };
    pair.juicefs_formats(&PLAIN, &["--trash-days", "0"]);
    for words in [
        &["set", "--path", "/d", "--create", "--inodes", "4"][..],
        &["set", "--path", "/e", "--create"],
        &["set", "--uid", "1010", "--inodes", "2"],
        &["set", "--gid", "1011", "--capacity", "64K"],
    ] {
        pair.juicefs_quota(words);
    }
    let theirs = pair.rig.oracle_mount(&pair.juicefs, "theirs", &pair.url(), &[]);
    works(&shell_as(0, &format!("chmod 777 {0}/d {0}/e", theirs.point.display())));
    use_up(&theirs.point);
    theirs.unmount(&pair.rig);
    pair.both_say(&SUBJECTS);
    let ours = pair.rig.mount("ours", &pair.url(), &[], WRITABLE);
    works(&shell_as(0, &format!("cd {} && rm -r d/* e/*", ours.point.display())));
    use_up(&ours.point);
    ours.unmount(&pair.rig);
    pair.both_say(&SUBJECTS);
}
