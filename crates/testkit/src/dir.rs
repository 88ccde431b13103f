//! Temporary directories that clean up after themselves, mounts included.

use std::path::{Path, PathBuf};

use crate::mounts;

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
        TestDir::inside(Path::new("/var/tmp"), name)
    }

    /// A directory inside `parent`.
    pub fn inside(parent: &Path, name: &str) -> TestDir {
        let made = tempfile::Builder::new().prefix(&format!("shoal-{name}-")).tempdir_in(parent);
        let inner = made.unwrap_or_else(|error| panic!("cannot make a directory in {}: {error}", parent.display()));
        let path = inner.path().canonicalize().expect("a directory just made has a canonical path");
        TestDir { inner: Some(inner), path }
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
}
