//! What can go wrong with a volume's metadata, and what a caller may do about it.

use shoal_format::{FormatError, Ino};
use shoal_types::ErrorKind;

use crate::name::show_name;

/// Why POSIX refuses an operation, where a front door has to tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The directory has entries.
    NotEmpty,
    /// The operation is not for directories.
    IsDirectory,
    /// The caller lacks a permission bit.
    Access,
    /// Nobody may do this, or only an owner or root.
    NotPermitted,
    /// A name is longer than 255 bytes.
    NameTooLong,
    /// There is no such extended attribute.
    NoAttribute,
    /// A quota of a directory, user or group is used up.
    Quota,
    /// The file has as many names as it can have.
    Links,
    /// The file would be longer than a file can be.
    TooBig,
    /// The volume or this version does not do this.
    Unsupported,
    /// Another holds a lock that is in the way.
    Locked,
    /// The caller gave up waiting.
    Interrupted,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 12] = [
        Refusal::NotEmpty,
        Refusal::IsDirectory,
        Refusal::Access,
        Refusal::NotPermitted,
        Refusal::NameTooLong,
        Refusal::NoAttribute,
        Refusal::Quota,
        Refusal::Links,
        Refusal::TooBig,
        Refusal::Unsupported,
        Refusal::Locked,
        Refusal::Interrupted,
    ];

    fn kind(self) -> ErrorKind {
        match self {
            Refusal::NotEmpty | Refusal::IsDirectory | Refusal::NameTooLong | Refusal::Links => ErrorKind::Invalid,
            Refusal::TooBig | Refusal::Unsupported => ErrorKind::Invalid,
            Refusal::Access | Refusal::NotPermitted => ErrorKind::Denied,
            Refusal::NoAttribute => ErrorKind::NotFound,
            Refusal::Quota => ErrorKind::NoSpace,
            Refusal::Locked => ErrorKind::Conflict,
            Refusal::Interrupted => ErrorKind::Cancelled,
        }
    }
}

