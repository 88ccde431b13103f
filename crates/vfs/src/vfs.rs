//! A volume as files: names, attributes, open files.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use shoal_cache::ClientCache;
use shoal_format::{Attr, BlockCodec, FileType, Ino, Layout};
use shoal_meta::{DirEntry, Meta, StatFs};
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use shoal_types::OriginId;
use tokio::runtime::Handle;

use crate::chunk_map::BlockNames;
use crate::error::VfsError;
use crate::inode::{Inode, Version};
use crate::metrics::VfsMetrics;
use crate::open_file::OpenFile;

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
}

/// What a user can turn.
#[derive(Debug, Clone)]
pub struct VfsOptions {
    /// Bytes fetched ahead of one sequential reader at most; 0 turns read-ahead off.
    pub max_readahead: u64,
}

impl Default for VfsOptions {
    /// 32 MiB: eight 4 MiB blocks in flight hide 30 ms of latency at 1 GB/s.
    fn default() -> VfsOptions {
        VfsOptions { max_readahead: 32 << 20 }
    }
}

/// Remembered looks of files closed before, to keep the kernel's pages of an unchanged file. At the bound all are dropped.
const SEEN_MAX: usize = 65_536;

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
    fn admit(&mut self, ino: Ino, inode: &Arc<Inode>) {
        if self.open.len() >= self.sweep_at {
            self.open.retain(|_, inode| inode.strong_count() > 0);
            self.sweep_at = SWEEP_MIN.max(2 * self.open.len());
        }
        self.open.insert(ino, Arc::downgrade(inode));
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
    pub fn new(parts: Parts, options: VfsOptions, runtime: Handle, registry: &Registry) -> Vfs {
        let metrics = VfsMetrics::register(registry);
        Vfs(Arc::new(Inner { parts, options, runtime, metrics, table: Mutex::default() }))
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

    pub(crate) fn max_readahead(&self) -> u64 {
        self.0.options.max_readahead
    }

    pub(crate) fn spawn<F>(&self, name: &'static str, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(task::spawn_on(&self.0.runtime, name, work));
    }

    /// The inode and attribute of `name` in directory `parent`; `None` if there is no such name.
    pub async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<(Ino, Attr)>, VfsError> {
        let found = self.meta().lookup(parent, name).await?;
        if let Some((ino, attr)) = &found {
            self.note_attr(*ino, attr);
        }
        Ok(found)
    }

    /// The attribute of `ino`. Errors: `NotFound`.
    pub async fn getattr(&self, ino: Ino) -> Result<Attr, VfsError> {
        let attr = self.meta().getattr(ino).await?.ok_or(VfsError::NoInode { ino })?;
        self.note_attr(ino, &attr);
        Ok(attr)
    }

    /// Every entry of directory `ino` but `.` and `..`, with attributes where the engine has them at hand.
    pub async fn readdir(&self, ino: Ino) -> Result<Vec<DirEntry>, VfsError> {
        let entries = self.meta().readdir(ino).await?;
        self.note_listing(&entries);
        Ok(entries)
    }

    /// Target of symbolic link `ino`. Errors: `NotFound`.
    pub async fn readlink(&self, ino: Ino) -> Result<Bytes, VfsError> {
        self.meta().readlink(ino).await?.ok_or(VfsError::NoInode { ino })
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
        Ok(self.meta().statfs().await?)
    }

    /// Opens regular file `ino` for reading, with a fresh look at its attribute (close-to-open consistency).
    ///
    /// Errors: `NotFound`; `Invalid` if it is not a regular file.
    pub async fn open(&self, ino: Ino) -> Result<Opened, VfsError> {
        let attr = self.meta().getattr(ino).await?.ok_or(VfsError::NoInode { ino })?;
        if attr.kind != FileType::Regular {
            return Err(VfsError::NotAFile { ino });
        }
        let mut table = self.0.table.lock();
        let now = Version::of(&attr);
        let keep_cache = table.seen.get(&ino) == Some(&now);
        if table.seen.len() >= SEEN_MAX {
            table.seen.clear();
        }
        table.seen.insert(ino, now);
        let inode = match table.open.get(&ino).and_then(Weak::upgrade) {
            Some(inode) => inode,
            None => {
                let inode = Arc::new(Inode::new(ino, &attr));
                table.admit(ino, &inode);
                inode
            }
        };
        drop(table);
        inode.refresh(&attr);
        Ok(Opened { file: OpenFile::new(inode), keep_cache })
    }

    /// Forgets a file whose last handle this is. Reads still running on it go on.
    pub fn close(&self, file: &OpenFile) {
        let mut table = self.0.table.lock();
        if Arc::strong_count(&file.inode) == 1 {
            table.open.remove(&file.inode.ino);
        }
    }

    /// The kernel takes lengths from listings too: an open file that knew less than the kernel would end early.
    fn note_listing(&self, entries: &[DirEntry]) {
        if self.0.table.lock().open.is_empty() {
            return;
        }
        for entry in entries {
            if let Some(attr) = &entry.attr {
                self.note_attr(entry.ino, attr);
            }
        }
    }

    /// An open file sees what any fresh attribute says of it.
    fn note_attr(&self, ino: Ino, attr: &Attr) {
        if attr.kind != FileType::Regular {
            return;
        }
        let open = self.0.table.lock().open.get(&ino).and_then(Weak::upgrade);
        if let Some(inode) = open {
            inode.refresh(attr);
        }
    }
}
