//! The demo's data: which directory, and what every file in it holds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, bail, ensure};
use shoal_runtime::shutdown::Shutdown;

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// The Rust toolchain's own directory if there is one: some fifty thousand small files and a few large ones. Else /usr/share.
pub(crate) fn default_source() -> anyhow::Result<PathBuf> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    if let Ok(output) = sysroot
        && output.status.success()
    {
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if path.is_dir() {
            return Ok(path);
        }
    }
    let share = PathBuf::from("/usr/share");
    ensure!(share.is_dir(), "no data: name a directory with --data DIR");
    Ok(share)
}

/// Every regular file below a directory, and the hash of its content.
#[derive(Default)]
pub(crate) struct Expected {
    hashes: BTreeMap<PathBuf, blake3::Hash>,
    /// Bytes of all files.
    pub bytes: u64,
}

impl Expected {
    /// Number of files.
    pub(crate) fn files(&self) -> usize {
        self.hashes.len()
    }

    /// Refuses any difference by name.
    pub(crate) fn compare(&self, other: &Expected) -> anyhow::Result<()> {
        for (path, hash) in &self.hashes {
            match other.hashes.get(path) {
                None => bail!("{} is missing", path.display()),
                Some(found) if found != hash => bail!("{} has other bytes", path.display()),
                Some(_) => {}
            }
        }
        match other.hashes.keys().find(|path| !self.hashes.contains_key(*path)) {
            Some(path) => bail!("{} is not in the source", path.display()),
            None => Ok(()),
        }
    }
}

/// Reads every file below `root` with `readers` threads.
pub(crate) fn hash_tree(root: &Path, readers: usize, shutdown: &Shutdown) -> anyhow::Result<Expected> {
    let mut files = Vec::new();
    list(root, &mut files)?;
    let queue = Mutex::new(files.into_iter());
    let done = Mutex::new(Expected::default());
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            let mut buffer = vec![0; BUFFER];
            while let Some(path) = next(&queue) {
                ensure!(!shutdown.is_triggered(), "stopped");
                let (hash, bytes) =
                    hash_file(&path, &mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
                let name = path.strip_prefix(root)?.to_owned();
                let mut done = done.lock().expect("no reader panics while it holds the result");
                done.hashes.insert(name, hash);
                done.bytes += bytes;
            }
            Ok(())
        };
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(work)).collect();
        readers.into_iter().try_for_each(|reader| reader.join().expect("readers do not panic"))
    })?;
    Ok(done.into_inner().expect("no reader panics while it holds the result"))
}

fn next(queue: &Mutex<std::vec::IntoIter<PathBuf>>) -> Option<PathBuf> {
    queue.lock().expect("no reader panics while it holds the queue").next()
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn hash_file(path: &Path, buffer: &mut [u8]) -> std::io::Result<(blake3::Hash, u64)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes) = (blake3::Hasher::new(), 0);
    loop {
        let read = file.read(buffer)?;
        if read == 0 {
            return Ok((hasher.finalize(), bytes));
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_missing_and_an_extra_file_are_named() {
        let (one, two) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let write = |dir: &Path, name: &str, text: &str| std::fs::write(dir.join(name), text).expect("written");
        write(one.path(), "a", "same");
        write(two.path(), "a", "same");
        let hash = |dir: &Path| hash_tree(dir, 2, &Shutdown::new()).expect("hashed");
        assert!(hash(one.path()).compare(&hash(two.path())).is_ok());
        write(two.path(), "b", "extra");
        assert!(hash(one.path()).compare(&hash(two.path())).expect_err("differs").to_string().contains("b is not in"));
        assert!(hash(two.path()).compare(&hash(one.path())).expect_err("differs").to_string().contains("b is missing"));
        write(one.path(), "b", "other");
        assert!(hash(one.path()).compare(&hash(two.path())).expect_err("differs").to_string().contains("other bytes"));
    }
}
