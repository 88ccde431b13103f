//! What is known of an open file: its version, and the chunk maps read so far.
//!
//! Shared by all handles of one inode. Never talks to anyone: the caller fetches, this remembers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::RwLock;
use shoal_format::{Attr, Ino, Time};

use crate::chunk_map::ChunkMap;
use crate::write::FileWrites;

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
    /// What is written here and not in the volume yet.
    pub writes: FileWrites,
    /// Tier of the file as last seen: what is written goes there.
    tier: AtomicU8,
    contents: RwLock<Contents>,
}

struct Contents {
    version: Version,
    /// Counts what was forgotten, so that a map fetched before is not kept after.
    generation: u64,
    chunks: HashMap<u32, Arc<ChunkMap>>,
    /// Stamp of the latest change by this process: an attribute that was asked for before it is older than what is known.
    changed_at: u64,
}

impl Inode {
    pub(crate) fn new(ino: Ino, attr: &Attr, block_size: u32) -> Inode {
        let version = Version::of(attr);
        let contents = Contents { version, generation: 0, chunks: HashMap::new(), changed_at: 0 };
        let tier = AtomicU8::new(attr.tier);
        Inode { ino, writes: FileWrites::new(block_size), tier, contents: RwLock::new(contents) }
    }

    /// The tier that blocks of the file are stored in.
    pub(crate) fn tier(&self) -> u8 {
        self.tier.load(Ordering::Relaxed)
    }

    /// Length of the file in bytes: as last seen in the volume, or as written here beyond that.
    pub(crate) fn length(&self) -> u64 {
        // In this order: what is recorded in between is in the volume's length.
        let written = self.writes.end();
        written.max(self.stored_length())
    }

    /// What the file looked like in the volume when it was last seen.
    pub(crate) fn version(&self) -> Version {
        self.contents.read().version
    }

    /// Length of the file in the volume as last seen.
    pub(crate) fn stored_length(&self) -> u64 {
        self.contents.read().version.length
    }

    /// The length, and a number that changes whenever what is known of the file does.
    pub(crate) fn length_and_generation(&self) -> (u64, u64) {
        let written = self.writes.end();
        let contents = self.contents.read();
        (written.max(contents.version.length), contents.generation)
    }

    /// Takes in an attribute that was asked for at stamp `asked_at`; another version means other bytes, so the chunk maps go.
    /// False if this process changed the file since then: the attribute says less than is known.
    pub(crate) fn refresh(&self, attr: &Attr, asked_at: u64) -> bool {
        let version = Version::of(attr);
        self.tier.store(attr.tier, Ordering::Relaxed);
        {
            let contents = self.contents.read();
            if contents.version == version || contents.changed_at > asked_at {
                return contents.changed_at <= asked_at;
            }
        }
        let mut contents = self.contents.write();
        if contents.changed_at > asked_at {
            return false;
        }
        if contents.version != version {
            contents.version = version;
            contents.generation += 1;
            contents.chunks.clear();
        }
        true
    }

    /// This process changed the file at stamp `at`: it looks like `after` now. If it looked like `before` until then and `chunks`
    /// are given, only those are other bytes.
    pub(crate) fn changed_here(&self, before: Option<Version>, after: &Attr, chunks: Option<&[u32]>, at: u64) {
        let mut contents = self.contents.write();
        match chunks {
            Some(chunks) if before == Some(contents.version) => {
                chunks.iter().for_each(|chunk| drop(contents.chunks.remove(chunk)));
            }
            _ => contents.chunks.clear(),
        }
        contents.version = Version::of(after);
        contents.generation += 1;
        contents.changed_at = contents.changed_at.max(at);
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
