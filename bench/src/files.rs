//! Reading one file as a program would: sequentially or at random, through the kernel's page cache or around it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use rustix::fs::{Advice, fadvise};
use shoal_runtime::clock;
use shoal_testkit::Rng;

use crate::buffer::Aligned;
use crate::sample::{Effort, Meter, Sample};

/// Largest read.
const SIZE_MAX: usize = 4 << 20;

/// A file of a mount under test.
#[derive(Debug, Clone)]
pub struct TestFile {
    path: PathBuf,
    /// The first bytes of it, which are read.
    span: u64,
}

impl TestFile {
    /// The first `span` bytes of the file at `path`, which is at least that long.
    pub fn new(path: PathBuf, span: u64) -> TestFile {
        TestFile { path, span }
    }

    /// `O_DIRECT` reads of `size` bytes from one end to the other, and again.
    pub fn read_direct(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let places = self.places(size);
        self.read(&self.open(libc::O_DIRECT)?, effort, size, |index| index % places)
    }

    /// `O_DIRECT` reads of `size` bytes at random multiples of it.
    pub fn read_direct_random(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let mut rng = Rng::new(7);
        let places = self.places(size);
        self.read(&self.open(libc::O_DIRECT)?, effort, size, |_| rng.below(places))
    }

    /// Buffered reads of `size` bytes from one end to the other, and again; each time with nothing in the page cache.
    pub fn read_buffered(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let file = self.open(0)?;
        // Advice that is not taken shows as a rate no FUSE has.
        let forget = || fadvise(&file, 0, None, Advice::DontNeed);
        forget()?;
        let places = self.places(size);
        self.read(&file, effort, size, |index| {
            if index > 0 && index % places == 0 {
                let _ = forget();
            }
            index % places
        })
    }

    fn open(&self, flags: i32) -> anyhow::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(flags);
        options.open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))
    }

    /// Reads of `size` bytes that fit side by side, at least one.
    fn places(&self, size: usize) -> u64 {
        (self.span / size as u64).max(1)
    }

    /// Reads of `size` bytes, the n-th at the multiple of it that `place` gives for n.
    fn read(
        &self,
        file: &File,
        effort: &Effort,
        size: usize,
        mut place: impl FnMut(u64) -> u64,
    ) -> anyhow::Result<Sample> {
        ensure!((1..=SIZE_MAX).contains(&size) && size as u64 <= self.span, "size {size} out of range");
        let mut target = Aligned::zeroed(size);
        let mut meter = Meter::start(effort);
        let mut index = 0;
        while meter.goes_on(0) {
            let offset = place(index) * size as u64;
            let began = clock::now();
            file.read_exact_at(&mut target, offset).with_context(|| format!("cannot read {}", self.path.display()))?;
            meter.done(began, size as u64);
            index += 1;
        }
        Ok(meter.finish())
    }
}
