//! The records a volume's metadata is made of, as primitives exchange them; how they are stored is the engine's business.

use bytes::Bytes;
use shoal_format::{Attr, Dentry, FileType, Ino, SliceRecord};

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

    /// Adds another use.
    pub fn add(&mut self, other: DirUsage) {
        self.length += other.length;
        self.space += other.space;
        self.inodes += other.inodes;
    }
}

/// Limits and use of the tree below a directory (spec section 16.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirQuota {
    /// The directory the limits are set on.
    pub ino: Ino,
    /// Most bytes, or -1 for no limit.
    pub max_space: i64,
    /// Most inodes, or -1 for no limit.
    pub max_inodes: i64,
    /// Bytes used below the directory.
    pub used_space: i64,
    /// Inodes below the directory.
    pub used_inodes: i64,
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
    fn every_inode_costs_a_page() {
        for (length, space) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (100_006, 102_400)] {
            assert_eq!(align4k(length), space, "{length}");
        }
    }
}
