//! The JuiceFS CE volume format: settings, records, object keys and block encoding. Bytes in, bytes out.
//!
//! Layer 1. Nothing here does I/O or reads a clock; the one source of randomness is the cryptographic generator that
//! encryption needs (data keys, nonces). Facts come from JuiceFS CE 1.4.2: its bytes, and its public documents.

mod acl;
mod attr;
mod block_codec;
mod calendar;
mod dentry;
mod error;
mod layout;
mod lock;
mod name;
mod object_cipher;
mod pem;
mod record;
mod resolve;
mod secret;
mod session_info;
mod settings;
mod settings_json;
mod slice;
mod trash;
mod version;

pub use acl::{AclEntry, AclRule};
pub use attr::{Attr, FileType, Ino, Time, attr_flag};
pub use block_codec::{BlockCodec, Compression};
pub use calendar::rfc3339;
pub use dentry::Dentry;
pub use error::FormatError;
pub use layout::{BlockRead, Layout, SliceBlock, round_block_size};
pub use lock::{LockMode, RangeLock};
pub use name::validate_name;
pub use resolve::{Piece, PieceSource, resolve};
pub use session_info::SessionInfo;
pub use settings::{META_VERSION, Settings, TierSetting};
pub use slice::{CHUNK_BYTES, MAX_FILE_BYTES, SliceRecord};
pub use trash::{parse_trash_entry, parse_trash_hour, trash_entry, trash_hour};
pub use version::{ClientRole, READER_LEVEL, Version, WRITER_LEVEL};
