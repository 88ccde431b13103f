//! FUSE's limit: a file system of one large file whose bytes are already in memory, read through the kernel.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, Request,
};
use shoal_testkit::TestDir;

use crate::buffer::Aligned;
use crate::files::TestFile;
use crate::limits::MIB;

/// Bytes in the file; its content repeats every 128 MiB.
pub const FILE_BYTES: u64 = 16 << 30;
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
    /// Mounts the file system, its threads where the caller runs. Errors: no FUSE here.
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

    /// The first `span` bytes of the file; all of it is [`FILE_BYTES`] long.
    pub fn file(&self, span: u64) -> TestFile {
        TestFile::new(self.path.clone(), span.min(FILE_BYTES))
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
