//! A loss of power under the metadata and the objects of a mount that is at work.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};

use shoal_testkit::{Disk, seeded_bytes};

use super::bed::{Bed, SMALL_BLOCKS, VOLUME};
use crate::rig::Rig;

#[test]
fn what_fsync_promised_outlives_a_loss_of_power() {
    let (Some(disk), Some(rig)) = (Disk::new(), Rig::new("power")) else { return };
    let url = format!("sqlite3://{}", disk.root().join("v.db").display());
    fs::create_dir(disk.root().join("objects")).unwrap();
    symlink(disk.root().join("objects"), rig.path(format!("{VOLUME}-objects"))).unwrap();
    let mut bed = Bed::on(rig, &url, &SMALL_BLOCKS, &[]);
    let content = seeded_bytes(1, 700_000);
    let mut file = File::create_new(bed.path("file")).unwrap();
    file.write_all(&content).unwrap();
    file.sync_all().unwrap();
    let dir = bed.mkdir("dir");
    drop(File::create_new(dir.join("empty")).unwrap());
    File::open(&dir).unwrap().sync_all().unwrap();
    // Synced, and replaced by a compaction that nobody asked to sync.
    let mut compacted = seeded_bytes(2, 300_000);
    fs::write(bed.path("compacted"), &compacted).unwrap();
    for n in 0..4 {
        let (file, at) = (File::options().write(true).open(bed.path("compacted")).unwrap(), n * 70_000);
        file.write_all_at(&content[..1000], at as u64).unwrap();
        file.sync_all().unwrap();
        compacted[at..at + 1000].copy_from_slice(&content[..1000]);
    }
    let said = bed.run(bed.rig.shoal().arg("compact").arg(bed.path("compacted")));
    assert!(said.contains("Compacted 1 chunks"), "{said}");
    disk.lose_power();
    bed.mount.process.kill();
    disk.unmount();
    disk.mount();

    let again = bed.rig.mount("again", &url, &[], &[]);
    assert_eq!(fs::read(again.point.join("file")).unwrap(), content);
    assert_eq!(fs::read(again.point.join("compacted")).unwrap(), compacted);
    assert!(again.point.join("dir/empty").exists());
    again.unmount(&bed.rig);
    disk.unmount();
}
