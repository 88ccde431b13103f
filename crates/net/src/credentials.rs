//! This process's own certificate and key, and the CA it trusts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use shoal_runtime::clock;

use crate::ca;
use crate::error::NetError;
use crate::identity::{PeerIdentity, Role};
use crate::{crypto, x509};

/// Who this process is and whom it trusts. Cheap to clone; never prints its key.
#[derive(Clone)]
pub struct Credentials(Arc<Inner>);

struct Inner {
    identity: PeerIdentity,
    expires: u64,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.0.identity)
    }
}

impl Credentials {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` of `dir`, as `shoal cert node` and `shoal cert client` write them.
    ///
    /// Errors: `NotFound` or `Denied` for a file that cannot be read; `Invalid` for a certificate that is expired, not signed
    /// by that CA, without an identity, of another group than its CA, or not of that key. Every message says what to do.
    pub fn load(dir: &Path) -> Result<Credentials, NetError> {
        let [ca_path, cert_path, key_path] = ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
        let bad = |path: &Path, problem: String| NetError::Credential { path: path.to_owned(), problem };
        let anchors = ca::certificates(&ca_path)?;
        let chain = ca::certificates(&cert_path)?;
        let key = PrivateKeyDer::from_pem_slice(ca::read(&key_path)?.as_bytes())
            .map_err(|_| bad(&key_path, "holds no private key".to_owned()))?;
        warn_of_readable_key(&key_path);
        let group = x509::ca_group(&anchors[0]).map_err(|problem| bad(&ca_path, problem))?;
        let credentials =
            Credentials::new(anchors, chain, key).map_err(|problem| bad(&cert_path, problem.to_string()))?;
        let inner = &credentials.0;
        CertifiedKey::from_der(inner.chain.clone(), inner.key.clone_key(), &crypto::provider())
            .map_err(|_| bad(&key_path, "is not the key of cert.pem beside it".to_owned()))?;
        if inner.identity.group != group {
            let problem = format!("is of group `{}` but its CA is of group `{group}`", inner.identity.group);
            return Err(bad(&cert_path, problem));
        }
        let now = UnixTime::since_unix_epoch(clock::unix_now());
        let verified = match inner.identity.role {
            Role::Node => crypto::verify_server(&inner.chain[0], &inner.chain[1..], &inner.roots, now),
            Role::Client => crypto::verify_client(&inner.chain[0], &inner.chain[1..], &inner.roots, now),
        };
        verified.map_err(|error| bad(&cert_path, format!("cannot be used: {error}")))?;
        Ok(credentials)
    }

    /// Credentials of parts that belong together; checks no date and no signature. The error is the end of a sentence.
    pub(crate) fn new(
        anchors: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Credentials, String> {
        let leaf = chain.first().ok_or("holds no certificate")?;
        let (identity, expires) = (x509::identity(leaf)?, x509::expires(leaf)?);
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots.add(anchor).map_err(|error| format!("has a CA that cannot be used: {error}"))?;
        }
        Ok(Credentials(Arc::new(Inner { identity, expires, roots: Arc::new(roots), chain, key })))
    }

    /// Who this process is.
    pub fn identity(&self) -> &PeerIdentity {
        &self.0.identity
    }

    /// When the certificate expires, seconds since 1970.
    pub fn expires(&self) -> u64 {
        self.0.expires
    }

    pub(crate) fn roots(&self) -> &Arc<RootCertStore> {
        &self.0.roots
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.chain.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.0.key.clone_key()
    }
}

fn warn_of_readable_key(path: &Path) {
    let mode = std::fs::metadata(path).map(|meta| meta.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "private key is readable by other users: chmod 600 it");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::authority::{Authority, Validity};

    #[test]
    fn an_expired_certificate_does_not_load_and_says_so() {
        let now = clock::unix_now();
        let day = Duration::from_secs(86_400);
        let authority = Authority::generate("g", Validity::days(now, 9)).unwrap();
        let identity = PeerIdentity::new(Role::Node, "g", "n1").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let load = |validity| {
            let issued = authority.sign(&identity, validity).unwrap();
            std::fs::write(dir.path().join("ca.pem"), authority.own().cert_pem).unwrap();
            std::fs::write(dir.path().join("cert.pem"), issued.cert_pem).unwrap();
            std::fs::write(dir.path().join("key.pem"), issued.key_pem).unwrap();
            Credentials::load(dir.path())
        };
        assert!(load(Validity { from: now - day, until: now + day }).is_ok());
        let error = load(Validity { from: now - 2 * day, until: now - day }).unwrap_err().to_string();
        assert!(error.contains("cert.pem cannot be used") && error.contains("expired"), "{error}");
        assert!(error.ends_with("make it again with `shoal cert node` or `shoal cert client`"), "{error}");
    }
}
