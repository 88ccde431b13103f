//! A directory that both clients work in at once: who wins is free, but no answer may be one that no order of the operations gives.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};
use rustix::io::Errno;
use shoal_testkit::{Rng, seeded_bytes};

/// Few names, so that the clients meet.
const NAMES: u64 = 8;
const DIRECTORIES: u64 = 3;
/// Limits of the directory: inodes that both reach, and bytes that they do not.
pub const QUOTA: [&str; 4] = ["--inodes", "16", "--capacity", "1"];

/// What somebody who comes late, or finds the quota used up, is told.
const FREE: [Errno; 8] =
    [Errno::NOENT, Errno::EXIST, Errno::NOTEMPTY, Errno::ISDIR, Errno::NOTDIR, Errno::INVAL, Errno::DQUOT, Errno::PERM];

/// One client's part of it.
pub struct Racer {
    pub root: PathBuf,
    rng: Rng,
}

impl Racer {
    pub fn new(root: PathBuf, seed: u64) -> Racer {
        Racer { root, rng: Rng::new(seed) }
    }

    /// One operation whose outcome the other client may change.
    pub fn step(&mut self) -> io::Result<()> {
        match self.act() {
            Err(error) if FREE.iter().any(|free| error.raw_os_error() == Some(free.raw_os_error())) => Ok(()),
            done => done,
        }
    }

    fn directory(&mut self) -> PathBuf {
        self.root.join(format!("d{}", self.rng.below(DIRECTORIES)))
    }

    fn name(&mut self) -> PathBuf {
        let (is_deep, name) = (self.rng.chance(70), format!("f{}", self.rng.below(NAMES)));
        if is_deep { self.directory().join(name) } else { self.root.join(name) }
    }

    fn act(&mut self) -> io::Result<()> {
        let (path, other) = (self.name(), self.name());
        match self.rng.below(20) {
            0..5 => self.write(&path),
            5..7 => self.append(&path),
            7..9 => OpenOptions::new().write(true).open(&path)?.set_len(self.rng.below(200_000)),
            9..12 => fs::rename(&path, &other),
            12 => fs::hard_link(&path, &other),
            13 => Ok(lsetxattr(&path, "user.race", &self.rng.next_u64().to_le_bytes(), XattrFlags::empty())?),
            14 => fs::create_dir(self.directory()),
            15 => fs::remove_dir(self.directory()),
            16 => fs::rename(self.directory(), self.directory()),
            17 => list(&self.root),
            18 => fs::remove_file(&path),
            _ => fs::File::open(&path)?.read_to_end(&mut Vec::new()).map(drop),
        }
    }

    fn write(&mut self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(self.rng.chance(30)).open(path)?;
        let bytes = seeded_bytes(self.rng.next_u64(), 1 + self.rng.index(100_000));
        file.write_all_at(&bytes, self.rng.below(200_000))?;
        if self.rng.chance(30) { file.sync_all() } else { Ok(()) }
    }

    fn append(&mut self, path: &Path) -> io::Result<()> {
        let bytes = seeded_bytes(self.rng.next_u64(), 1 + self.rng.index(5_000));
        OpenOptions::new().append(true).open(path)?.write_all(&bytes)
    }
}

/// Looks at every name of a directory.
fn list(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        entry?.metadata()?;
    }
    Ok(())
}
