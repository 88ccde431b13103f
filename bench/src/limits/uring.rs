//! The disk's limit: raw io_uring with `O_DIRECT`, registered file and buffers, on one preallocated file.
//!
//! The fastest setup measured on kernel 6.18: SINGLE_ISSUER, COOP_TASKRUN and DEFER_TASKRUN, no polling. See io_uring_setup(2).

use std::fs::{File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use io_uring::{IoUring, opcode, squeue, types};
use shoal_runtime::clock;
use shoal_testkit::Rng;
use shoal_types::checksum::crc32c;

use crate::buffer::Aligned;
use crate::limits::BLOCK;
use crate::sample::{Effort, Meter, Sample};

/// Operations in flight at most.
pub const DEPTH_MAX: usize = 32;

/// A file on the disk under test and a ring to reach it. Stays on the thread that made it, as SINGLE_ISSUER demands.
pub struct UringFile {
    ring: IoUring,
    file: File,
    /// One slot of [`BLOCK`] bytes for each operation in flight. After `ring`, so that it outlives it.
    slots: Aligned,
    /// Whether the kernel took `slots` and `file` as registered resources.
    registered: bool,
    bytes: u64,
    rng: Rng,
    stay: PhantomData<*const ()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// What becomes of bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Nobody looks at them.
    None,
    /// They are hashed; the next operation starts before the next bytes are.
    Hash,
}

impl UringFile {
    /// A file of `bytes` (whole blocks, at least one) in `dir`, written in full and without a name.
    ///
    /// Errors: no io_uring, no space, or a file system without `O_DIRECT`.
    pub fn prepare(dir: &Path, bytes: u64) -> anyhow::Result<UringFile> {
        let named = tempfile::NamedTempFile::new_in(dir).with_context(|| format!("no file in {}", dir.display()))?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        let file =
            options.open(named.path()).with_context(|| format!("{} does not support O_DIRECT", dir.display()))?;
        let bytes = (bytes / BLOCK as u64).max(1) * BLOCK as u64;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
            .context("no space for the test file")?;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .build(DEPTH_MAX as u32)
            .context("no io_uring here")?;
        let slots = Aligned::seeded(2, DEPTH_MAX * BLOCK);
        let mut made = UringFile { ring, file, slots, registered: false, bytes, rng: Rng::new(3), stay: PhantomData };
        made.registered = made.register().is_ok();
        made.write_all()?;
        Ok(made)
    }

    /// Reads of `block` bytes at random multiples of it, `depth` at a time.
    pub fn read(&mut self, effort: &Effort, block: usize, depth: usize) -> anyhow::Result<Sample> {
        self.run(effort, Direction::Read, Use::None, block, depth)
    }

    /// [`UringFile::read`], and hashes what came: the least that a reader does who checks it.
    pub fn read_hashed(&mut self, effort: &Effort, block: usize, depth: usize) -> anyhow::Result<Sample> {
        self.run(effort, Direction::Read, Use::Hash, block, depth)
    }

    /// Writes of `block` bytes at random multiples of it, `depth` at a time; not synced.
    pub fn write(&mut self, effort: &Effort, block: usize, depth: usize) -> anyhow::Result<Sample> {
        self.run(effort, Direction::Write, Use::None, block, depth)
    }

    fn register(&mut self) -> io::Result<()> {
        let slots = libc::iovec { iov_base: self.slots.as_mut_ptr().cast(), iov_len: self.slots.len() };
        // SAFETY: `slots` lives and stays in place as long as the ring, which is dropped before it.
        unsafe { self.ring.submitter().register_buffers(&[slots])? };
        self.ring.submitter().register_files(&[self.file.as_raw_fd()])
    }

    /// Turns preallocated extents into written ones, whose reads reach the disk.
    fn write_all(&mut self) -> anyhow::Result<()> {
        for offset in (0..self.bytes).step_by(BLOCK) {
            self.push(Direction::Write, 0, offset, BLOCK)?;
            self.wait()?;
            let done = self.ring.completion().next().context("io_uring gave no completion")?;
            ensure!(done.result() == BLOCK as i32, "filling the test file failed: {}", outcome(done.result()));
        }
        Ok(())
    }

    fn run(
        &mut self,
        effort: &Effort,
        way: Direction,
        then: Use,
        block: usize,
        depth: usize,
    ) -> anyhow::Result<Sample> {
        ensure!((1..=DEPTH_MAX).contains(&depth) && block <= BLOCK, "depth {depth} or block {block} out of range");
        let mut meter = Meter::start(effort);
        let mut began: Vec<Instant> = vec![clock::now(); depth];
        let mut free: Vec<usize> = (0..depth).rev().collect();
        let mut failure = None;
        // Ends only when nothing is in flight: the kernel must not write into a slot that is being freed.
        loop {
            while failure.is_none() && meter.goes_on((depth - free.len()) as u64) {
                let Some(slot) = free.pop() else { break };
                began[slot] = clock::now();
                let offset = self.rng.below(self.bytes / block as u64) * block as u64;
                if let Err(error) = self.push(way, slot, offset, block) {
                    failure = Some(error);
                    free.push(slot);
                }
            }
            if free.len() == depth {
                break;
            }
            self.wait()?;
            let together = if then == Use::Hash { 1 } else { depth };
            for done in self.ring.completion().take(together) {
                let slot = done.user_data() as usize;
                if then == Use::Hash {
                    std::hint::black_box(crc32c(&self.slots[slot * BLOCK..][..block]));
                }
                free.push(slot);
                meter.done(began[slot], block as u64);
                if done.result() != block as i32 {
                    failure = Some(anyhow::anyhow!("{way:?} of {block} bytes failed: {}", outcome(done.result())));
                }
            }
        }
        failure.map_or_else(|| Ok(meter.finish()), Err)
    }

    /// Submits what was pushed and waits for a completion.
    fn wait(&mut self) -> anyhow::Result<()> {
        loop {
            match self.ring.submit_and_wait(1) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // What is in flight cannot be waited for any more and may still write into the slots: they are never freed.
                    std::mem::forget(std::mem::replace(&mut self.slots, Aligned::zeroed(0)));
                    return Err(error).context("io_uring refuses to go on");
                }
            }
        }
    }

    fn push(&mut self, way: Direction, slot: usize, offset: u64, len: usize) -> anyhow::Result<()> {
        let memory = self.slots.get_mut(slot * BLOCK..).context("the ring failed before")?[..len].as_mut_ptr();
        let (fixed, fd, len) = (types::Fixed(0), types::Fd(self.file.as_raw_fd()), len as u32);
        let entry: squeue::Entry = match (self.registered, way) {
            (true, Direction::Read) => opcode::ReadFixed::new(fixed, memory, len, 0).offset(offset).build(),
            (true, Direction::Write) => opcode::WriteFixed::new(fixed, memory, len, 0).offset(offset).build(),
            (false, Direction::Read) => opcode::Read::new(fd, memory, len).offset(offset).build(),
            (false, Direction::Write) => opcode::Write::new(fd, memory, len).offset(offset).build(),
        };
        let entry = entry.user_data(slot as u64);
        // SAFETY: `memory` is the slot of this operation alone until its completion is seen; `run` and `write_all` see every one
        // before they return, or `wait` has leaked `slots`.
        unsafe { self.ring.submission().push(&entry) }.context("the submission queue is full")
    }
}

fn outcome(result: i32) -> String {
    if result < 0 { io::Error::from_raw_os_error(-result).to_string() } else { format!("only {result} bytes") }
}
