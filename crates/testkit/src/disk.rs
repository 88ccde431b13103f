//! A disk that can lose its power: a file system on a loop device that forgets what was not synced.

use std::path::PathBuf;
use std::process::Command;

use crate::dir::TestDir;
use crate::probe::{have_command, have_root, skipped};

/// `EXT4_IOC_SHUTDOWN` without a flush of its log: nothing more reaches the device.
const CUT: &str = "import fcntl, os, struct, sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), 0x8004587D, struct.pack('I', 2))";

/// A small ext4 file system of its own, mounted. Gone when dropped.
pub struct Disk {
    dir: TestDir,
}

impl Disk {
    /// A new one. `None`, and a loud word, on a machine where none can be made.
    pub fn new() -> Option<Disk> {
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

    /// Mounts it; a new one is mounted.
    pub fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.dir.join("image")).arg(self.root()));
    }

    /// Unmounts it; nothing on it may be open.
    pub fn unmount(&self) {
        run(Command::new("umount").arg(self.root()));
    }

    /// Where it is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// From now on nothing reaches it; what was not synced before is gone once it was unmounted and mounted.
    pub fn lose_power(&self) {
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
