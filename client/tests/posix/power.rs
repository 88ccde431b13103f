//! A loss of power under the metadata of a mount that is at work.

use std::fs::{self, File};
use std::io::Write;

use shoal_testkit::{Disk, seeded_bytes};

use super::bed::{Bed, SMALL_BLOCKS};
use crate::rig::Rig;

#[test]
fn what_fsync_promised_outlives_a_loss_of_power() {
    let (Some(disk), Some(rig)) = (Disk::new(), Rig::new("power")) else { return };
    let url = format!("sqlite3://{}", disk.root().join("v.db").display());
    let mut bed = Bed::on(rig, &url, &SMALL_BLOCKS, &[]);
    let content = seeded_bytes(1, 700_000);
    let mut file = File::create_new(bed.path("file")).unwrap();
    file.write_all(&content).unwrap();
    file.sync_all().unwrap();
    let dir = bed.mkdir("dir");
    drop(File::create_new(dir.join("empty")).unwrap());
    File::open(&dir).unwrap().sync_all().unwrap();
    disk.lose_power();
    bed.mount.process.kill();
    disk.unmount();
    disk.mount();

    let again = bed.rig.mount("again", &url, &[], &[]);
    assert_eq!(fs::read(again.point.join("file")).unwrap(), content);
    assert!(again.point.join("dir/empty").exists());
    again.unmount(&bed.rig);
    disk.unmount();
}
