//! What mdtest does: empty files of each thread in a directory of its own.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::client::{Client, Log};
use crate::sample::Sample;

/// Longer than either client lets the kernel trust a name or an attribute, so that the client is asked.
const FORGOTTEN: Duration = Duration::from_millis(1200);

/// A tree of empty files.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Threads, each with a directory.
    pub threads: usize,
    /// Files of each.
    pub each: usize,
}

impl Names {
    /// Makes as many empty directories.
    pub fn mkdir(&self, client: &Client) -> anyhow::Result<Sample> {
        self.make_homes(client)?;
        self.each(client, |home, number| fs::create_dir(home.join(format!("d{number}"))))
    }

    /// Makes the files: open, close.
    pub fn create(&self, client: &Client) -> anyhow::Result<Sample> {
        self.make_homes(client)?;
        self.each(client, |home, number| File::create_new(home.join(format!("f{number}"))))
    }

    /// Asks for the attributes of each by its path.
    pub fn stat(&self, client: &Client) -> anyhow::Result<Sample> {
        outlive_caches();
        self.each(client, |home, number| fs::symlink_metadata(home.join(format!("f{number}"))))
    }

    /// Lists each directory ten times; an operation is one listing.
    pub fn readdir(&self, client: &Client) -> anyhow::Result<Sample> {
        self.listings(client, 10, Ok)
    }

    /// The same with the attributes of every entry, as `ls -l` does.
    pub fn list(&self, client: &Client) -> anyhow::Result<Sample> {
        outlive_caches();
        self.listings(client, 1, |entry| entry.metadata())
    }

    /// Renames each within its directory.
    pub fn rename(&self, client: &Client) -> anyhow::Result<Sample> {
        self.each(client, |home, number| fs::rename(home.join(format!("f{number}")), home.join(format!("r{number}"))))
    }

    /// Removes them.
    pub fn unlink(&self, client: &Client) -> anyhow::Result<Sample> {
        self.each(client, |home, number| fs::remove_file(home.join(format!("r{number}"))))
    }

    /// Removes the directories.
    pub fn rmdir(&self, client: &Client) -> anyhow::Result<Sample> {
        self.each(client, |home, number| fs::remove_dir(home.join(format!("d{number}"))))
    }

    fn home(&self, client: &Client, thread: usize) -> PathBuf {
        client.path(format!("names{}/t{thread}", self.threads))
    }

    fn make_homes(&self, client: &Client) -> anyhow::Result<()> {
        (0..self.threads).try_for_each(|thread| Ok(fs::create_dir_all(self.home(client, thread))?))
    }

    /// One operation for each file.
    fn each<T>(
        &self,
        client: &Client,
        operation: impl Fn(&PathBuf, usize) -> io::Result<T> + Sync,
    ) -> anyhow::Result<Sample> {
        client.measure(self.threads, |thread, log: &mut Log| {
            let home = self.home(client, thread);
            for number in 0..self.each {
                operation(&home, number).with_context(|| format!("file {number} of {}", home.display()))?;
                log.done();
            }
            Ok(0)
        })
    }

    fn listings<T>(
        &self,
        client: &Client,
        times: usize,
        look: impl Fn(fs::DirEntry) -> io::Result<T> + Sync,
    ) -> anyhow::Result<Sample> {
        client.measure(self.threads, |thread, log: &mut Log| {
            let home = self.home(client, thread);
            for _ in 0..times {
                let mut seen = 0;
                for entry in fs::read_dir(&home)? {
                    look(entry?)?;
                    seen += 1;
                }
                // The files and the directories.
                ensure!(seen == 2 * self.each, "{seen} entries in {}", home.display());
                log.done();
            }
            Ok(0)
        })
    }
}

/// Waits until the kernel trusts nothing it was told.
#[expect(clippy::disallowed_methods, reason = "what is waited for is time itself, on a thread without a runtime")]
fn outlive_caches() {
    std::thread::sleep(FORGOTTEN);
}
