//! Certificates and endpoints for tests.

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::identity::Role;

/// A CA in memory.
#[derive(Debug)]
pub struct TestCa(());

impl TestCa {
    /// A CA for `group`.
    pub fn new(_group: &str) -> TestCa {
        unimplemented!()
    }

    /// Credentials it signed.
    pub fn issue(&self, _role: Role, _name: &str) -> Credentials {
        unimplemented!()
    }

    /// An endpoint on 127.0.0.1 with credentials it signed and metrics of its own.
    pub fn endpoint(&self, _role: Role, _name: &str) -> Endpoint {
        unimplemented!()
    }
}
