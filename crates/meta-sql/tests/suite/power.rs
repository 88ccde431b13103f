//! A loss of power under a SQLite database: a file system on a loop device that forgets what was not synced.

use std::path::Path;
use std::process::Command;

use shoal_format::{FileType, Ino};
use shoal_meta::Meta;
use shoal_meta::testing::sample::{attr, settings};
use shoal_meta_sql::{OpenMode, open};
use shoal_testkit::{TestDir, have_command, have_root, skipped};

/// `EXT4_IOC_SHUTDOWN` without a flush of its log: nothing more reaches the device.
const CUT: &str = "import fcntl, os, struct, sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), 0x8004587D, struct.pack('I', 2))";

/// A small disk of its own, mounted.
struct Disk {
    dir: TestDir,
}

impl Disk {
    fn new() -> Option<Disk> {
        if !have_root() || !have_command("mkfs.ext4") || !have_command("python3") {
            skipped("needs root, mkfs.ext4 and python3");
            return None;
        }
        let disk = Disk { dir: TestDir::on_disk("power") };
        std::fs::File::create(disk.dir.join("image")).and_then(|file| file.set_len(64 << 20)).expect("an image");
        run(Command::new("mkfs.ext4").arg("-q").arg(disk.dir.join("image")));
        disk.dir.mkdir("mnt");
        disk.mount();
        Some(disk)
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.dir.join("image")).arg(self.root()));
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(self.root()));
    }

    fn root(&self) -> std::path::PathBuf {
        self.dir.join("mnt")
    }

    fn lose_power(&self) {
        run(Command::new("python3").args(["-c", CUT]).arg(self.root()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, for a failed test may have files open.
        Command::new("umount").arg("-l").arg(self.root()).output().ok();
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn url(root: &Path) -> String {
    format!("sqlite3://{}", root.join("v.db").display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_synced_outlives_a_loss_of_power() {
    let Some(disk) = Disk::new() else { return };
    let url = url(&disk.root());
    let engine = open(&url, OpenMode::Create).await.unwrap();
    let meta = Meta::new(engine.clone());
    meta.init(&settings(), false).await.unwrap();
    let create = async |ino: u64| {
        let txn = engine.begin().await.unwrap();
        txn.insert_attrs(&[(Ino(ino), attr(FileType::Regular, 0o600))]).await.unwrap();
        txn.commit().await.unwrap();
    };
    create(50).await;
    meta.sync().await.unwrap();
    // Long enough for the log to be copied into the database and begun anew.
    for ino in 100..3000 {
        create(ino).await;
    }
    meta.sync().await.unwrap();
    create(60).await;
    disk.lose_power();
    meta.close().await;
    drop((meta, engine));
    disk.unmount();
    disk.mount();

    let engine = open(&url, OpenMode::ReadWrite).await.unwrap();
    let inos: Vec<Ino> = std::iter::once(50).chain(100..3000).map(Ino).collect();
    let found = engine.records().attrs(&inos).await.unwrap();
    let lost = inos.iter().zip(&found).filter(|(_, attr)| attr.is_none()).count();
    assert_eq!(lost, 0, "of {} synced inodes", inos.len());
    engine.close().await;
    disk.unmount();
}
