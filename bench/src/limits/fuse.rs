//! FUSE's limit: a file system of one large file whose bytes are already in memory, read through the kernel.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, ensure};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, Request,
};
use shoal_runtime::clock;
use shoal_testkit::{Rng, TestDir};

use crate::buffer::Aligned;
use crate::limits::{BLOCK, MIB};
use crate::sample::{Effort, Meter, Sample};

/// Size of the file; its content repeats every [`CONTENT_BYTES`].
const FILE_BYTES: u64 = 16 << 30;
/// Larger than the CPU's caches, so that serving reads memory.
const CONTENT_BYTES: usize = 128 << 20;
/// The kernel may keep attributes as long as it likes.
const TTL: Duration = Duration::from_secs(3600);
/// Threads that answer the kernel; two sufficed for the best rates measured.
const THREADS: usize = 2;
/// Requests the kernel may have under way; its default of 16 throttles readahead.
const BACKGROUND_MAX: u16 = 128;
const FILE_INO: INodeNo = INodeNo(2);

/// A mounted null file system and its file.
pub struct NullFuse {
    session: Option<BackgroundSession>,
    path: PathBuf,
    /// After the session: removed once it is unmounted.
    _dir: TestDir,
}

impl NullFuse {
    /// Mounts the file system. Errors: no FUSE here.
    pub fn mount() -> anyhow::Result<NullFuse> {
        let dir = TestDir::new("null-fuse");
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("shoal-null".to_owned()), MountOption::RO];
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let content = NullFs { content: Aligned::seeded(6, CONTENT_BYTES) };
        let session = fuser::spawn_mount(content, dir.path(), &config).context("cannot mount a FUSE file system")?;
        Ok(NullFuse { session: Some(session), path: dir.join("data"), _dir: dir })
    }

    /// `O_DIRECT` reads of `size` bytes, at most a block, from one end of the file to the other.
    pub fn read_direct(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let file = self.open(libc::O_DIRECT)?;
        read(&file, effort, size, |index| index * size as u64)
    }

    /// `O_DIRECT` reads of `size` bytes, at most a block, at random multiples of it.
    pub fn read_direct_random(&self, effort: &Effort, size: usize) -> anyhow::Result<Sample> {
        let file = self.open(libc::O_DIRECT)?;
        let mut rng = Rng::new(7);
        read(&file, effort, size, |_| rng.below(FILE_BYTES / size as u64) * size as u64)
    }

    /// Buffered reads of 1 MiB from one end of the file to the other, nothing cached before.
    pub fn read_buffered(&self, effort: &Effort) -> anyhow::Result<Sample> {
        // Opening drops what the kernel had cached: the file system does not ask to keep it.
        let file = self.open(0)?;
        read(&file, effort, MIB, |index| index * MIB as u64)
    }

    fn open(&self, flags: i32) -> anyhow::Result<File> {
        OpenOptions::new().read(true).custom_flags(flags).open(&self.path).context("cannot open the null file")
    }
}

impl Drop for NullFuse {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // The directory detaches what stays mounted.
            let _ = session.umount_and_join();
        }
    }
}

fn read(file: &File, effort: &Effort, size: usize, mut offset: impl FnMut(u64) -> u64) -> anyhow::Result<Sample> {
    ensure!((1..=BLOCK).contains(&size), "size {size} out of range");
    let mut target = Aligned::zeroed(size);
    let mut meter = Meter::start(effort);
    let mut index = 0;
    while meter.goes_on(0) {
        let began = clock::now();
        file.read_exact_at(&mut target, offset(index % (FILE_BYTES / size as u64)))
            .context("reading the null file failed")?;
        meter.done(began, size as u64);
        index += 1;
    }
    Ok(meter.finish())
}

struct NullFs {
    content: Aligned,
}

impl Filesystem for NullFs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // What an old kernel lacks, it lacks.
        let _ =
            config.add_capabilities(InitFlags::FUSE_ASYNC_READ | InitFlags::FUSE_ASYNC_DIO | InitFlags::FUSE_MAX_PAGES);
        let _ = config.set_max_background(BACKGROUND_MAX);
        let _ = config.set_max_readahead(MIB as u32).map_err(|most| config.set_max_readahead(most));
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT && name == "data" {
            reply.entry(&TTL, &attr(FILE_INO), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &attr(ino));
    }

    fn flush(&self, _request: &Request, _ino: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        // Once told so, the kernel does not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // Requests are at most 1 MiB and aligned to their size, so none crosses the end of the content.
        let start = (offset % CONTENT_BYTES as u64) as usize;
        let end = (start + size as usize).min(CONTENT_BYTES);
        reply.data(&self.content[start..end]);
    }
}

fn attr(ino: INodeNo) -> FileAttr {
    let (kind, perm, size) =
        if ino == FILE_INO { (FileType::RegularFile, 0o444, FILE_BYTES) } else { (FileType::Directory, 0o555, 0) };
    FileAttr {
        ino,
        size,
        blocks: size / 512,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
