//! Makes certificates.

use std::path::Path;

use crate::error::NetError;
use crate::identity::{PeerIdentity, Role};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// Identity; `None` for a CA.
    pub identity: Option<PeerIdentity>,
    /// Group.
    pub group: String,
    /// Start of validity, RFC 3339.
    pub valid_from: String,
    /// End of validity, RFC 3339.
    pub valid_until: String,
    /// Whole days left, negative once expired.
    pub days_left: i64,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
}

/// Makes a CA for `group` in `dir`.
pub fn init(_dir: &Path, _group: &str, _force: bool) -> Result<(), NetError> {
    unimplemented!()
}

/// Issues a certificate.
pub fn issue(_ca_dir: &Path, _role: Role, _name: &str, _out_dir: &Path, _days: u32) -> Result<(), NetError> {
    unimplemented!()
}

/// Reads certificates.
pub fn show(_path: &Path) -> Result<Vec<CertInfo>, NetError> {
    unimplemented!()
}
