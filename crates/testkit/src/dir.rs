//! Temporary directories that clean up after themselves, mounts included.

use std::path::{Path, PathBuf};

use crate::mounts;

/// Where a disk is, rather than memory.
const DISK: &str = "/var/tmp";

/// A fresh directory, removed on drop after every mount inside it is detached. `SHOAL_TEST_KEEP=1` keeps it for a look.
#[derive(Debug)]
pub struct TestDir {
    /// Some until drop.
    inner: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl TestDir {
    /// A directory in the system's temporary directory, whose name contains `name`.
    pub fn new(name: &str) -> TestDir {
        TestDir::inside(&std::env::temp_dir(), name)
    }

    /// A directory on a disk (`/var/tmp`), for what a RAM disk may lack: `O_DIRECT`, user xattrs, much space.
    pub fn on_disk(name: &str) -> TestDir {
        TestDir::inside(Path::new(DISK), name)
    }

    /// A directory inside `parent`.
    pub fn inside(parent: &Path, name: &str) -> TestDir {
        let made = tempfile::Builder::new().prefix(&format!("shoal-{name}-")).tempdir_in(parent);
        let inner = made.unwrap_or_else(|error| panic!("cannot make a directory in {}: {error}", parent.display()));
        let path = inner.path().canonicalize().expect("a directory just made has a canonical path");
        TestDir { inner: Some(inner), path }
    }

    /// A directory on a disk whose name also tells which process made it, and the end of those of this name that killed
    /// processes left: mounts in them are detached, then they are removed.
    pub fn swept(name: &str) -> TestDir {
        let prefix = format!("shoal-{name}-of-");
        for entry in std::fs::read_dir(DISK).into_iter().flatten().flatten() {
            let found = entry.file_name();
            let maker = found.to_str().and_then(|found| found.strip_prefix(&prefix)?.split('-').next());
            let is_dead = maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists());
            if is_dead && mounts::detach_below(&entry.path()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        TestDir::on_disk(&format!("{name}-of-{}", std::process::id()))
    }

    /// The directory's canonical path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `name` inside the directory; nothing is made.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// A new directory `name` inside.
    pub fn mkdir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        path
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        if std::env::var_os("SHOAL_TEST_KEEP").is_some() {
            eprintln!("kept {}", inner.keep().display());
        } else if !mounts::detach_below(&self.path) {
            // Removing it would delete what is mounted there.
            eprintln!("left {}: something is still mounted inside", inner.keep().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_lives_as_long_as_the_guard() {
        let dir = TestDir::new("dir");
        let path = dir.mkdir("a/b");
        assert!(path.starts_with(dir.path()) && path.is_dir());
        let root = dir.path().to_owned();
        drop(dir);
        assert!(!root.exists());
    }

    #[test]
    fn what_a_dead_process_left_is_swept_and_what_a_living_one_uses_is_not() {
        let left = Path::new(DISK).join("shoal-sweep-test-of-999999999-x");
        std::fs::create_dir_all(left.join("deep")).unwrap();
        let first = TestDir::swept("sweep-test");
        assert!(!left.exists());
        let _second = TestDir::swept("sweep-test");
        assert!(first.path().is_dir());
    }
}
