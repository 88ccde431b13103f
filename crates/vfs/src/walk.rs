//! Walking a tree: every file below some paths, and the blocks it is made of.

use shoal_cache::Block;
use shoal_format::{Attr, CHUNK_BYTES, FileType, Ino};

use crate::error::VfsError;
use crate::inode::Inode;
use crate::vfs::Vfs;

/// One thing met on a walk.
#[derive(Debug, Clone)]
pub struct WalkEntry {
    /// Path from the walk's root, without a leading slash; empty for the root itself.
    pub path: Vec<u8>,
    /// Its inode.
    pub ino: Ino,
    /// Its attribute.
    pub attr: Attr,
}

/// What a walk met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalkReport {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes of the regular files' lengths.
    pub bytes: u64,
}

impl Vfs {
    /// Visits `ino` and everything below it, directories before their entries, never following symbolic links.
    ///
    /// `visit` is called once an entry; an error from it ends the walk. Entries that vanish on the way are passed over. Memory:
    /// what is left of the listings from the root down to the entry visited.
    pub async fn walk<F>(&self, ino: Ino, attr: Attr, mut visit: F) -> Result<WalkReport, VfsError>
    where
        F: AsyncFnMut(WalkEntry) -> Result<(), VfsError>,
    {
        let mut report = WalkReport::default();
        let mut pending = vec![WalkEntry { path: Vec::new(), ino, attr }];
        while let Some(entry) = pending.pop() {
            match entry.attr.kind {
                FileType::Directory => report.dirs += 1,
                FileType::Regular => {
                    report.files += 1;
                    report.bytes += entry.attr.length;
                }
                _ => {}
            }
            if entry.attr.kind == FileType::Directory {
                let children = self.children(&entry).await?;
                visit(entry).await?;
                pending.extend(children.into_iter().rev());
            } else {
                visit(entry).await?;
            }
        }
        Ok(report)
    }

    async fn children(&self, dir: &WalkEntry) -> Result<Vec<WalkEntry>, VfsError> {
        let mut children = Vec::new();
        for entry in self.readdir(dir.ino).await? {
            let attr = match entry.attr {
                Some(attr) => Some(attr),
                None => self.meta().getattr(entry.ino).await?,
            };
            let Some(attr) = attr else { continue };
            let mut path = dir.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            children.push(WalkEntry { path, ino: entry.ino, attr });
        }
        Ok(children)
    }

    /// Every block that holds visible bytes of regular file `ino`, in file order, each once per stretch of it.
    pub async fn file_blocks(&self, ino: Ino, attr: &Attr) -> Result<Vec<Block>, VfsError> {
        let inode = Inode::new(ino, attr, self.block_size() as u32);
        let mut blocks: Vec<Block> = Vec::new();
        for index in 0..attr.length.div_ceil(CHUNK_BYTES) {
            let end = (attr.length - index * CHUNK_BYTES).min(CHUNK_BYTES) as u32;
            let map = self.chunk(&inode, index as u32).await?;
            for segment in map.within(0, end) {
                if blocks.last().is_none_or(|last| last.key != segment.block.key) {
                    blocks.push(segment.block.clone());
                }
            }
        }
        Ok(blocks)
    }
}
