//! Kernel requests as `vfs` calls.
//!
//! A read that RAM can answer is answered on the FUSE thread that received it: handing it over costs more than the read
//! (limits: 4 us a request). Everything that may wait runs as a task and replies from there, so a FUSE thread never blocks.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, Notifier, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use shoal_format::{Attr, FileType, Ino};
use shoal_meta::{Caller, MAY_EXECUTE, MAY_READ, MetaError, NewInode};
use shoal_runtime::{clock, metrics::Registry, task};
use shoal_types::{Ctx, ErrorKind};
use shoal_vfs::{OpenFile, Vfs, VfsError};
use tokio::runtime::Handle as Runtime;

use crate::access_log::{AccessLog, Op, note_failure};
use crate::asked::Asked;
use crate::attr::{acl_kind, file_attr};
use crate::caller::{caller, wanted_by_open};
use crate::errno::{errno_of, read_errno, write_errno_of};
use crate::handles::{Handle, Handles, LockedHandles, Purpose};
use crate::metrics::FuseMetrics;
use crate::options::{FuseOptions, KERNEL_READAHEAD_BYTES};
use crate::statfs::{BLOCK_BYTES, Space};
use crate::virtual_files::VirtualFile;

/// Requests the kernel may have in flight in the background (read-ahead, direct I/O). fuser's default of 16 throttles both.
const MAX_BACKGROUND: u16 = 256;

/// Longest name in bytes; the kernel lets longer ones through.
const NAME_BYTES_MAX: usize = 255;

/// Mode of symbolic links; nobody looks at it.
const SYMLINK_MODE: u32 = 0o777;

/// Inode numbers are never reused, so every generation is the first.
pub(crate) const GENERATION: Generation = Generation(0);

/// The file system the kernel talks to. Cheap to clone: a task takes a clone with it.
#[derive(Clone)]
pub(crate) struct ShoalFs(Arc<Inner>);

struct Inner {
    vfs: Vfs,
    handles: Handles,
    locked: LockedHandles,
    /// Tells the kernel what it must forget; set once the mount serves.
    notifier: OnceLock<Notifier>,
    runtime: Runtime,
    registry: Registry,
    metrics: FuseMetrics,
    access_log: AccessLog,
    options: FuseOptions,
    owner: (u32, u32),
}

impl ShoalFs {
    pub(crate) fn new(
        vfs: Vfs,
        options: FuseOptions,
        runtime: Runtime,
        registry: Registry,
        owner: (u32, u32),
    ) -> ShoalFs {
        let (metrics, access_log) = (FuseMetrics::register(&registry), AccessLog::default());
        let (handles, locked, notifier) = (Handles::default(), LockedHandles::default(), OnceLock::new());
        ShoalFs(Arc::new(Inner {
            vfs,
            handles,
            locked,
            notifier,
            runtime,
            registry,
            metrics,
            access_log,
            options,
            owner,
        }))
    }

    pub(crate) fn vfs(&self) -> &Vfs {
        &self.0.vfs
    }

    /// The volume's inode that the kernel calls `number`: its root is where the mount begins.
    pub(crate) fn ino(&self, number: INodeNo) -> Ino {
        if number == INodeNo::ROOT { self.0.options.root } else { Ino(number.0) }
    }

    /// What the kernel calls the volume's inode `ino`.
    pub(crate) fn number(&self, ino: Ino) -> INodeNo {
        if ino == self.0.options.root { INodeNo::ROOT } else { INodeNo(ino.0) }
    }

    pub(crate) fn access_log(&self) -> &AccessLog {
        &self.0.access_log
    }

    pub(crate) fn metrics(&self) -> &FuseMetrics {
        &self.0.metrics
    }

    pub(crate) fn handle(&self, fh: FileHandle) -> Option<Arc<Handle>> {
        self.0.handles.get(fh)
    }

    pub(crate) fn options(&self) -> &FuseOptions {
        &self.0.options
    }

    pub(crate) fn locked_handles(&self) -> &LockedHandles {
        &self.0.locked
    }

