//! This process's certificate.

use std::path::Path;

use crate::error::NetError;
use crate::identity::PeerIdentity;

/// Certificate, key and CA.
#[derive(Debug, Clone)]
pub struct Credentials(());

impl Credentials {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` of `dir`.
    pub fn load(_dir: &Path) -> Result<Credentials, NetError> {
        unimplemented!()
    }

    /// Who this process is.
    pub fn identity(&self) -> &PeerIdentity {
        unimplemented!()
    }
}
