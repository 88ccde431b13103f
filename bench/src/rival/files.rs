//! Files with content: many small ones, and one large one.

use std::fs::{self, File};
use std::io::{Read, Write};

use anyhow::{Context, ensure};

use super::client::Client;
use crate::limits::MIB;
use crate::sample::Sample;

/// Bytes of a small file.
const SMALL: usize = 128 << 10;

/// Many small files, by one thread.
#[derive(Debug, Clone, Copy)]
pub struct Small {
    /// How many.
    pub files: usize,
}

impl Small {
    /// Writes them anew: open, one write, close.
    pub fn write(&self, client: &Client) -> anyhow::Result<Sample> {
        let home = client.path("small");
        // Made anew each time, or it would be measured how the last round's are truncated.
        fs::remove_dir_all(&home).or_else(|error| if home.exists() { Err(error) } else { Ok(()) })?;
        fs::create_dir(&home)?;
        let data = shoal_testkit::seeded_bytes(3, SMALL);
        client.measure(1, |_, log| {
            for number in 0..self.files {
                let mut file = File::create_new(home.join(number.to_string()))?;
                file.write_all(&data)?;
                drop(file);
                log.done();
            }
            Ok((self.files * SMALL) as u64)
        })
    }

    /// Reads each, with nothing in the page cache.
    pub fn read(&self, client: &Client) -> anyhow::Result<Sample> {
        forget_pages()?;
        client.measure(1, |_, log| {
            let mut data = Vec::with_capacity(SMALL);
            for number in 0..self.files {
                data.clear();
                File::open(client.path(format!("small/{number}")))?.read_to_end(&mut data)?;
                ensure!(data.len() == SMALL, "file {number} has {} bytes", data.len());
                log.done();
            }
            Ok((self.files * SMALL) as u64)
        })
    }
}

/// One large file.
#[derive(Debug, Clone, Copy)]
pub struct Stream {
    /// Its length.
    pub bytes: u64,
}

impl Stream {
    /// Writes it anew, and closes it: then it is in the object store. Not synced, for a sync is not the same with both: JuiceFS
    /// makes nothing in a local directory durable.
    pub fn write(&self, client: &Client) -> anyhow::Result<Sample> {
        let path = client.path("stream");
        fs::remove_file(&path).or_else(|error| if path.exists() { Err(error) } else { Ok(()) })?;
        let data = shoal_testkit::seeded_bytes(4, MIB);
        client.measure(1, |_, log| {
            let mut file = File::create_new(&path)?;
            for _ in 0..self.bytes / MIB as u64 {
                file.write_all(&data)?;
                log.done();
            }
            drop(file);
            Ok(self.bytes)
        })
    }

    /// Reads it from end to end, with nothing in the page cache.
    pub fn read(&self, client: &Client) -> anyhow::Result<Sample> {
        forget_pages()?;
        client.measure(1, |_, log| {
            let mut file = File::open(client.path("stream"))?;
            let mut data = vec![0; MIB];
            for _ in 0..self.bytes / MIB as u64 {
                file.read_exact(&mut data)?;
                log.done();
            }
            Ok(self.bytes)
        })
    }
}

/// Drops every clean page of the machine, after writing the others.
fn forget_pages() -> anyhow::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "1").context("cannot drop the page cache: needs root")
}
