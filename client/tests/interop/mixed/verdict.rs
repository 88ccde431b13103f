//! What both clients say of a volume when the work is done: nothing.

use shoal_testkit::Snapshot;

use super::super::pair::{Pair, look};
use crate::rig::EngineKind;

impl Pair {
    /// Asserts that nobody finds anything wrong with the volume, which nobody has mounted.
    #[track_caller]
    pub fn assert_sound(&self) {
        let url = self.url();
        let ours = |words: &[&str]| self.rig.ok(self.rig.shoal().args(words));
        ours(&["fsck", &url]);
        ours(&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat"]);
        self.assert_fsck_is_clean();
        let said = self.juicefs(&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat"]);
        assert!(!said.contains("should be"), "JuiceFS finds wrong statistics:\n{said}");
        self.assert_gc_is_clean();
        let said = ours(&["gc", &url]);
        assert!(said.contains(" 0 leaked (0 bytes)") && said.contains(" 0 skipped (0 bytes)"), "gc finds:\n{said}");
    }

    /// Asserts that the use of a directory that only we changed, and of those in it, is what is there. (JuiceFS 1.4.2 counts after its
    /// transactions: what races, or is renamed at once, gets into other directories' statistics, or into none.)
    #[track_caller]
    pub fn assert_counted(&self, name: &str) {
        let path = format!("/{name}");
        self.rig.ok(self.rig.shoal().args(["fsck", &self.url(), "--path", &path, "--recursive", "--sync-dir-stat"]));
    }

    /// Counts the use of every directory anew, and what the quota of this one is charged with. All else must be right before.
    #[track_caller]
    pub fn count_anew(&self, directory: &str) {
        let url = self.url();
        self.rig.ok(self.rig.shoal().args(["fsck", &url]));
        self.rig.ok(self.rig.shoal().args(["fsck", &url, "--path", "/", "--recursive"]));
        for words in [
            &["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat", "--repair"][..],
            &["quota", "check", &url, "--path", directory, "--repair"],
        ] {
            // A check that found something fails, whatever it put right.
            self.rig.shoal().args(words).output().expect("shoal runs");
        }
    }

    /// Asserts that the quota of this directory is charged with what is there.
    #[track_caller]
    pub fn assert_quota_is_right(&self, directory: &str) {
        let words = ["quota", "check", &self.url(), "--path", directory];
        self.rig.ok(self.rig.shoal().args(words));
        self.juicefs(&words);
    }

    /// Asserts that a dump by either client loads in the other, in a database of another kind, with this tree.
    #[track_caller]
    pub fn assert_dumps_load(&self, other: EngineKind, seen: &Snapshot) {
        let url = self.url();
        let Some(loaded) = self.fresh_url(other, "by-ours") else { return };
        self.juicefs(&["dump", &url, "theirs.json", "--keep-secret-key"]);
        self.rig.ok(self.rig.shoal().args(["load", &loaded, "theirs.json"]));
        let mount = self.rig.oracle_mount(&self.juicefs, "loaded-by-ours", &loaded, &[]);
        seen.assert_same(&look(&mount.point), "what JuiceFS dumped and ours loaded");
        mount.unmount(&self.rig);

        let Some(loaded) = self.fresh_url(other, "by-theirs") else { return };
        self.rig.ok(self.rig.shoal().args(["dump", &url, "ours.json.gz", "--keep-secret-key"]));
        self.juicefs(&["load", &loaded, "ours.json.gz"]);
        let mount = self.rig.mount("loaded-by-theirs", &loaded, &[], &[]);
        seen.assert_same(&look(&mount.point), "what ours dumped and JuiceFS loaded");
        mount.unmount(&self.rig);
    }
}
