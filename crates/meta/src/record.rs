//! The records a volume's metadata is made of, as primitives exchange them; how they are stored is the engine's business.

use bytes::Bytes;
use shoal_format::{Attr, Dentry, FileType, Ino, SliceRecord, Time};

/// A name in a directory and, where the inode has any, its attributes. A dentry without attributes is damaged: it is
/// listed, but a lookup does not find it (spec section 8.1).
#[derive(Debug, Clone, PartialEq)]
pub struct DirEntry {
    /// The name's bytes, 1 to 255 of them, without `/` and NUL.
    pub name: Bytes,
    /// The inode it names.
    pub ino: Ino,
    /// Type of the inode as the dentry says.
    pub kind: FileType,
    /// The inode's attributes.
    pub attr: Option<Attr>,
}

/// What one name stands for: [`DirEntry`] without the name.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The stored dentry.
    pub dentry: Dentry,
    /// The inode's attributes.
    pub attr: Option<Attr>,
}

/// A dentry to insert.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDentry {
    /// The directory.
    pub parent: Ino,
    /// The name's bytes.
    pub name: Bytes,
    /// What it stands for.
    pub dentry: Dentry,
}

/// A change of a directory by a change of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirTouch {
    /// The directory.
    pub ino: Ino,
    /// Sub-directories it got, or lost if negative.
    pub nlink: i32,
    /// Its new time of change.
    pub mtime: Time,
    /// Its inode's new time of change.
    pub ctime: Time,
}

/// An extended attribute to insert.
#[derive(Debug, Clone, PartialEq)]
pub struct Xattr {
    /// The inode it belongs to.
    pub ino: Ino,
    /// Its name's bytes, at most 255.
    pub name: Bytes,
    /// Its value, at most 65,536 bytes.
    pub value: Bytes,
}

/// Records to append to one chunk's list.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkSlices {
    /// The file.
    pub ino: Ino,
    /// Which 64 MiB of it.
    pub index: u32,
    /// The records, oldest first.
    pub slices: Vec<SliceRecord>,
}

/// How often a slice is named by chunk lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceRef {
    /// The slice.
    pub id: u64,
    /// Its stored size in bytes.
    pub size: u32,
    /// True count of records that name it; how an engine stores the count is its own convention (spec section 11).
    pub count: u32,
}

/// Slices that lost a reference which is counted until the time for taking things back is over (spec section 11.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedSlices {
    /// The slice that took their place: names the record, together with the time.
    pub id: u64,
    /// When, in unix seconds.
    pub at: i64,
    /// Ids and stored sizes, one for each reference.
    pub slices: Vec<(u64, u32)>,
}

impl DelayedSlices {
    /// Bytes of one slice in the stored list.
    const ENTRY_BYTES: usize = 12;

    /// The list as every engine stores it: id and size, big-endian.
    pub fn encode(&self) -> Vec<u8> {
        self.slices.iter().flat_map(|(id, size)| id.to_be_bytes().into_iter().chain(size.to_be_bytes())).collect()
    }

    /// The list of a stored record; `None` for bytes that are none.
    pub fn decode(bytes: &[u8]) -> Option<Vec<(u64, u32)>> {
        let entries = bytes.chunks_exact(DelayedSlices::ENTRY_BYTES);
        let whole = entries.remainder().is_empty();
        let entry =
            |raw: &[u8]| Some((u64::from_be_bytes(*raw.first_chunk()?), u32::from_be_bytes(*raw.last_chunk()?)));
        if whole { entries.map(entry).collect() } else { None }
    }
}

/// How often `parent` holds a name of the hard-linked file `ino` (spec section 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParentCount {
    /// The file.
    pub ino: Ino,
    /// The directory.
    pub parent: Ino,
    /// Names of the file in that directory.
    pub count: i64,
}

/// What the direct children of a directory use, or a change of it (spec section 16.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DirUsage {
    /// Sum of the lengths of regular files, in bytes.
    pub length: i64,
    /// Sum of their accounted space, in bytes: see [`align4k`].
    pub space: i64,
    /// Number of children.
    pub inodes: i64,
}

impl DirUsage {
    /// What one child with these attributes uses.
    pub fn of(attr: &Attr) -> DirUsage {
        let length = if attr.kind == FileType::Regular { attr.length } else { 0 };
        DirUsage { length: length as i64, space: align4k(length) as i64, inodes: 1 }
    }

    /// The opposite change.
    pub fn negated(self) -> DirUsage {
        DirUsage { length: -self.length, space: -self.space, inodes: -self.inodes }
    }

    /// Adds another use.
    pub fn add(&mut self, other: DirUsage) {
        self.length += other.length;
        self.space += other.space;
        self.inodes += other.inodes;
    }
}

/// Numbers a volume keeps beside its namespace (spec section 12). Ids are taken through [`IdKind`] instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// Accounted bytes of every inode but the root and the trash root.
    UsedSpace,
    /// Number of inodes but the root and the trash root.
    TotalInodes,
}

/// Numbers that are handed out once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdKind {
    /// Inode numbers, from 2.
    Inode,
    /// Slice ids, from 1.
    Slice,
}

/// Space an inode of `length` bytes is accounted with: whole pages of 4 KiB, and one for an empty file.
pub fn align4k(length: u64) -> u64 {
    length.max(1).saturating_add(4095) & !4095
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delayed_slices_have_the_stored_form_of_real_clients() {
        let delayed = DelayedSlices { id: 9, at: 1, slices: vec![(7, 100), (0x0102_0304_0506_0708, 0x0A0B_0C0D)] };
        let bytes = delayed.encode();
        assert_eq!(bytes[..12], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 100]);
        assert_eq!(bytes[12..], [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13]);
        assert_eq!(DelayedSlices::decode(&bytes), Some(delayed.slices));
        assert_eq!(DelayedSlices::decode(&bytes[1..]), None);
        assert_eq!(DelayedSlices::decode(&[]), Some(Vec::new()));
    }

    #[test]
    fn every_inode_costs_a_page() {
        for (length, space) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (100_006, 102_400)] {
            assert_eq!(align4k(length), space, "{length}");
        }
    }
}
