//! A volume as files: names, attributes, open files.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_cache::ClientCache;
use shoal_format::{Attr, BlockCodec, FileType, Ino, Layout};
use shoal_meta::{AtimeMode, DirEntry, Meta, StatFs};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_types::OriginId;
use tokio::runtime::Handle;

use crate::chunk_map::BlockNames;
use crate::error::VfsError;
use crate::inode::{Inode, Version};
use crate::metrics::VfsMetrics;
use crate::open_cache::OpenCache;
use crate::open_file::OpenFile;
use crate::writers::{WriteParts, Writers};

/// What a volume is made of.
pub struct Parts {
    /// Its namespace.
    pub meta: Meta,
    /// Its bytes.
    pub cache: ClientCache,
    /// How its blocks are named.
    pub layout: Layout,
    /// How its blocks are encoded.
    pub codec: BlockCodec,
    /// Its identity among origins.
    pub origin: OriginId,
    /// How it is written; without, it is read only.
    pub writes: Option<WriteParts>,
}

/// What a user can turn.
#[derive(Debug, Clone)]
pub struct VfsOptions {
    /// Bytes fetched ahead of one sequential reader at most; 0 turns read-ahead off.
    pub max_readahead: u64,
    /// How long a file that was opened is opened again without a look whether another client changed it; zero: never.
    pub open_cache: Duration,
    /// Files of which that is known, at most.
    pub open_cache_files: usize,
    /// When reading changes the time of the last access, where the volume is written at all.
    pub atime: AtimeMode,
    /// Where the volume is written, its use is what this client knows of it, and nobody is asked.
    pub fast_statfs: bool,
}

impl Default for VfsOptions {
    /// 32 MiB: eight 4 MiB blocks in flight hide 30 ms of latency at 1 GB/s. Every open looks anew, no read is noted.
    fn default() -> VfsOptions {
        VfsOptions {
            max_readahead: 32 << 20,
            open_cache: Duration::ZERO,
            open_cache_files: 10_000,
            atime: AtimeMode::Never,
            fast_statfs: false,
        }
    }
}

/// Remembered looks of files closed before, to keep the kernel's pages of an unchanged file. At the bound all are dropped.
const SEEN_MAX: usize = 65_536;

/// How often an attribute is asked for that is older than a change of the file by this process.
const ATTRS_ASKED_MAX: u32 = 3;

/// Open inodes from which on the table is swept of closed ones that a read-ahead held on to as they were closed.
const SWEEP_MIN: usize = 1024;

/// A volume as files. Cheap to clone.
#[derive(Clone)]
pub struct Vfs(Arc<Inner>);

struct Inner {
    parts: Parts,
    options: VfsOptions,
    runtime: Handle,
    metrics: VfsMetrics,
    table: Mutex<Table>,
    open_cache: OpenCache,
    writers: Option<Arc<Writers>>,
    /// Changes to files by this process so far: tells attributes asked for before one from those asked for after it.
    changes: AtomicU64,
}

/// Open inodes, and what closed ones looked like.
#[derive(Default)]
struct Table {
    open: HashMap<Ino, Weak<Inode>>,
    /// Entries of `open` at which it is swept next.
    sweep_at: usize,
    seen: HashMap<Ino, Version>,
}

impl Table {
    /// The inode that is open, or a new one.
    fn open(&mut self, ino: Ino, new: impl FnOnce() -> Inode) -> Arc<Inode> {
        if let Some(inode) = self.open.get(&ino).and_then(Weak::upgrade) {
            return inode;
        }
        if self.open.len() >= self.sweep_at {
            self.open.retain(|_, inode| inode.strong_count() > 0);
            self.sweep_at = SWEEP_MIN.max(2 * self.open.len());
        }
        let inode = Arc::new(new());
        self.open.insert(ino, Arc::downgrade(&inode));
        inode
    }
}

/// A file was opened.
pub struct Opened {
    /// The handle to read through.
    pub file: OpenFile,
    /// True if the file has not changed since this process last opened it: pages the kernel holds are still good.
    pub keep_cache: bool,
}

