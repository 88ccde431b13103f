//! Certificates and endpoints for the tests of crates above, without files. Panics where a test would unwrap.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;

use crate::authority::{Authority, Issued, Validity};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, EndpointConfig};
use crate::identity::{PeerIdentity, Role};

const DAY: Duration = Duration::from_secs(86_400);

/// A CA in memory. Cheap to clone.
#[derive(Clone)]
pub struct TestCa {
    authority: Arc<Authority>,
    group: String,
}

impl TestCa {
    /// A CA for `group`.
    pub fn new(group: &str) -> TestCa {
        let authority = Authority::generate(group, Validity::days(clock::unix_now(), 2)).expect("generates a CA");
        TestCa { authority: Arc::new(authority), group: group.to_owned() }
    }

    /// Credentials it signed, valid now.
    pub fn issue(&self, role: Role, name: &str) -> Credentials {
        self.sign(role, &self.group, name, Validity::days(clock::unix_now(), 1))
    }

    /// Credentials it signed that ended a day ago.
    pub fn issue_expired(&self, role: Role, name: &str) -> Credentials {
        let now = clock::unix_now();
        self.sign(role, &self.group, name, Validity { from: now - 2 * DAY, until: now - DAY })
    }

    /// Credentials it signed that begin tomorrow.
    pub fn issue_not_yet_valid(&self, role: Role, name: &str) -> Credentials {
        let now = clock::unix_now();
        self.sign(role, &self.group, name, Validity { from: now + DAY, until: now + 2 * DAY })
    }

    /// Credentials it signed for another group than its own.
    pub fn issue_for_group(&self, role: Role, group: &str, name: &str) -> Credentials {
        self.sign(role, group, name, Validity::days(clock::unix_now(), 1))
    }

    /// An endpoint on a free port of 127.0.0.1, with credentials it signed and metrics of its own.
    pub fn endpoint(&self, role: Role, name: &str) -> Endpoint {
        self.endpoint_with(role, name, &Registry::new())
    }

    /// As [`TestCa::endpoint`], with metrics in `registry`.
    pub fn endpoint_with(&self, role: Role, name: &str, registry: &Registry) -> Endpoint {
        let config = EndpointConfig::new(([127, 0, 0, 1], 0).into(), self.issue(role, name));
        Endpoint::bind(config, registry).expect("binds a free port of loopback")
    }

    fn sign(&self, role: Role, group: &str, name: &str, validity: Validity) -> Credentials {
        let identity = PeerIdentity::new(role, group, name).expect("a name");
        let Issued { cert_pem, key_pem } = self.authority.sign(&identity, validity).expect("signs");
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("a key");
        let anchors = vec![certificate(&self.authority.own().cert_pem)];
        Credentials::new(anchors, vec![certificate(&cert_pem)], key).expect("credentials")
    }
}

/// Ends `endpoint` as the crash of its process would: no peer is told. Its port is free once every clone is dropped.
pub async fn crash(endpoint: Endpoint) {
    endpoint.crash().await;
}

impl std::fmt::Debug for TestCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestCa({})", self.group)
    }
}
