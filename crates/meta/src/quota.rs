//! Limits and use of a directory's tree, of a user and of a group (spec sections 16.3 and 16.4).

use std::fmt;

use shoal_format::{Attr, Ino};

use crate::record::DirUsage;

/// What a quota is set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuotaKey {
    /// Everything below a directory, without the directory itself.
    Dir(Ino),
    /// Every inode a user owns.
    User(u32),
    /// Every inode a group owns.
    Group(u32),
}

/// The kinds of what quotas are set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// Of directories.
    Dir,
    /// Of users.
    User,
    /// Of groups.
    Group,
}

/// Limits and use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// What they are of.
    pub key: QuotaKey,
    /// Most bytes, or -1 for no limit.
    pub max_space: i64,
    /// Most inodes, or -1 for no limit.
    pub max_inodes: i64,
    /// Bytes used.
    pub used_space: i64,
    /// Inodes used.
    pub used_inodes: i64,
}

impl QuotaKey {
    /// The user and the group that an inode is charged to.
    pub(crate) fn owners(attr: &Attr) -> [QuotaKey; 2] {
        [QuotaKey::User(attr.uid), QuotaKey::Group(attr.gid)]
    }

    /// The directory's inode, or the user's or group's number.
    pub fn number(self) -> u64 {
        match self {
            QuotaKey::Dir(ino) => ino.0,
            QuotaKey::User(id) | QuotaKey::Group(id) => u64::from(id),
        }
    }

    /// Its kind.
    pub fn kind(self) -> QuotaKind {
        match self {
            QuotaKey::Dir(_) => QuotaKind::Dir,
            QuotaKey::User(_) => QuotaKind::User,
            QuotaKey::Group(_) => QuotaKind::Group,
        }
    }
}

impl fmt::Display for QuotaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaKey::Dir(ino) => write!(f, "directory {ino}"),
            QuotaKey::User(uid) => write!(f, "user {uid}"),
            QuotaKey::Group(gid) => write!(f, "group {gid}"),
        }
    }
}

impl Quota {
    /// Nothing used and nothing limited.
    pub fn unlimited(key: QuotaKey) -> Quota {
        Quota { key, max_space: -1, max_inodes: -1, used_space: 0, used_inodes: 0 }
    }

    /// True if it refuses anything.
    pub fn is_limited(&self) -> bool {
        self.max_space > 0 || self.max_inodes > 0
    }

    /// The same limits with this use.
    pub fn with_use(self, usage: DirUsage) -> Quota {
        Quota { used_space: usage.space, used_inodes: usage.inodes, ..self }
    }

    /// The use as the change from nothing.
    pub(crate) fn usage(&self) -> DirUsage {
        DirUsage { length: 0, space: self.used_space, inodes: self.used_inodes }
    }
}
