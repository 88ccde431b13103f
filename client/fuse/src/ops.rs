//! Kernel requests as `vfs` calls.
//!
//! A read that RAM can answer is answered on the FUSE thread that received it: handing it over costs more than the read
//! (limits: 4 us a request). Everything that may wait runs as a task and replies from there, so a FUSE thread never blocks.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyXattr, Request,
};
use shoal_format::{FileType, Ino};
use shoal_meta::DirEntry;
use shoal_runtime::{clock, metrics::Registry, task};
use shoal_types::{Ctx, ErrorKind};
use shoal_vfs::{OpenFile, Vfs, VfsError};
use tokio::runtime::Handle as Runtime;

use crate::attr::{file_attr, kind};
use crate::errno::{errno, read_errno};
use crate::handles::{DirHandle, Handle, Handles};
use crate::metrics::FuseMetrics;
use crate::options::{FuseOptions, KERNEL_READAHEAD_BYTES};
use crate::statfs::{BLOCK_BYTES, Space};
use crate::virtual_files::VirtualFile;

/// Requests the kernel may have in flight in the background (read-ahead, direct I/O). fuser's default of 16 throttles both.
const MAX_BACKGROUND: u16 = 256;

/// Inode numbers are never reused, so every generation is the first.
const GENERATION: Generation = Generation(0);

/// The file system the kernel talks to. Cheap to clone: a task takes a clone with it.
#[derive(Clone)]
pub(crate) struct ShoalFs(Arc<Inner>);

