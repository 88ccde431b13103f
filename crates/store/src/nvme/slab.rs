//! The slab file itself: made, sized and read without the device; only opening and recovery use it this way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::io::buffer::{Buf, Pool};

/// Name of the slab file in its directory.
pub(crate) const SLAB_FILE: &str = "shoal-cache.slab";

/// An open slab file, past the page cache where the file system allows it.
#[derive(Debug)]
pub(crate) struct Slab {
    file: File,
}

impl Slab {
    /// Bytes that the slab in `dir` takes on its file system; 0 if there is none.
    pub(crate) fn allocated(dir: &Path) -> u64 {
        std::fs::metadata(dir.join(SLAB_FILE)).map_or(0, |meta| meta.blocks() * 512)
    }

    /// Opens or makes the slab in `dir` and gives it exactly `bytes`, all of them reserved if `whole`.
    pub(crate) fn open(dir: &Path, bytes: u64, whole: bool) -> io::Result<Slab> {
        let path = dir.join(SLAB_FILE);
        let file = open_direct(&path)?;
        if file.metadata()?.len() > bytes {
            file.set_len(bytes)?;
        }
        let slab = Slab { file };
        slab.file.set_len(bytes)?;
        if whole && !slab.reserve(0, bytes)? {
            tracing::warn!(dir = %dir.display(), "the file system cannot reserve space: it may run full under the cache");
        }
        Ok(slab)
    }

    /// Reserves a range; false if the file system cannot do that.
    pub(crate) fn reserve(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        match fallocate(&self.file, FallocateFlags::empty(), offset, bytes) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives a range back to the file system; it reads as zeros then.
    pub(crate) fn release(&self, offset: u64, bytes: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes)?)
    }

    /// Fills a buffer of `len` bytes from `offset`.
    pub(crate) fn read(&self, pool: &Pool, offset: u64, len: usize) -> io::Result<Buf> {
        let mut buf = pool.get(len);
        self.file.read_exact_at(&mut buf, offset)?;
        Ok(buf)
    }

    /// The file once more, for a device.
    pub(crate) fn device_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

fn open_direct(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    match options.clone().custom_flags(libc::O_DIRECT).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            tracing::warn!(path = %path.display(), "the file system refuses O_DIRECT: reads go through the page cache, which costs CPU and memory");
            options.open(path)
        }
        result => result,
    }
}
