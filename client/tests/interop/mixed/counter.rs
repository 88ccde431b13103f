//! Numbers in files that both clients count up, each under a lock: none is lost.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock, flock};

/// Which lock guards a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    Flock,
    Fcntl,
}

impl Guard {
    pub const ALL: [Guard; 2] = [Guard::Flock, Guard::Fcntl];

    /// Path of its counter below `root`.
    pub fn path(self, root: &Path) -> PathBuf {
        root.join(match self {
            Guard::Flock => "counter-flock",
            Guard::Fcntl => "counter-fcntl",
        })
    }

    /// Adds one to the counter below `root`, which waits for whoever does so now.
    pub fn count_up(self, root: &Path) -> io::Result<()> {
        let lock = open(&self.path(root))?;
        match self {
            Guard::Flock => flock(&lock, FlockOperation::LockExclusive)?,
            Guard::Fcntl => fcntl_lock(&lock, FlockOperation::LockExclusive)?,
        }
        // JuiceFS looks at a file anew when it is opened, not when it is locked.
        let file = open(&self.path(root))?;
        let number = value(&file)?;
        file.write_all_at(&(number + 1).to_le_bytes(), 0)?;
        file.sync_all()?;
        // In this order: with fcntl(2) any close gives the lock back.
        drop(file);
        drop(lock);
        Ok(())
    }

    /// What the counter below `root` says.
    pub fn read(self, root: &Path) -> u64 {
        let path = self.path(root);
        File::open(&path).and_then(|file| value(&file)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn value(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(u64::from_le_bytes(bytes))
}
