//! Peers that speak QUIC and the right TLS, and then do as a test likes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{DigitallySignedStruct, SignatureScheme};
use shoal_net::{Credentials, Role, ca};
use tempfile::TempDir;

/// A CA and issued certificates as files.
pub struct Files {
    dir: TempDir,
}

impl Files {
    pub fn new() -> Files {
        let dir = tempfile::tempdir().unwrap();
        ca::init(&dir.path().join("ca"), "g", false).unwrap();
        Files { dir }
    }

    /// The directory of a certificate, issued when first asked for.
    pub fn issued(&self, role: Role, name: &str) -> PathBuf {
        let out = self.dir.path().join(name);
        if !out.exists() {
            ca::issue(&self.dir.path().join("ca"), role, name, &out, 1).unwrap();
        }
        out
    }

    pub fn credentials(&self, role: Role, name: &str) -> Credentials {
        Credentials::load(&self.issued(role, name)).unwrap()
    }
}

fn provider() -> Arc<CryptoProvider> {
    let suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites: suites, ..rustls::crypto::aws_lc_rs::default_provider() })
}

fn chain(dir: &Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap()];
    (chain, PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap())
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A server with the certificate in `dir`, on a free port.
pub fn server(dir: &Path) -> (quinn::Endpoint, SocketAddr) {
    let endpoint = quinn::Endpoint::server(server_config(dir), loopback()).unwrap();
    let addr = endpoint.local_addr().unwrap();
    (endpoint, addr)
}

/// Takes clients of the CA in `dir`.
pub fn server_config(dir: &Path) -> quinn::ServerConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let (chain, key) = chain(dir);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"shoal/1".to_vec()];
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

/// A client with the certificate in `dir`, or with none, that trusts anybody.
pub fn client(dir: Option<&Path>) -> quinn::Endpoint {
    let mut endpoint = quinn::Endpoint::client(loopback()).unwrap();
    endpoint.set_default_client_config(client_config(dir));
    endpoint
}

/// With the certificate in `dir`, or with none; trusts anybody.
pub fn client_config(dir: Option<&Path>) -> quinn::ClientConfig {
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())));
    let mut tls = match dir {
        Some(dir) => {
            let (chain, key) = chain(dir);
            tls.with_client_auth_cert(chain, key).unwrap()
        }
        None => tls.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![b"shoal/1".to_vec()];
    quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
