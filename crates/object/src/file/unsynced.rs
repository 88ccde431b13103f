//! Files that a loss of power could still take, until somebody asks that it cannot.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// So many files are synced one by one; more cost less with the whole file system: one commit of its journal.
const SINGLY_MAX: usize = 16;

/// What was put since the last sync. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsynced {
    files: Arc<Mutex<Files>>,
    /// Held while files are synced: who finds none has to wait for those under way.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Files {
    /// At most [`SINGLY_MAX`].
    some: Vec<PathBuf>,
    /// There are more.
    more: bool,
}

impl Unsynced {
    /// A file that was written, under its final name.
    pub(super) fn add(&self, file: PathBuf) {
        let mut files = self.files.lock();
        if files.some.len() < SINGLY_MAX {
            files.some.push(file);
        } else {
            files.more = true;
        }
    }

    /// Returns once every file added before is durable, its name too. Blocks for as long as the disk does.
    ///
    /// After an error they count as unsynced again; the kernel tells a failed write of a file only once, though.
    pub(super) fn sync(&self, root: &Path) -> io::Result<()> {
        let _turn = self.turn.lock();
        let files = std::mem::take(&mut *self.files.lock());
        let synced = if files.more { sync_file_system(root) } else { sync_singly(&files.some) };
        if synced.is_err() {
            self.files.lock().more |= files.more;
            files.some.into_iter().for_each(|file| self.add(file));
        }
        synced
    }
}

fn sync_singly(files: &[PathBuf]) -> io::Result<()> {
    for file in files {
        match File::open(file) {
            // Deleted meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => opened?.sync_data()?,
        }
    }
    let mut directories: Vec<_> = files.iter().filter_map(|file| file.parent()).collect();
    directories.sort_unstable();
    directories.dedup();
    directories.into_iter().try_for_each(sync_dir)
}

fn sync_file_system(root: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(root)?)?)
}

/// Makes the directory's names durable. File systems without that notion (some FUSE, SMB) say `Unsupported` or EINVAL.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(()),
        // Nothing was left in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use shoal_testkit::TestDir;

    use super::*;

    #[test]
    fn files_are_kept_until_they_are_synced() {
        let dir = TestDir::new("unsynced");
        let unsynced = Unsynced::default();
        let add = |n: usize| {
            let path = dir.join(format!("{n}"));
            std::fs::write(&path, "x").unwrap();
            unsynced.add(path);
        };
        let state = || {
            let files = unsynced.files.lock();
            (files.some.len(), files.more)
        };
        (0..SINGLY_MAX).for_each(add);
        assert_eq!(state(), (SINGLY_MAX, false));
        std::fs::remove_file(dir.join("3")).unwrap();
        unsynced.sync(dir.path()).unwrap();
        assert_eq!(state(), (0, false), "one that is gone is none");
        (0..=SINGLY_MAX).for_each(add);
        assert_eq!(state(), (SINGLY_MAX, true));
        unsynced.sync(&dir.join("no root")).unwrap_err();
        assert_eq!(state(), (SINGLY_MAX, true), "what failed is tried again");
        unsynced.sync(dir.path()).unwrap();
        assert_eq!(state(), (0, false));
    }
}
