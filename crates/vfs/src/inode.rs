//! What is known of an open file: its length, and the chunk maps read so far.
//!
//! Shared by all handles of one inode. Never talks to anyone: the caller fetches, this remembers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use shoal_format::{Attr, Ino, Time};

use crate::chunk_map::ChunkMap;

/// Chunk maps kept per open file: 256 x 64 MiB = 16 GiB of a file, about 3 KiB each with 4 MiB blocks. At the bound all are
/// dropped and read again as needed.
const CHUNKS_MAX: usize = 256;

/// One open inode.
pub(crate) struct Inode {
    pub ino: Ino,
    contents: RwLock<Contents>,
}

struct Contents {
    length: u64,
    mtime: Time,
    ctime: Time,
    /// Counts what was forgotten, so that a map fetched before is not kept after.
    generation: u64,
    chunks: HashMap<u32, Arc<ChunkMap>>,
}

impl Inode {
    pub(crate) fn new(ino: Ino, attr: &Attr) -> Inode {
        let contents = Contents {
            length: attr.length,
            mtime: attr.mtime,
            ctime: attr.ctime,
            generation: 0,
            chunks: HashMap::new(),
        };
        Inode { ino, contents: RwLock::new(contents) }
    }

    /// Length of the file in bytes as last seen.
    pub(crate) fn length(&self) -> u64 {
        self.contents.read().length
    }

    /// Takes a fresh attribute in; another mtime or length means other bytes, so the chunk maps go. Returns true if they stayed.
    pub(crate) fn refresh(&self, attr: &Attr) -> bool {
        let same = |contents: &Contents| {
            contents.length == attr.length && contents.mtime == attr.mtime && contents.ctime == attr.ctime
        };
        if same(&self.contents.read()) {
            return true;
        }
        let mut contents = self.contents.write();
        let unchanged = contents.length == attr.length && contents.mtime == attr.mtime;
        (contents.length, contents.mtime, contents.ctime) = (attr.length, attr.mtime, attr.ctime);
        if !unchanged {
            contents.generation += 1;
            contents.chunks.clear();
        }
        unchanged
    }

    /// Drops every chunk map: a block they name has gone.
    pub(crate) fn forget_chunks(&self) {
        let mut contents = self.contents.write();
        contents.generation += 1;
        contents.chunks.clear();
    }

    /// The map of chunk `index` if it was read before, and the generation to hand to [`Inode::keep_chunk`] otherwise.
    pub(crate) fn chunk(&self, index: u32) -> Result<Arc<ChunkMap>, u64> {
        let contents = self.contents.read();
        contents.chunks.get(&index).cloned().ok_or(contents.generation)
    }

    /// Remembers the map of chunk `index`, unless the file changed since `generation`.
    pub(crate) fn keep_chunk(&self, index: u32, generation: u64, map: Arc<ChunkMap>) {
        let mut contents = self.contents.write();
        if contents.generation != generation {
            return;
        }
        if contents.chunks.len() >= CHUNKS_MAX {
            contents.chunks.clear();
        }
        contents.chunks.insert(index, map);
    }
}