    /// On whose behalf the kernel asks.
    pub(crate) fn caller(&self, req: &Request) -> Caller {
        caller(req, self.0.options.squash)
    }

    /// From now on the kernel can be told what it must forget.
    pub(crate) fn notify_through(&self, notifier: Notifier) {
        drop(self.0.notifier.set(notifier));
    }

    /// Has the kernel forget what it holds of a file's bytes and attributes.
    pub(crate) async fn forget_pages(&self, ino: INodeNo) {
        let fs = self.clone();
        // It waits for reads of the file that are under way.
        let told = task::blocking("forget-pages", move || match fs.0.notifier.get() {
            Some(notifier) => notifier.inval_inode(ino, 0, 0),
            None => Ok(()),
        });
        if let Err(error) = told.await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%ino, %error, "the kernel may show old bytes for as long as it trusts attributes");
        }
    }

    /// How long the kernel trusts a name of what has these attributes.
    pub(crate) fn entry_ttl(&self, attr: &Attr) -> Duration {
        let FuseOptions { entry_ttl, dir_entry_ttl, .. } = self.0.options;
        if attr.kind == FileType::Directory { dir_entry_ttl } else { entry_ttl }
    }

    /// A handle of a file that was opened with `flags`.
    pub(crate) fn opened_file(&self, file: OpenFile, flags: i32) -> FileHandle {
        self.opened(Handle::File(Arc::new(file), Purpose::of_open(flags)))
    }

    /// Answers a request in a task of its own.
    pub(crate) fn spawn<F>(&self, op: impl Into<Op>, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (fs, op, start) = (self.clone(), op.into(), clock::now());
        drop(task::spawn_on(&self.0.runtime, op.name, async move {
            match fs.0.access_log.is_read() {
                true => fs.0.access_log.watch(op, work).await,
                false => work.await,
            }
            fs.0.metrics.op(op.name, start.elapsed());
        }));
    }

    /// Counts and logs a failure, and gives its errno.
    pub(crate) fn failed(&self, op: &'static str, ino: u64, error: &VfsError) -> Errno {
        self.0.metrics.error(error.kind());
        note_failure(|| error.to_string());
        if op != "read" && is_ordinary(error) {
            tracing::debug!(op, ino, %error, "refused");
        } else {
            tracing::warn!(op, ino, error = error as &dyn std::error::Error, "operation failed");
        }
        match op {
            "read" => read_errno(error.kind()),
            "write" | "flush" | "fsync" | "fsyncdir" => write_errno_of(error),
            _ => errno_of(error),
        }
    }

    pub(crate) fn opened(&self, handle: Handle) -> FileHandle {
        let fh = self.0.handles.insert(handle);
        self.0.metrics.handles.set(self.0.handles.len() as i64);
        fh
    }

    pub(crate) fn closed(&self, fh: FileHandle) -> Option<Arc<Handle>> {
        let handle = self.0.handles.remove(fh);
        self.0.metrics.handles.set(self.0.handles.len() as i64);
        handle
    }

    async fn lookup_entry(&self, caller: &Caller, parent: Ino, name: &[u8], reply: ReplyEntry) {
        let options = &self.0.options;
        let found = async {
            self.0.vfs.access(caller, parent, MAY_EXECUTE).await?;
            self.0.vfs.lookup(parent, name).await
        };
        match found.await {
            Ok(Some((ino, attr))) => {
                let entry_ttl = self.entry_ttl(&attr);
                reply.entry_with_ttls(&options.attr_ttl, &entry_ttl, &file_attr(ino, &attr), GENERATION);
            }
            Ok(None) if options.negative_ttl > Duration::ZERO => {
                // Inode 0 with a lifetime is how the kernel is told to remember that a name is absent.
                let mut absent = VirtualFile::Config.attr(0, 0);
                absent.ino = INodeNo(0);
                reply.entry(&options.negative_ttl, &absent, GENERATION);
            }
            Ok(None) => {
                note_failure(|| "no such file or directory".to_owned());
                reply.error(Errno::ENOENT);
            }
            Err(error) => reply.error(self.failed("lookup", parent.0, &error)),
        }
    }

    async fn open_file(&self, caller: &Caller, ino: Ino, flags: i32, reply: ReplyOpen) {
        let opened = async {
            self.0.vfs.access(caller, ino, wanted_by_open(flags)).await?;
            self.0.vfs.open(ino).await
        };
        match opened.await {
            Ok(opened) => {
                let kept = if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
                reply.opened(self.opened_file(opened.file, flags), kept);
            }
            Err(error) => reply.error(self.failed("open", ino.0, &error)),
        }
    }

    async fn read_file(&self, ino: INodeNo, file: Arc<OpenFile>, offset: u64, size: u32, reply: ReplyData) {
        let started = clock::now();
        let result = self.0.vfs.read(&Ctx::foreground(), &file, offset, size).await;
        self.0.metrics.reads_waited.add(1);
        self.0.metrics.read_seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(bytes) => {
                self.0.metrics.read_bytes.add(bytes.len() as u64);
                reply.data(&bytes);
            }
            Err(error) => reply.error(self.failed("read", ino.0, &error)),
        }
    }

    fn list_xattrs(names: &[bytes::Bytes]) -> Vec<u8> {
        names.iter().flat_map(|name| name.iter().copied().chain([0])).collect()
    }
}

