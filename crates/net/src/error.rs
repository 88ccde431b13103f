//! What can go wrong between peers.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shoal_types::ErrorKind;
use shoal_wire::{Status, WireError};

/// A cause of another library, kept for its text only.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Talking to a peer, or preparing to, failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NetError {
    /// A certificate or key file could not be read.
    #[error(
        "cannot read {path}: name the right directory, or make it with `shoal cert init`, then `shoal cert node` or `shoal cert client`"
    )]
    CredentialFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A certificate or key file does not hold what it must.
    #[error("{path} {problem}: make it again with `shoal cert node` or `shoal cert client`")]
    Credential {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A new certificate would overwrite an existing file.
    #[error(
        "{path} exists and is not replaced: choose another directory, or remove it first (`shoal cert init` has --force)"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A certificate could not be made or written.
    #[error("cannot make {path}")]
    Issue {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A group or name has characters that do not fit a certificate.
    #[error("`{name}` is no name: use 1 to 63 letters, digits, `.`, `-` or `_`")]
    Name {
        /// The text.
        name: String,
    },
    /// A setting of the endpoint is out of bounds.
    #[error("{setting} of {value} is out of bounds: {bounds}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        bounds: &'static str,
    },
    /// The socket could not be made.
    #[error("cannot listen on UDP {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The TLS configuration was refused by its library.
    #[error("cannot set up TLS with these credentials")]
    Tls {
        /// Why.
        #[source]
        source: Cause,
    },
    /// A peer could not be connected to.
    #[error("cannot connect to {peer}")]
    Connect {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A peer did not answer a connection attempt in time.
    #[error("no answer from {peer} within {limit:?}")]
    ConnectTimeout {
        /// The peer.
        peer: SocketAddr,
        /// How long was waited.
        limit: Duration,
    },
    /// A peer failed a moment ago and is not asked again yet.
    #[error("{peer} failed a moment ago ({reason}); trying again soon")]
    BackingOff {
        /// The peer.
        peer: SocketAddr,
        /// How it failed.
        reason: String,
    },
    /// One side refuses the other's certificate.
    #[error("{peer}: certificate refused: {reason}")]
    Refused {
        /// The peer.
        peer: SocketAddr,
        /// By whom and why.
        reason: String,
    },
    /// The connection broke while a request was under way.
    #[error("connection to {peer} lost")]
    Lost {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The peer gave up on the request after it had begun to answer.
    #[error("{peer} broke off its answer: {status}")]
    Reset {
        /// The peer.
        peer: SocketAddr,
        /// Why, as far as its code tells.
        status: Status,
    },
    /// The peer ended its answer before it was whole.
    #[error("{peer} ended its answer {missing} bytes too early")]
    Short {
        /// The peer.
        peer: SocketAddr,
        /// Bytes that did not come.
        missing: u64,
    },
    /// The peer did not answer in time.
    #[error("{peer} did not answer within {limit:?}")]
    Timeout {
        /// The peer.
        peer: SocketAddr,
        /// How long was waited.
        limit: Duration,
    },
    /// Bytes of a body are not what their checksum says.
    #[error("bytes from {peer} failed their checksum: sent {sent:08x}, computed {computed:08x}")]
    Corrupt {
        /// The peer.
        peer: SocketAddr,
        /// Checksum in the chunk's header.
        sent: u32,
        /// Checksum of the bytes that came.
        computed: u32,
    },
    /// A message could not be encoded or decoded.
    #[error("message between this process and {peer}")]
    Wire {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        #[source]
        source: WireError,
    },
    /// The peer answered a control request with an error.
    #[error("{peer} answered {status}: {message}")]
    Answered {
        /// The peer.
        peer: SocketAddr,
        /// How it failed.
        status: Status,
        /// The peer's sentence.
        message: String,
    },
    /// A handler sent something other than what its head promised.
    #[error("this handler broke its own promise: {what}")]
    Handler {
        /// What it did.
        what: &'static str,
    },
    /// The destination given for a body has another length than the body.
    #[error("a body of {body} bytes does not fit a buffer of {buffer}")]
    Buffer {
        /// Bytes in the body.
        body: u64,
        /// Bytes in the buffer.
        buffer: u64,
    },
    /// The peer no longer wants the answer.
    #[error("{peer} no longer wants the answer")]
    Unwanted {
        /// The peer.
        peer: SocketAddr,
    },
    /// The endpoint was closed.
    #[error("the endpoint is closed")]
    Closed,
}

impl NetError {
    /// What a caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            NetError::CredentialFile { source, .. } | NetError::Listen { source, .. } => ErrorKind::of_io(source),
            NetError::Credential { .. } | NetError::Name { .. } | NetError::Setting { .. } | NetError::Tls { .. } => {
                ErrorKind::Invalid
            }
            NetError::Exists { .. } => ErrorKind::Conflict,
            NetError::Issue { .. } | NetError::Handler { .. } => ErrorKind::Internal,
            NetError::Connect { .. }
            | NetError::ConnectTimeout { .. }
            | NetError::BackingOff { .. }
            | NetError::Lost { .. }
            | NetError::Short { .. } => ErrorKind::Unavailable,
            NetError::Refused { .. } => ErrorKind::Denied,
            NetError::Reset { status, .. } | NetError::Answered { status, .. } => {
                status.error_kind().unwrap_or(ErrorKind::Internal)
            }
            NetError::Timeout { .. } => ErrorKind::Timeout,
            NetError::Corrupt { .. } => ErrorKind::Corrupt,
            NetError::Wire { source, .. } => source.kind(),
            NetError::Buffer { .. } => ErrorKind::Invalid,
            NetError::Closed | NetError::Unwanted { .. } => ErrorKind::Cancelled,
        }
    }
}
