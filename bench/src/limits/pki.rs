//! Throw-away certificates for mutual TLS on loopback, with the cipher Shoal uses.

use std::sync::Arc;

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The name both sides present and expect.
pub const NAME: &str = "limit.test";
/// Application protocol both sides insist on.
const ALPN: &[u8] = b"limit";

/// Both ends of a mutually authenticated TLS 1.3 connection, AES-128-GCM by aws-lc.
pub struct Pki {
    /// Accepts only the client below.
    pub server: Arc<ServerConfig>,
    /// Accepts only the server above.
    pub client: Arc<ClientConfig>,
}

impl Pki {
    /// A new authority and one certificate for both ends.
    pub fn generate() -> anyhow::Result<Pki> {
        let (root, leaf, key) = certificates().context("cannot make certificates")?;
        let provider = Arc::new(provider());
        let mut roots = RootCertStore::empty();
        roots.add(root)?;
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build()?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.clone()], key.clone_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![leaf], key)?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Pki { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// aws-lc's suites with the cheapest first, so that both ends agree on it.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let wanted = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != wanted);
    provider
}

type Certificates = (CertificateDer<'static>, CertificateDer<'static>, PrivateKeyDer<'static>);

fn certificates() -> Result<Certificates, rcgen::Error> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key)?.der().clone();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec![NAME.to_owned()])?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = leaf.signed_by(&key, &issuer)?.der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok((root, leaf, key))
}
