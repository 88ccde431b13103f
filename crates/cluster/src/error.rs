//! What can go wrong in membership.

use std::io;
use std::path::PathBuf;

use shoal_types::{ErrorKind, NodeId};

/// Joining or following a ring failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A member's description breaks a bound.
    #[error("the {field} of node {id} is out of bounds")]
    BadMember {
        /// Which node.
        id: NodeId,
        /// Which field of [`crate::Member`].
        field: &'static str,
    },
    /// A seed that is none of the forms known.
    #[error("`{seed}` is not HOST:PORT, file:PATH or dns:NAME[:PORT]")]
    BadSeed {
        /// What was given.
        seed: String,
    },
    /// A timing that cannot work, such as a probe that ends before its answer is due.
    #[error("cluster timing: {rule}")]
    BadTiming {
        /// What must hold.
        rule: &'static str,
    },
    /// An encoded view could not be read.
    #[error("ring view cannot be read: {what}")]
    BadView {
        /// What is wrong with it.
        what: &'static str,
    },
    /// A view from another version of this program.
    #[error("ring view has format {found}, this version reads format {known}: run one version on all hosts of a ring")]
    OtherView {
        /// Format number in the bytes.
        found: u8,
        /// The format number this version reads.
        known: u8,
    },
    /// No seed and no known node answered in time.
    #[error("no node of the ring answered: tried {tried}")]
    NobodyAnswered {
        /// Addresses with reasons, comma separated.
        tried: String,
    },
    /// A client was started without any address to ask.
    #[error("no address of a ring node is configured")]
    NoSeeds,
    /// The file of remembered members could not be written or read.
    #[error("remembered members in {path} cannot be used")]
    Remembered {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ClusterError {
    /// What a caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClusterError::BadMember { .. }
            | ClusterError::BadSeed { .. }
            | ClusterError::BadTiming { .. }
            | ClusterError::NoSeeds => ErrorKind::Invalid,
            ClusterError::BadView { .. } => ErrorKind::Corrupt,
            ClusterError::OtherView { .. } => ErrorKind::Invalid,
            ClusterError::NobodyAnswered { .. } => ErrorKind::Unavailable,
            ClusterError::Remembered { source, .. } => ErrorKind::of_io(source),
        }
    }
}
