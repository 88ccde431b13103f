//! What it means to callers that a write failed: it may be sent long after it was asked for.

use bytes::Bytes;
use shoal_format::Ino;
use shoal_meta::{MetaError, NewDentry, show_name};

/// Whether a statement has to find a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finds {
    /// It may find none.
    Any,
    /// It fails if it finds none.
    Some,
}

/// What a write was for.
#[derive(Debug, Clone)]
pub(crate) enum Meaning {
    /// Nothing that an error has to name.
    Plain,
    /// It makes this inode, which nobody else has.
    Inode(Ino),
    /// It makes this name, which nothing else has.
    Name(Ino, Bytes),
    /// It makes this slice, which nobody else has.
    Slice(u64),
    /// It changes a directory that there is.
    Directory(Ino),
    /// It removes a name that is as it was read.
    OldName,
}

impl Meaning {
    /// Of a new name.
    pub(crate) fn name(new: &NewDentry) -> Meaning {
        Meaning::Name(new.parent, new.name.clone())
    }

    /// Whether it has to find a row.
    pub(crate) fn finds(&self) -> Finds {
        match self {
            Meaning::Directory(_) | Meaning::OldName => Finds::Some,
            Meaning::Plain | Meaning::Inode(_) | Meaning::Name(..) | Meaning::Slice(_) => Finds::Any,
        }
    }

    /// The failure of the write that found no row on database `at`.
    pub(crate) fn not_found(&self, at: &str) -> MetaError {
        match self {
            Meaning::Directory(ino) => MetaError::NoInode { ino: ino.0 },
            _ => MetaError::Contended { at: at.to_owned() },
        }
    }

    /// What it means that a row with the same unique key exists, if the write expects none.
    pub(crate) fn taken(&self) -> Option<MetaError> {
        match self {
            Meaning::Inode(ino) => Some(MetaError::Taken { what: format!("inode {ino}") }),
            Meaning::Name(parent, name) => Some(MetaError::Exists { parent: parent.0, name: show_name(name) }),
            Meaning::Slice(id) => Some(MetaError::Taken { what: format!("slice {id}") }),
            Meaning::Plain | Meaning::Directory(_) | Meaning::OldName => None,
        }
    }
}

/// Of writes whose errors name nothing.
pub(crate) fn plain<T>(_row: &T) -> Meaning {
    Meaning::Plain
}