/// What programs meet every day: the rules of a file system forbid it, or another client was faster.
fn is_ordinary(error: &VfsError) -> bool {
    let by_rule = matches!(
        error,
        VfsError::Meta(
            MetaError::Refused { .. }
                | MetaError::Exists { .. }
                | MetaError::Taken { .. }
                | MetaError::NotDirectory { .. }
                | MetaError::Invalid { .. }
                | MetaError::NoSpace { .. }
        )
    );
    by_rule || error.kind() == ErrorKind::NotFound
}

/// Answers a request for an extended attribute by the kernel's protocol: size 0 asks for the length only.
fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    match size {
        0 => reply.size(value.len() as u32),
        size if (size as usize) < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

fn slice_of(content: &[u8], offset: u64, size: u32) -> &[u8] {
    let start = content.len().min(offset as usize);
    let end = content.len().min(start + size as usize);
    &content[start..end]
}

impl Filesystem for ShoalFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in [
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_AUTO_INVAL_DATA,
        ] {
            // What the kernel does not know it does without; none of these changes what programs see.
            let _ = config.add_capabilities(wanted);
        }
        // Where nothing can be recorded the kernel keeps locks to itself, and to this host.
        if self.0.vfs.is_writable() {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_LOCKS);
            let _ = config.add_capabilities(InitFlags::FUSE_FLOCK_LOCKS);
        }
        // Only where there are ACLs: with this the kernel asks for one with every inode it checks.
        if self.0.options.acl {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
            // A default ACL takes the umask's place, so that is ours to apply.
            let _ = config.add_capabilities(InitFlags::FUSE_DONT_MASK);
        }
        // The kernel would take the programs' own umask away first.
        if self.0.options.umask.is_some() {
            let _ = config.add_capabilities(InitFlags::FUSE_DONT_MASK);
        }
        if let Err(most) = config.set_max_readahead(KERNEL_READAHEAD_BYTES) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT
            && let Some(file) = VirtualFile::named(name.as_bytes(), self.0.options.internal_prefix)
        {
            let (uid, gid) = self.0.owner;
            return reply.entry(&self.0.options.attr_ttl, &file.attr(uid, gid), GENERATION);
        }
        if name.len() > NAME_BYTES_MAX {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let (fs, caller, name) = (self.clone(), self.caller(req), name.as_bytes().to_vec());
        self.spawn(Op::of("lookup", req, parent), async move {
            fs.lookup_entry(&caller, fs.ino(parent), &name, reply).await;
        });
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(file) = VirtualFile::numbered(ino) {
            let (uid, gid) = self.0.owner;
            return reply.attr(&self.0.options.attr_ttl, &file.attr(uid, gid));
        }
        let fs = self.clone();
        self.spawn(Op::of("getattr", req, ino), async move {
            match fs.0.vfs.getattr(fs.ino(ino)).await {
                Ok(attr) => reply.attr(&fs.0.options.attr_ttl, &file_attr(Ino(ino.0), &attr)),
                Err(error) => reply.error(fs.failed("getattr", ino.0, &error)),
            }
        });
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = self.clone();
        self.spawn(Op::of("readlink", req, ino), async move {
            match fs.0.vfs.readlink(fs.ino(ino)).await {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(fs.failed("readlink", ino.0, &error)),
            }
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if let Some(file) = VirtualFile::numbered(ino) {
            let content = match file {
                VirtualFile::AccessLog => {
                    let fh = self.opened(Handle::Log(self.0.access_log.open()));
                    return reply.opened(fh, FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NONSEEKABLE);
                }
                VirtualFile::Config => self.0.options.config_json.clone().into_bytes(),
                VirtualFile::Stats => self.0.registry.gather_text().into_bytes(),
            };
            return reply.opened(self.opened(Handle::Virtual(content)), FopenFlags::FOPEN_DIRECT_IO);
        }
        let (fs, caller) = (self.clone(), self.caller(req));
        self.spawn(Op::of("open", req, ino), async move { fs.open_file(&caller, fs.ino(ino), flags.0, reply).await });
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(handle) = self.0.handles.get(fh) else { return reply.error(Errno::EBADF) };
        match &*handle {
            Handle::Virtual(content) => reply.data(slice_of(content, offset, size)),
            Handle::Log(_) => {
                let (runtime, handle) = (&self.0.runtime, handle.clone());
                // Not logged: each line read would be the next line.
                drop(task::spawn_on(runtime, "accesslog", async move {
                    if let Handle::Log(log) = &*handle {
                        reply.data(&log.read(size as usize).await);
                    }
                }));
            }
            Handle::Dir(_) => reply.error(Errno::EISDIR),
            Handle::File(file, _) => match self.0.vfs.try_read(file, offset, size) {
                Some(bytes) => {
                    self.0.metrics.reads_inline.add(1);
                    self.0.metrics.read_bytes.add(bytes.len() as u64);
                    reply.data(&bytes);
                    if self.0.access_log.is_read() {
                        self.0.access_log.write(Op::of("read", req, ino), None, Duration::ZERO);
                    }
                }
                None => {
                    let (fs, file) = (self.clone(), file.clone());
                    self.spawn(
                        Op::of("read", req, ino),
                        async move { fs.read_file(ino, file, offset, size, reply).await },
                    );
                }
            },
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.on_write(ino, fh, offset, data, reply);
    }

    fn flush(&self, _req: &Request, ino: INodeNo, fh: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty) {
        if self.0.vfs.is_writable() {
            self.on_flush(ino, fh, lock_owner, reply);
        } else {
            // Nothing is written, so nothing is flushed: by this the kernel learns to close files without asking.
            reply.error(Errno::ENOSYS);
        }
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.on_fsync("fsync", ino, fh, reply);
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.on_fsync("fsyncdir", ino, fh, reply);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.on_fallocate(ino, (offset, length), mode, reply);
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.on_seek(ino, fh, offset, whence, reply);
    }

    /// Files are always ready: by this the kernel learns to say so without asking.
    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn copy_file_range(
        &self,
        _req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.on_copy((ino_in, offset_in), (ino_out, offset_out), len, reply);
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.on_release(ino, fh, reply);
    }

    fn getlk(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        self.on_getlk(ino, Asked { fh, owner, start, end, kind, pid }, reply);
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        self.on_setlk(req, ino, Asked { fh, owner, start, end, kind, pid }, sleep, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove_name(req, parent, name, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.remove_dir(req, parent, name, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.move_name(req, (parent, name), (newparent, newname), flags, reply);
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let (fs, caller) = (self.clone(), self.caller(req));
        self.spawn(Op::of("opendir", req, ino), async move { fs.open_dir(&caller, fs.ino(ino), reply).await });
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        let Some(handle) = self.0.handles.get(fh) else { return reply.error(Errno::EBADF) };
        match &*handle {
            Handle::Dir(dir) => self.plain_entries(ino, dir, offset, reply),
            _ => reply.error(Errno::ENOTDIR),
        }
    }

    fn readdirplus(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let Some(handle) = self.0.handles.get(fh) else { return reply.error(Errno::EBADF) };
        let fs = self.clone();
        self.spawn(Op::of("readdirplus", req, ino), async move {
            match &*handle {
                Handle::Dir(dir) => fs.plus_entries(ino, dir, offset, reply).await,
                _ => reply.error(Errno::ENOTDIR),
            }
        });
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        drop(self.closed(fh));
        reply.ok();
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let fs = self.clone();
        self.spawn(Op::of("statfs", req, ino), async move {
            match fs.0.vfs.statfs().await {
                Ok(stat) => {
                    let Space { blocks, blocks_free, files, files_free } = Space::of(&stat);
                    reply.statfs(
                        blocks,
                        blocks_free,
                        blocks_free,
                        files,
                        files_free,
                        BLOCK_BYTES,
                        NAME_BYTES_MAX as u32,
                        BLOCK_BYTES,
                    );
                }
                Err(error) => reply.error(fs.failed("statfs", 1, &error)),
            }
        });
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if VirtualFile::numbered(ino).is_some() {
            return reply.error(Errno::ENODATA);
        }
        let (fs, caller, name) = (self.clone(), self.caller(req), name.as_bytes().to_vec());
        self.spawn(Op::of("getxattr", req, ino), async move {
            let value = async {
                fs.0.vfs.access(&caller, fs.ino(ino), MAY_READ).await?;
                fs.0.vfs.getxattr(fs.ino(ino), &name).await
            };
            match value.await {
                Ok(Some(value)) => reply_xattr(reply, size, &value),
                Ok(None) => reply.error(Errno::ENODATA),
                Err(error) => reply.error(fs.failed("getxattr", ino.0, &error)),
            }
        });
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        if VirtualFile::numbered(ino).is_some() {
            return reply_xattr(reply, size, &[]);
        }
        let fs = self.clone();
        self.spawn(Op::of("listxattr", req, ino), async move {
            match fs.0.vfs.listxattr(fs.ino(ino)).await {
                Ok(names) => reply_xattr(reply, size, &ShoalFs::list_xattrs(&names)),
                Err(error) => reply.error(fs.failed("listxattr", ino.0, &error)),
            }
        });
    }

    /// Asked only where the kernel does not check permissions itself.
    fn access(&self, req: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let (fs, caller, wanted) = (self.clone(), self.caller(req), (mask & AccessFlags::all()).bits() as u8);
        if VirtualFile::numbered(ino).is_some() {
            return reply.ok();
        }
        self.spawn(Op::of("access", req, ino), async move {
            let allowed = fs.0.vfs.access(&caller, fs.ino(ino), wanted).await;
            fs.done("access", ino, allowed, reply);
        });
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.make_file(req, parent, name, (mode, umask), flags, reply);
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        self.make_node(req, parent, name, (mode, umask), rdev, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.make(req, parent, name, NewInode::Directory, (mode, umask), reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = Bytes::copy_from_slice(target.as_os_str().as_bytes());
        self.make(req, parent, name, NewInode::Symlink(target), (SYMLINK_MODE, 0), reply);
    }

    fn link(&self, req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.make_link(req, ino, parent, name, reply);
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.change_attr(req, ino, ShoalFs::set_attr(mode, uid, gid, atime, mtime), (size, fh), reply);
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        match acl_kind(name) {
            Some(kind) => self.put_acl(req, ino, kind, value, reply),
            None => self.put_xattr(req, ino, name, value, flags, reply),
        }
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match acl_kind(name) {
            Some(kind) => self.delete_acl(req, ino, kind, reply),
            None => self.delete_xattr(req, ino, name, reply),
        }
    }
}
