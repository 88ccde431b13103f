//! Tiers: both clients show the same ones, and what ours moves or makes has the tier that JuiceFS reads.

use shoal_testkit::seeded_bytes;

use super::pair::{Keys, Pair, Recipe};
use crate::rig::mount::read;

/// Mounts for writing.
const WRITABLE: &[&str] = &["--writable"];

const PLAIN: Recipe = Recipe { compress: "lz4", cipher: None, keys: Keys::Plain, block_size: "64K" };

impl Pair {
    /// How many inodes JuiceFS says have `tier`.
    fn of_tier(&self, tier: u8) -> usize {
        let said = self.juicefs(&["dump", &self.url()]);
        said.matches(&format!("\"tier\":{tier}")).count() + said.matches(&format!("\"tier\": {tier}")).count()
    }
}

#[test]
fn files_move_between_tiers_and_new_ones_inherit_them() {
    let Some(pair) = Pair::new("tier") else { return };
    pair.shoal_formats(&PLAIN, &["--trash-days", "0"]);
    let url = pair.url();
    let shoal = |words: &[&str]| pair.rig.ok(pair.rig.shoal().args(words));
    shoal(&["config", &url, "--tier", "1", "--storage-class", "GLACIER"]);
    let theirs = pair.juicefs(&["tier", "list", &url]);
    for line in shoal(&["tier", "list", &url]).lines() {
        assert!(theirs.contains(line), "{line} is not in {theirs}");
    }
    let data = seeded_bytes(7, 300_000);
    let mount = pair.rig.mount("first", &url, &[], WRITABLE);
    std::fs::create_dir_all(mount.point.join("d/sub")).unwrap();
    std::fs::write(mount.point.join("d/old"), &data).unwrap();
    std::fs::write(mount.point.join("d/sub/old"), &data).unwrap();
    mount.unmount(&pair.rig);
    assert_eq!(pair.of_tier(1), 0);

    shoal(&["tier", "set", &url, "/d", "--tier", "1"]);
    assert_eq!(pair.of_tier(1), 1, "the directory alone");
    shoal(&["tier", "set", &url, "/d", "--tier", "1", "-r"]);
    assert_eq!(pair.of_tier(1), 4);
    let mount = pair.rig.mount("second", &url, &[], WRITABLE);
    std::fs::write(mount.point.join("d/new"), &data).unwrap();
    std::fs::write(mount.point.join("outside"), &data).unwrap();
    mount.unmount(&pair.rig);
    assert_eq!(pair.of_tier(1), 5, "a new file has its directory's");
    shoal(&["tier", "set", &url, "/d/new"]);
    assert_eq!(pair.of_tier(1), 4, "back to the default");

    let theirs = pair.rig.oracle_mount(&pair.juicefs, "theirs", &url, &["--read-only"]);
    for name in ["d/old", "d/sub/old", "d/new", "outside"] {
        assert!(read(&theirs.point.join(name)) == data, "{name}");
    }
    theirs.unmount(&pair.rig);
    pair.rig.refused(pair.rig.shoal().args(["tier", "set", &url, "/d", "--tier", "2"]));
    pair.rig.refused(pair.rig.shoal().args(["tier", "set", &url, "/nothing", "--tier", "1"]));
}