impl Vfs {
    /// Files of the volume made of `parts`; background work runs on `runtime`.
    pub fn new(mut parts: Parts, options: VfsOptions, runtime: Handle, registry: &Registry) -> Vfs {
        let metrics = VfsMetrics::register(registry);
        let block_size = u64::from(parts.layout.block_size);
        let writers = parts.writes.take().map(|writes| Arc::new(Writers::new(writes, block_size)));
        if let Some(writers) = writers.clone() {
            let gauge = registry.gauge("shoal_vfs_unstored_bytes", "Bytes written to files and not stored yet");
            registry.on_scrape(move || gauge.set_u64(writers.used()));
        }
        let (table, changes) = (Mutex::default(), AtomicU64::new(0));
        let open_cache = OpenCache::new(options.open_cache, options.open_cache_files);
        Vfs(Arc::new(Inner { parts, options, runtime, metrics, table, open_cache, writers, changes }))
    }

    /// True if files can be written.
    pub fn is_writable(&self) -> bool {
        self.0.writers.is_some()
    }

    /// What writes go through; `None` for a volume that is only read.
    pub(crate) fn writers(&self) -> Option<&Arc<Writers>> {
        self.0.writers.as_ref()
    }

    /// Stamp of the latest change by this process: to be read before attributes are asked for.
    pub(crate) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::SeqCst)
    }

    /// Stamp for a change that is complete in the volume.
    pub(crate) fn next_change(&self) -> u64 {
        self.0.changes.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The volume's namespace.
    pub fn meta(&self) -> &Meta {
        &self.0.parts.meta
    }

    /// The volume's blocks.
    pub fn cache(&self) -> &ClientCache {
        &self.0.parts.cache
    }

    pub(crate) fn metrics(&self) -> &VfsMetrics {
        &self.0.metrics
    }

    pub(crate) fn block_names(&self) -> BlockNames<'_> {
        let parts = &self.0.parts;
        BlockNames { layout: &parts.layout, codec: &parts.codec, origin: parts.origin }
    }

    pub(crate) fn block_size(&self) -> u64 {
        u64::from(self.0.parts.layout.block_size)
    }

    pub(crate) fn options(&self) -> &VfsOptions {
        &self.0.options
    }

    pub(crate) fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(task::spawn_on(&self.0.runtime, name, work));
    }

    /// The inode and attribute of `name` in directory `parent`; `None` if there is no such name.
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<(Ino, Attr)>, VfsError> {
        let asked_at = self.changes();
        let found = self.meta().lookup(parent, name).await?;
        Ok(found.map(|(ino, attr)| {
            self.note_attr(ino, &attr, asked_at);
            (ino, self.with_pending(ino, attr))
        }))
    }

    /// The attribute of `ino`. Errors: `NotFound`.
    pub async fn getattr(&self, ino: Ino) -> Result<Attr, VfsError> {
        match self.0.open_cache.get(ino, clock::now()) {
            Some((attr, _)) => Ok(self.with_pending(ino, attr)),
            None => self.look_anew(ino).await,
        }
    }

    /// The attribute of `ino` as the volume says it now. Errors: `NotFound`.
    pub(crate) async fn look_anew(&self, ino: Ino) -> Result<Attr, VfsError> {
        let mut attempt = 0;
        loop {
            let asked_at = self.changes();
            let attr = self.meta().getattr(ino).await?.ok_or(VfsError::NoInode { ino })?;
            attempt += 1;
            if self.note_attr(ino, &attr, asked_at) || attempt == ATTRS_ASKED_MAX {
                return Ok(self.with_pending(ino, attr));
            }
        }
    }

    /// Every entry of directory `ino` but `.` and `..`, with attributes where the engine has them at hand.
    pub async fn readdir(&self, ino: Ino) -> Result<Vec<DirEntry>, VfsError> {
        let asked_at = self.changes();
        let mut entries = self.meta().readdir(ino).await?;
        self.note_listing(&mut entries, asked_at);
        Ok(entries)
    }

    /// Target of symbolic link `ino`. Errors: `NotFound`.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes, VfsError> {
        let target = self.meta().readlink(ino).await?.ok_or(VfsError::NoInode { ino })?;
        if self.notes_reads()
            && let Some(attr) = self.meta().getattr(ino).await?
        {
            self.note_read(ino, &attr).await;
        }
        Ok(target)
    }

    /// Value of extended attribute `name`, if it is set.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, VfsError> {
        Ok(self.meta().getxattr(ino, name).await?)
    }

    /// Names of all extended attributes.
    pub async fn listxattr(&self, ino: Ino) -> Result<Vec<Bytes>, VfsError> {
        Ok(self.meta().listxattr(ino).await?)
    }

    /// Space and inodes of the volume.
    pub async fn statfs(&self) -> Result<StatFs, VfsError> {
        match self.writers() {
            Some(writers) if self.options().fast_statfs => Ok(writers.session.known_statfs()),
            _ => Ok(self.meta().statfs().await?),
        }
    }

    /// Opens regular file `ino`, with a fresh look at its attribute (close-to-open consistency) unless it was opened lately and
    /// [`VfsOptions::open_cache`] says that this is enough.
    ///
    /// Errors: `NotFound`; `Invalid` if it is not a regular file. To be given back by [`Vfs::release`].
    pub async fn open(&self, ino: Ino) -> Result<Opened, VfsError> {
        self.hold(ino);
        let opened = self.open_held(ino).await;
        if opened.is_err() {
            self.let_go(ino).await;
        }
        opened
    }

    async fn open_held(&self, ino: Ino) -> Result<Opened, VfsError> {
        let (asked_at, now) = (self.changes(), clock::now());
        if let Some((attr, inode)) = self.0.open_cache.get(ino, now) {
            let keep_cache = self.see(ino, &attr);
            self.note_read(ino, &attr).await;
            return Ok(Opened { file: OpenFile::new(inode), keep_cache });
        }
        let attr = self.meta().getattr(ino).await?.ok_or(VfsError::NoInode { ino })?;
        if attr.kind != FileType::Regular {
            return Err(VfsError::NotAFile { ino });
        }
        let keep_cache = self.see(ino, &attr);
        let inode = self.0.table.lock().open(ino, || Inode::new(ino, &attr, self.0.parts.layout.block_size));
        inode.refresh(&attr, asked_at);
        self.0.open_cache.keep(&inode, &attr, asked_at, now);
        self.note_read(ino, &attr).await;
        Ok(Opened { file: OpenFile::new(inode), keep_cache })
    }

    /// Remembers how a file looks that is being opened; true if it has not changed since it was opened before.
    fn see(&self, ino: Ino, attr: &Attr) -> bool {
        let (mut table, now) = (self.0.table.lock(), Version::of(attr));
        if table.seen.len() >= SEEN_MAX && !table.seen.contains_key(&ino) {
            table.seen.clear();
        }
        table.seen.insert(ino, now) == Some(now)
    }

    /// Pages that the kernel holds of file `ino` are not to be kept when it is opened next.
    pub(crate) fn forget_seen(&self, ino: Ino) {
        self.forget_opened(ino);
        self.0.table.lock().seen.remove(&ino);
    }

    /// Forgets a file whose last handle this is. Reads still running on it go on.
    pub fn close(&self, file: &OpenFile) {
        let mut table = self.0.table.lock();
        if Arc::strong_count(&file.inode) == 1 {
            table.open.remove(&file.inode.ino);
        }
    }

    /// The inode if a file has it open.
    pub(crate) fn open_inode(&self, ino: Ino) -> Option<Arc<Inode>> {
        self.0.table.lock().open.get(&ino).and_then(Weak::upgrade)
    }

    /// This process changed file `ino` in some way: what was known of it when it was opened is old.
    pub(crate) fn forget_opened(&self, ino: Ino) {
        self.0.open_cache.forget(ino);
    }

    /// The same of files nobody named.
    pub(crate) fn forget_all_opened(&self) {
        self.0.open_cache.forget_all();
    }

    /// This process changed a file that looked like `before`: pages that the kernel holds of it are what it wrote.
    pub(crate) fn note_own_change(&self, ino: Ino, before: Option<Version>, after: &Attr) {
        self.forget_opened(ino);
        let mut table = self.0.table.lock();
        if let Some(seen) = table.seen.get_mut(&ino)
            && Some(*seen) == before
        {
            *seen = Version::of(after);
        }
    }

    /// The kernel takes lengths from listings too: an open file that knew less than the kernel would end early.
    fn note_listing(&self, entries: &mut [DirEntry], asked_at: u64) {
        if self.0.table.lock().open.is_empty() {
            return;
        }
        for entry in entries {
            if let Some(attr) = entry.attr.take() {
                self.note_attr(entry.ino, &attr, asked_at);
                entry.attr = Some(self.with_pending(entry.ino, attr));
            }
        }
    }

    /// An open file sees what any fresh attribute says of it. False if this process changed it after `asked_at`.
    pub(crate) fn note_attr(&self, ino: Ino, attr: &Attr, asked_at: u64) -> bool {
        if attr.kind != FileType::Regular {
            return true;
        }
        self.0.open_cache.refresh(ino, attr, asked_at, clock::now());
        self.open_inode(ino).is_none_or(|inode| inode.refresh(attr, asked_at))
    }
}