/// Reading or changing a volume's metadata failed. Each message is one sentence that stands alone: it has no source to
/// print behind it.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The database holds no volume.
    #[error("no volume at {at}")]
    NoVolume {
        /// The database, as messages name it.
        at: String,
    },
    /// There is no database to open.
    #[error("no database at {at}")]
    NoDatabase {
        /// Where it was looked for.
        at: String,
    },
    /// A volume is to be created where one exists.
    #[error("volume `{name}` exists already at {at}")]
    VolumeExists {
        /// The existing volume's name.
        name: String,
        /// The database, as messages name it.
        at: String,
    },
    /// A database is to be loaded that holds records, though no volume.
    #[error("{at} holds what a load that did not end left behind; empty it first")]
    NotEmpty {
        /// The database, as messages name it.
        at: String,
    },
    /// An inode has no attributes.
    #[error("inode {ino} does not exist")]
    NoInode {
        /// The inode.
        ino: u64,
    },
    /// A directory holds this name already.
    #[error("`{name}` exists already in directory {parent}")]
    Exists {
        /// The directory.
        parent: u64,
        /// The name, printable.
        name: String,
    },
    /// Something else that must be new exists already.
    #[error("{what} exists already")]
    Taken {
        /// What exists.
        what: String,
    },
    /// A directory was needed.
    #[error("{what} is not a directory")]
    NotDirectory {
        /// The path or inode that is none.
        what: String,
    },
    /// A directory does not hold this name.
    #[error("there is no `{name}` in directory {parent}")]
    NoEntry {
        /// The directory.
        parent: u64,
        /// The name, printable.
        name: String,
    },
    /// The request is wrong and stays wrong.
    #[error("{what}")]
    Invalid {
        /// The sentence to show.
        what: String,
    },
    /// The request asks for more than the volume or a directory may hold.
    #[error("{what}")]
    NoSpace {
        /// The sentence to show.
        what: String,
    },
    /// Blocks of a slice could not be deleted; some may be.
    #[error("blocks of slice {slice} cannot be deleted: {detail}")]
    Blocks {
        /// The slice.
        slice: u64,
        /// What the object store said.
        detail: String,
        /// What a caller may do about it.
        kind: ErrorKind,
    },
    /// The object store cannot promise that blocks outlive a loss of power.
    #[error("blocks cannot be made durable: {detail}")]
    Unsynced {
        /// What the object store said.
        detail: String,
        /// What a caller may do about it.
        kind: ErrorKind,
    },
    /// Stored metadata breaks the format.
    #[error("{what}")]
    Corrupt {
        /// The sentence to show.
        what: String,
    },
    /// The database is open for reading.
    #[error("{at} is open for reading only")]
    ReadOnly {
        /// The database, as messages name it.
        at: String,
    },
    /// Other writers kept the database busy, or changed what a transaction read. Worth another try.
    #[error("{at} stayed busy with other writers")]
    Contended {
        /// The database, as messages name it.
        at: String,
    },
    /// The rules of a file system forbid it.
    #[error("{what}")]
    Refused {
        /// Which rule.
        why: Refusal,
        /// The sentence to show.
        what: String,
    },
    /// The client may not change the volume any more.
    #[error("{at} cannot be changed any more: {why}")]
    Lost {
        /// The database, as messages name it.
        at: String,
        /// What happened.
        why: String,
    },
    /// Whoever it was done for has given up.
    #[error("{what} was given up")]
    Stopped {
        /// What was under way.
        what: &'static str,
    },
    /// The database refused or failed.
    #[error("metadata database {at} failed: {detail}")]
    Database {
        /// The database, as messages name it.
        at: String,
        /// What the database said.
        detail: String,
        /// What a caller may do about it.
        kind: ErrorKind,
    },
    /// A stored record or setting breaks the format.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl MetaError {
    /// What a caller may do about the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            MetaError::NoVolume { .. }
            | MetaError::NoDatabase { .. }
            | MetaError::NoInode { .. }
            | MetaError::NoEntry { .. } => ErrorKind::NotFound,
            MetaError::VolumeExists { .. }
            | MetaError::NotEmpty { .. }
            | MetaError::Exists { .. }
            | MetaError::Taken { .. } => ErrorKind::Conflict,
            MetaError::NotDirectory { .. } | MetaError::Invalid { .. } => ErrorKind::Invalid,
            MetaError::NoSpace { .. } => ErrorKind::NoSpace,
            MetaError::Corrupt { .. } => ErrorKind::Corrupt,
            MetaError::ReadOnly { .. } => ErrorKind::Denied,
            MetaError::Contended { .. } => ErrorKind::Unavailable,
            MetaError::Refused { why, .. } => why.kind(),
            MetaError::Lost { .. } => ErrorKind::Denied,
            MetaError::Stopped { .. } => ErrorKind::Cancelled,
            MetaError::Database { kind, .. } | MetaError::Blocks { kind, .. } | MetaError::Unsynced { kind, .. } => {
                *kind
            }
            MetaError::Format(error) => error.kind(),
        }
    }

    /// Which rule of a file system forbids it, if one does.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            MetaError::Refused { why, .. } => Some(*why),
            _ => None,
        }
    }

    pub(crate) fn no_inode(ino: Ino) -> MetaError {
        MetaError::NoInode { ino: ino.0 }
    }

    pub(crate) fn exists(parent: Ino, name: &[u8]) -> MetaError {
        MetaError::Exists { parent: parent.0, name: show_name(name) }
    }

    pub(crate) fn no_entry(parent: Ino, name: &[u8]) -> MetaError {
        MetaError::NoEntry { parent: parent.0, name: show_name(name) }
    }

    pub(crate) fn refused(why: Refusal, what: impl Into<String>) -> MetaError {
        MetaError::Refused { why, what: what.into() }
    }

    pub(crate) fn invalid(what: impl Into<String>) -> MetaError {
        MetaError::Invalid { what: what.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stand_alone() {
        let at = || "sqlite3://a.db".to_owned();
        let errors = [
            MetaError::NoVolume { at: at() },
            MetaError::Contended { at: at() },
            MetaError::Database { at: at(), detail: "disk I/O error".into(), kind: ErrorKind::Unavailable },
        ];
        for error in errors {
            assert!(std::error::Error::source(&error).is_none(), "{error} would print twice");
        }
    }

    #[test]
    fn only_contention_and_the_database_are_unavailable() {
        assert_eq!(MetaError::Contended { at: String::new() }.kind(), ErrorKind::Unavailable);
        assert_eq!(MetaError::Exists { parent: 1, name: "a".into() }.kind(), ErrorKind::Conflict);
        assert_eq!(MetaError::NoVolume { at: String::new() }.kind(), ErrorKind::NotFound);
    }
}
