//! What mdtest does: empty files of each thread in a directory of its own.

use std::fs::{self, File};
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
        self.each(client, |home, number| Ok(fs::create_dir(home.join(format!("d{number}")))?))
    }

    /// Makes the files: open, close.
    pub fn create(&self, client: &Client) -> anyhow::Result<Sample> {
        self.make_homes(client)?;
        self.each(client, |home, number| Ok(drop(File::create_new(home.join(format!("f{number}")))?)))
    }

    /// Asks for the attributes of each by its path.
    pub fn stat(&self, client: &Client) -> anyhow::Result<Sample> {
        std::thread::sleep(FORGOTTEN);
        self.each(client, |home, number| Ok(drop(fs::symlink_metadata(home.join(format!("f{number}")))?)))
    }

    /// Lists each directory ten times; an operation is one listing.
    pub fn readdir(&self, client: &Client) -> anyhow::Result<Sample> {
        self.listings(client, 10, |entry| Ok(drop(entry)))
    }

    /// The same with the attributes of every entry, as `ls -l` does.
    pub fn list(&self, client: &Client) -> anyhow::Result<Sample> {
        std::thread::sleep(FORGOTTEN);
        self.listings(client, 1, |entry| Ok(drop(entry.metadata()?)))
    }

    /// Renames each within its directory.
    pub fn rename(&self, client: &Client) -> anyhow::Result<Sample> {
        self.each(client, |home, number| Ok(fs::rename(home.join(format!("f{number}")), home.join(format!("r{number}")))?))
    }

    /// Removes them.
    pub fn unlink(&self, client: &Client) -> anyhow::Result<Sample> {
        self.each(client, |home, number| Ok(fs::remove_file(home.join(format!("r{number}")))?))
    }

    /// Removes the directories.
    pub fn rmdir(&self, client: &Client) -> anyhow::Result<Sample> {
        self.each(client, |home, number| Ok(fs::remove_dir(home.join(format!("d{number}")))?))
    }

    fn home(&self, client: &Client, thread: usize) -> PathBuf {
        client.path(format!("names{}/t{thread}", self.threads))
    }

    fn make_homes(&self, client: &Client) -> anyhow::Result<()> {
        (0..self.threads).try_for_each(|thread| Ok(fs::create_dir_all(self.home(client, thread))?))
    }

    /// One operation for each file.
    fn each(
        &self,
        client: &Client,
        operation: impl Fn(&PathBuf, usize) -> anyhow::Result<()> + Sync,
    ) -> anyhow::Result<Sample> {
        client.measure(self.threads, |thread, log: &mut Log| {
            let home = self.home(client, thread);
            for number in 0..self.each {
                operation(&home, number).with_context(|| format!("file {number} of {}", home.display()))?;
                log.done();
            }
            Ok(self.each as u64)
        })
    }

    fn listings(
        &self,
        client: &Client,
        times: usize,
        look: impl Fn(fs::DirEntry) -> anyhow::Result<()> + Sync,
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
            Ok((times * 2 * self.each) as u64)
        })
    }
}
