//! What can go wrong with a volume's metadata, and what a caller may do about it.

use shoal_format::{FormatError, Ino};
use shoal_types::ErrorKind;

use crate::name::show_name;

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
            MetaError::NoVolume { .. } | MetaError::NoDatabase { .. } | MetaError::NoInode { .. } => {
                ErrorKind::NotFound
            }
            MetaError::VolumeExists { .. } | MetaError::Exists { .. } | MetaError::Taken { .. } => ErrorKind::Conflict,
            MetaError::NotDirectory { .. } | MetaError::Invalid { .. } => ErrorKind::Invalid,
            MetaError::NoSpace { .. } => ErrorKind::NoSpace,
            MetaError::Corrupt { .. } => ErrorKind::Corrupt,
            MetaError::ReadOnly { .. } => ErrorKind::Denied,
            MetaError::Contended { .. } => ErrorKind::Unavailable,
            MetaError::Database { kind, .. } => *kind,
            MetaError::Format(error) => error.kind(),
        }
    }

    pub(crate) fn no_inode(ino: Ino) -> MetaError {
        MetaError::NoInode { ino: ino.0 }
    }

    pub(crate) fn exists(parent: Ino, name: &[u8]) -> MetaError {
        MetaError::Exists { parent: parent.0, name: show_name(name) }
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
