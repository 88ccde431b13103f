//! What is known of an open file: its version, and the chunk maps read so far.
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

/// What tells one state of a file's bytes from another. The ctime is in it because tools that copy times give other bytes the
/// same length and mtime; JuiceFS looks at the mtime alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    length: u64,
    mtime: Time,
    ctime: Time,
}

impl Version {
    pub(crate) fn of(attr: &Attr) -> Version {
        Version { length: attr.length, mtime: attr.mtime, ctime: attr.ctime }
    }
}

/// One open inode.
pub(crate) struct Inode {
    pub ino: Ino,
    contents: RwLock<Contents>,
}

struct Contents {
    version: Version,
    /// Counts what was forgotten, so that a map fetched before is not kept after.
    generation: u64,
    chunks: HashMap<u32, Arc<ChunkMap>>,
}

impl Inode {
    pub(crate) fn new(ino: Ino, attr: &Attr) -> Inode {
        let contents = Contents { version: Version::of(attr), generation: 0, chunks: HashMap::new() };
        Inode { ino, contents: RwLock::new(contents) }
    }

    /// Length of the file in bytes as last seen.
    pub(crate) fn length(&self) -> u64 {
        self.contents.read().version.length
    }

    /// The length, and a number that changes whenever what is known of the file does.
    pub(crate) fn length_and_generation(&self) -> (u64, u64) {
        let contents = self.contents.read();
        (contents.version.length, contents.generation)
    }

    /// Takes a fresh attribute in; another version means other bytes, so the chunk maps go.
    pub(crate) fn refresh(&self, attr: &Attr) {
        let version = Version::of(attr);
        if self.contents.read().version == version {
            return;
        }
        let mut contents = self.contents.write();
        if contents.version != version {
            contents.version = version;
            contents.generation += 1;
            contents.chunks.clear();
        }
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
