//! Why a volume could not be opened, made or loaded.

use std::io;
use std::path::PathBuf;

use shoal_cluster::ClusterError;
use shoal_format::FormatError;
use shoal_meta::MetaError;
use shoal_net::NetError;
use shoal_object::ObjectError;
use shoal_stage::StageError;
use shoal_types::ErrorKind;

/// Opening, formatting or loading a volume failed. Each message is a sentence for the person who typed the command.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The metadata engine failed or refused.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The setting or a block is not as the format says.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The object store failed or refused.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Certificates or the network endpoint are not usable.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Blocks cannot be staged on this host's disk.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The ring could not be reached.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The certificate is of another group than the one named.
    #[error("--group is `{wanted}` but the certificate in {certs} is of group `{group}`")]
    WrongGroup {
        /// The group named.
        wanted: String,
        /// Where the certificate is.
        certs: PathBuf,
        /// The group it is of.
        group: String,
    },
    /// The metadata URL names an engine that does not exist.
    #[error("metadata URL `{url}` has no known scheme; supported now: sqlite3://, postgres://, mysql://, redis://")]
    UnknownScheme {
        /// The URL, without a password.
        url: String,
    },
    /// The metadata URL names an engine of the format that this version does not have yet.
    #[error(
        "metadata engine `{scheme}` is not supported yet; supported now: sqlite3://, postgres://, mysql://, redis://"
    )]
    EngineNotYet {
        /// The URL's scheme.
        scheme: String,
    },
    /// A bucket URL that no object store takes.
    #[error("bucket URL `{url}` is not understood; write file:///DIR, s3://BUCKET or http(s)://HOST[:PORT]/BUCKET")]
    BadBucketUrl {
        /// The URL as given.
        url: String,
    },
    /// `format` found objects that are not its own.
    #[error(
        "object store {store} already holds objects under `{prefix}`, such as `{example}`; remove them, or choose another name or bucket"
    )]
    NotEmpty {
        /// The object store.
        store: String,
        /// The volume's prefix in it.
        prefix: String,
        /// One of the objects.
        example: String,
    },
    /// `format` would change what cannot change.
    #[error(
        "volume `{name}` exists with {field} {existing}; {field} cannot be changed to {wanted} (--force overrides, and makes its data unreadable)"
    )]
    Immutable {
        /// The volume.
        name: String,
        /// The setting.
        field: &'static str,
        /// Its value now.
        existing: String,
        /// Its value as asked.
        wanted: String,
    },
    /// Somebody else changed the setting between a look at it and its change.
    #[error("the setting of volume `{name}` was changed meanwhile; try again")]
    SettingChanged {
        /// The volume.
        name: String,
    },
    /// A `format` option has a value out of bounds.
    #[error("{option}: {reason}")]
    BadOption {
        /// The option as typed.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or directory of the source, or a key file, cannot be read.
    #[error("cannot read {path}")]
    Source {
        /// The path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A dump cannot be written or read.
    #[error("{path} cannot be used for a dump")]
    DumpFile {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The import was told to stop.
    #[error("import stopped; {files} files are in the volume, the rest is not")]
    Stopped {
        /// Files committed so far.
        files: u64,
    },
    /// A part of the import ended without a result.
    #[error("import failed inside: {what}")]
    Lost {
        /// Which part.
        what: &'static str,
    },
}

impl VolumeError {
    /// What the caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            VolumeError::Meta(error) => error.kind(),
            VolumeError::Format(error) => error.kind(),
            VolumeError::Object(error) => error.kind(),
            VolumeError::Net(error) => error.kind(),
            VolumeError::Stage(error) => error.kind(),
            VolumeError::Cluster(error) => error.kind(),
            VolumeError::UnknownScheme { .. }
            | VolumeError::WrongGroup { .. }
            | VolumeError::EngineNotYet { .. }
            | VolumeError::BadBucketUrl { .. }
            | VolumeError::BadOption { .. } => ErrorKind::Invalid,
            VolumeError::NotEmpty { .. } | VolumeError::Immutable { .. } | VolumeError::SettingChanged { .. } => {
                ErrorKind::Conflict
            }
            VolumeError::Source { source, .. } | VolumeError::DumpFile { source, .. } => ErrorKind::of_io(source),
            VolumeError::Stopped { .. } => ErrorKind::Cancelled,
            VolumeError::Lost { .. } => ErrorKind::Internal,
        }
    }
}