struct Inner {
    vfs: Vfs,
    handles: Handles,
    runtime: Runtime,
    registry: Registry,
    metrics: FuseMetrics,
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
        let metrics = FuseMetrics::register(&registry);
        ShoalFs(Arc::new(Inner { vfs, handles: Handles::default(), runtime, registry, metrics, options, owner }))
    }

    fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(task::spawn_on(&self.0.runtime, name, work));
    }

    /// Counts and logs a failure, and gives its errno.
    fn failed(&self, op: &'static str, ino: u64, error: &VfsError) -> Errno {
        self.0.metrics.error(error.kind());
        let read = op == "read";
        if error.kind() == ErrorKind::NotFound && !read {
            // Another client removed it: what a kernel with a memory of its own meets every day.
            tracing::debug!(op, ino, %error, "it is gone");
        } else {
            tracing::warn!(op, ino, error = error as &dyn std::error::Error, "operation failed");
        }
        if read { read_errno(error.kind()) } else { errno(error.kind()) }
    }

    fn opened(&self, handle: Handle) -> FileHandle {
        let fh = self.0.handles.insert(handle);
        self.0.metrics.handles.set(self.0.handles.len() as i64);
        fh
    }

    fn closed(&self, fh: FileHandle) {
        if let Some(handle) = self.0.handles.remove(fh)
            && let Handle::File(file) = &*handle
        {
            self.0.vfs.close(file);
        }
        self.0.metrics.handles.set(self.0.handles.len() as i64);
    }

    async fn lookup_entry(&self, parent: Ino, name: &[u8], reply: ReplyEntry) {
        let options = &self.0.options;
        match self.0.vfs.lookup(parent, name).await {
            Ok(Some((ino, attr))) => {
                let entry_ttl =
                    if attr.kind == FileType::Directory { options.dir_entry_ttl } else { options.entry_ttl };
                reply.entry_with_ttls(&options.attr_ttl, &entry_ttl, &file_attr(ino, &attr), GENERATION);
            }
            Ok(None) if options.negative_ttl > Duration::ZERO => {
                // Inode 0 with a lifetime is how the kernel is told to remember that a name is absent.
                let mut absent = VirtualFile::Config.attr(0, 0);
                absent.ino = INodeNo(0);
                reply.entry(&options.negative_ttl, &absent, GENERATION);
            }
            Ok(None) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(self.failed("lookup", parent.0, &error)),
        }
    }

    async fn open_dir(&self, ino: Ino, reply: ReplyOpen) {
        let listed = clock::now();
        let listing = async {
            let attr = self.0.vfs.getattr(ino).await?;
            let entries = self.0.vfs.readdir(ino).await?;
            let parent = if attr.parent.0 == 0 { ino.0 } else { attr.parent.0 };
            Ok::<_, VfsError>(DirHandle { parent, entries, listed })
        };
        match listing.await {
            Ok(dir) => reply.opened(self.opened(Handle::Dir(dir)), FopenFlags::empty()),
            Err(error) => reply.error(self.failed("opendir", ino.0, &error)),
        }
    }

    async fn open_file(&self, ino: Ino, reply: ReplyOpen) {
        match self.0.vfs.open(ino).await {
            Ok(opened) => {
                let flags = if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() };
                reply.opened(self.opened(Handle::File(Arc::new(opened.file))), flags);
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

    async fn plus_entries(&self, ino: INodeNo, dir: &DirHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let options = &self.0.options;
        // The kernel takes what it is told here for new: attributes of a listing that has aged are asked for again.
        let recent = clock::now().saturating_duration_since(dir.listed) <= options.attr_ttl;
        for (index, (name, number)) in [(".", ino.0), ("..", dir.parent)].into_iter().enumerate() {
            if (index as u64) < offset {
                continue;
            }
            let mut attr = VirtualFile::Config.attr(0, 0);
            attr.ino = INodeNo(number);
            attr.kind = fuser::FileType::Directory;
            if reply.add(INodeNo(number), index as u64 + 1, name, &Duration::ZERO, &attr, GENERATION) {
                return reply.ok();
            }
        }
        for (index, entry) in dir.entries.iter().enumerate().skip(offset.saturating_sub(2) as usize) {
            let attr = match &entry.attr {
                Some(attr) if recent => attr.clone(),
                _ => match self.0.vfs.getattr(entry.ino).await {
                    Ok(attr) => attr,
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    // Better an error than a listing that lacks names.
                    Err(error) => return reply.error(self.failed("readdirplus", entry.ino.0, &error)),
                },
            };
            let entry_ttl = if attr.kind == FileType::Directory { options.dir_entry_ttl } else { options.entry_ttl };
            let (name, ttl) = (OsStr::from_bytes(&entry.name), options.attr_ttl.min(entry_ttl));
            if reply.add(INodeNo(entry.ino.0), index as u64 + 3, name, &ttl, &file_attr(entry.ino, &attr), GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn list_xattrs(names: &[bytes::Bytes]) -> Vec<u8> {
        names.iter().flat_map(|name| name.iter().copied().chain([0])).collect()
    }
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

fn add_plain(reply: &mut ReplyDirectory, index: usize, entry: &DirEntry) -> bool {
    reply.add(INodeNo(entry.ino.0), index as u64 + 3, kind(entry.kind), OsStr::from_bytes(&entry.name))
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
        // Only where there are ACLs: with this the kernel asks for one with every inode it checks.
        if self.0.options.acl {
            let _ = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        }
        if let Err(most) = config.set_max_readahead(KERNEL_READAHEAD_BYTES) {
            let _ = config.set_max_readahead(most);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        let _ = config.set_congestion_threshold(MAX_BACKGROUND / 4 * 3);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent == INodeNo::ROOT
            && let Some(file) = VirtualFile::named(name.as_bytes())
        {
            let (uid, gid) = self.0.owner;
            return reply.entry(&self.0.options.attr_ttl, &file.attr(uid, gid), GENERATION);
        }
        let (fs, name) = (self.clone(), name.as_bytes().to_vec());
        self.spawn("lookup", async move { fs.lookup_entry(Ino(parent.0), &name, reply).await });
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if let Some(file) = VirtualFile::numbered(ino) {
            let (uid, gid) = self.0.owner;
            return reply.attr(&self.0.options.attr_ttl, &file.attr(uid, gid));
        }
        let fs = self.clone();
        self.spawn("getattr", async move {
            match fs.0.vfs.getattr(Ino(ino.0)).await {
                Ok(attr) => reply.attr(&fs.0.options.attr_ttl, &file_attr(Ino(ino.0), &attr)),
                Err(error) => reply.error(fs.failed("getattr", ino.0, &error)),
            }
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        let fs = self.clone();
        self.spawn("readlink", async move {
            match fs.0.vfs.readlink(Ino(ino.0)).await {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(fs.failed("readlink", ino.0, &error)),
            }
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if let Some(file) = VirtualFile::numbered(ino) {
            let content = match file {
                VirtualFile::Config => self.0.options.config_json.clone().into_bytes(),
                VirtualFile::Stats => self.0.registry.gather_text().into_bytes(),
            };
            return reply.opened(self.opened(Handle::Virtual(content)), FopenFlags::FOPEN_DIRECT_IO);
        }
        let fs = self.clone();
        self.spawn("open", async move { fs.open_file(Ino(ino.0), reply).await });
    }

    fn read(
        &self,
        _req: &Request,
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
            Handle::Dir(_) => reply.error(Errno::EISDIR),
            Handle::File(file) => match self.0.vfs.try_read(file, offset, size) {
                Some(bytes) => {
                    self.0.metrics.reads_inline.add(1);
                    self.0.metrics.read_bytes.add(bytes.len() as u64);
                    reply.data(&bytes);
                }
                None => {
                    let (fs, file) = (self.clone(), file.clone());
                    self.spawn("read", async move { fs.read_file(ino, file, offset, size, reply).await });
                }
            },
        }
    }

    /// Nothing is written, so nothing is flushed: by ENOSYS the kernel learns to close files without asking.
    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _lock_owner: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.closed(fh);
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let fs = self.clone();
        self.spawn("opendir", async move { fs.open_dir(Ino(ino.0), reply).await });
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(handle) = self.0.handles.get(fh) else { return reply.error(Errno::EBADF) };
        let Handle::Dir(dir) = &*handle else { return reply.error(Errno::ENOTDIR) };
        for (index, (name, number)) in [(".", ino.0), ("..", dir.parent)].into_iter().enumerate() {
            let index = index as u64;
            if index >= offset && reply.add(INodeNo(number), index + 1, fuser::FileType::Directory, name) {
                return reply.ok();
            }
        }
        for (index, entry) in dir.entries.iter().enumerate().skip(offset.saturating_sub(2) as usize) {
            if add_plain(&mut reply, index, entry) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        let Some(handle) = self.0.handles.get(fh) else { return reply.error(Errno::EBADF) };
        let fs = self.clone();
        self.spawn("readdirplus", async move {
            match &*handle {
                Handle::Dir(dir) => fs.plus_entries(ino, dir, offset, reply).await,
                _ => reply.error(Errno::ENOTDIR),
            }
        });
    }

    fn releasedir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.closed(fh);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let fs = self.clone();
        self.spawn("statfs", async move {
            match fs.0.vfs.statfs().await {
                Ok(stat) => {
                    let Space { blocks, blocks_free, files, files_free } = Space::of(&stat);
                    reply.statfs(blocks, blocks_free, blocks_free, files, files_free, BLOCK_BYTES, 255, BLOCK_BYTES);
                }
                Err(error) => reply.error(fs.failed("statfs", 1, &error)),
            }
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if VirtualFile::numbered(ino).is_some() {
            return reply.error(Errno::ENODATA);
        }
        let (fs, name) = (self.clone(), name.as_bytes().to_vec());
        self.spawn("getxattr", async move {
            match fs.0.vfs.getxattr(Ino(ino.0), &name).await {
                Ok(Some(value)) => reply_xattr(reply, size, &value),
                Ok(None) => reply.error(Errno::ENODATA),
                Err(error) => reply.error(fs.failed("getxattr", ino.0, &error)),
            }
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        if VirtualFile::numbered(ino).is_some() {
            return reply_xattr(reply, size, &[]);
        }
        let fs = self.clone();
        self.spawn("listxattr", async move {
            match fs.0.vfs.listxattr(Ino(ino.0)).await {
                Ok(names) => reply_xattr(reply, size, &ShoalFs::list_xattrs(&names)),
                Err(error) => reply.error(fs.failed("listxattr", ino.0, &error)),
            }
        });
    }
}
