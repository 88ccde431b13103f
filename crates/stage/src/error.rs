//! Why blocks cannot be staged, or staged ones not be used.

use std::io;
use std::path::PathBuf;

use shoal_types::ErrorKind;

/// The staging directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// Another process has the directory.
    #[error("{dir} is in use: another mount of this volume stages blocks there; choose another --cache-dir")]
    InUse {
        /// The volume's directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("{what} {path} failed: {source}")]
    Io {
        /// What was tried, such as `writing`.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A staged file does not hold what was written to it.
    #[error("staged block {path} is damaged ({why}); it is left there and not stored")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
}

impl StageError {
    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StageError {
        let path = path.into();
        move |source| StageError::Io { what, path, source }
    }

    /// What the caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StageError::InUse { .. } => ErrorKind::Conflict,
            StageError::Io { source, .. } => ErrorKind::of_io(source),
            StageError::Damaged { .. } => ErrorKind::Corrupt,
        }
    }
}
