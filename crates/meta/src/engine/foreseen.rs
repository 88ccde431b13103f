//! Reads that are announced, so that they take one round trip together.

use shoal_format::Ino;

/// A read to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreseen<'a> {
    /// [`NamespaceTxn::attrs_held`](crate::NamespaceTxn::attrs_held) of one inode.
    Held(Ino),
    /// [`NamespaceTxn::attrs_locked`](crate::NamespaceTxn::attrs_locked) of one inode.
    Locked(Ino),
    /// [`Records::entry`](crate::Records::entry) of a name in a directory.
    Entry(Ino, &'a [u8]),
    /// The attributes, locked, of the one inode that has a name in a directory then.
    LockedEntry(Ino, &'a [u8]),
    /// [`Records::slice_count`](crate::Records::slice_count) of a chunk.
    SliceCount(Ino, u32),
}
