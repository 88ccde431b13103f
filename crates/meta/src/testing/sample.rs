//! Settings and batches that tests of several crates build on.

use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, SessionInfo, Settings, SliceRecord, Time};

use crate::ops::{ImportBatch, ImportEntry, ImportLink};

/// Time of everything in samples: microseconds and nanoseconds that SQL engines must not lose.
pub const TIME: Time = Time { secs: 1_700_000_000, nanos: 123_456_789 };

/// Default settings of a volume named `conform`.
pub fn settings() -> Settings {
    Settings::new("conform", "3a8892bf-10f1-473c-bdf0-b8ed81207873")
}

/// What a client of a test says about itself.
pub fn client() -> SessionInfo {
    SessionInfo {
        version: "conform 1".into(),
        host_name: "host".into(),
        mount_point: "/mnt/conform".into(),
        process_id: 4711,
        ..SessionInfo::default()
    }
}

/// Builds a batch entry by entry.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: ImportBatch,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// A new inode.
    pub fn entry(mut self, parent: u64, name: &[u8], ino: u64, attr: Attr) -> BatchBuilder {
        self.batch.entries.push(ImportEntry {
            parent: Ino(parent),
            name: Bytes::copy_from_slice(name),
            ino: Ino(ino),
            attr,
            symlink: None,
            xattrs: Vec::new(),
            chunks: Vec::new(),
        });
        self
    }

    /// A directory, mode 0755.
    pub fn dir(self, parent: u64, name: &[u8], ino: u64) -> BatchBuilder {
        self.entry(parent, name, ino, attr(FileType::Directory, 0o755))
    }

    /// A regular file of `length` bytes without chunks, mode 0644.
    pub fn file(self, parent: u64, name: &[u8], ino: u64, length: u64) -> BatchBuilder {
        self.entry(parent, name, ino, Attr { length, ..attr(FileType::Regular, 0o644) })
    }

    /// A regular file whose one chunk holds `slices`.
    pub fn sliced(self, parent: u64, name: &[u8], ino: u64, slices: &[SliceRecord]) -> BatchBuilder {
        let length = slices.iter().map(|s| u64::from(s.pos) + u64::from(s.len)).max().unwrap_or(0);
        let mut built = self.file(parent, name, ino, length);
        if let Some(entry) = built.batch.entries.last_mut() {
            entry.chunks.push((0, slices.to_vec()));
        }
        built
    }

    /// A symbolic link.
    pub fn symlink(self, parent: u64, name: &[u8], ino: u64, target: &[u8]) -> BatchBuilder {
        let mut built = self.entry(parent, name, ino, attr(FileType::Symlink, 0o777));
        if let Some(entry) = built.batch.entries.last_mut() {
            entry.symlink = Some(Bytes::copy_from_slice(target));
        }
        built
    }

    /// One more name of a file.
    pub fn link(mut self, parent: u64, name: &[u8], ino: u64) -> BatchBuilder {
        let name = Bytes::copy_from_slice(name);
        self.batch.links.push(ImportLink { parent: Ino(parent), name, ino: Ino(ino) });
        self
    }

    /// An extended attribute of the latest entry.
    pub fn xattr(mut self, name: &[u8], value: &[u8]) -> BatchBuilder {
        if let Some(entry) = self.batch.entries.last_mut() {
            entry.xattrs.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)));
        }
        self
    }

    /// The batch.
    pub fn build(self) -> ImportBatch {
        self.batch
    }
}

/// Attributes of uid 1000, gid 100, at [`TIME`].
pub fn attr(kind: FileType, mode: u16) -> Attr {
    Attr { uid: 1000, gid: 100, ..Attr::new(kind, mode, Ino::NONE, TIME) }
}
