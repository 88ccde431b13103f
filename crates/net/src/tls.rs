//! Mutual TLS 1.3 with our own idea of who may be whom: a chain to the group's CA, a role and a group instead of a host name.
//!
//! Session resumption is off: a resumed session skips the peer's certificate, and connections here live for hours.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::credentials::Credentials;
use crate::crypto;
use crate::error::NetError;
use crate::identity::Role;
use crate::metrics::{NetMetrics, Refusal};
use crate::x509;

/// The protocol's name in TLS; its version moves with changes that older processes cannot even refuse in a sentence.
pub(crate) const ALPN: &[u8] = b"shoal/1";

/// TLS needs a server name; ours is never checked and never sent.
pub(crate) const SERVER_NAME: &str = "shoal";

/// TLS of both directions.
pub(crate) struct Tls {
    pub client: Arc<QuicClientConfig>,
    pub server: Arc<QuicServerConfig>,
}

impl Tls {
    pub(crate) fn new(credentials: &Credentials, metrics: &Arc<NetMetrics>) -> Result<Tls, NetError> {
        let build = || -> Result<Tls, Box<dyn std::error::Error + Send + Sync>> {
            let verifier = Arc::new(Verifier::new(credentials, metrics)?);
            let versions = &[&rustls::version::TLS13];
            let mut client = rustls::ClientConfig::builder_with_provider(crypto::provider())
                .with_protocol_versions(versions)?
                .dangerous()
                .with_custom_certificate_verifier(verifier.clone())
                .with_client_auth_cert(credentials.chain(), credentials.key())?;
            client.alpn_protocols = vec![ALPN.to_vec()];
            client.enable_sni = false;
            client.resumption = Resumption::disabled();
            let mut server = rustls::ServerConfig::builder_with_provider(crypto::provider())
                .with_protocol_versions(versions)?
                .with_client_cert_verifier(verifier)
                .with_single_cert(credentials.chain(), credentials.key())?;
            server.alpn_protocols = vec![ALPN.to_vec()];
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
            Ok(Tls {
                client: Arc::new(QuicClientConfig::try_from(client)?),
                server: Arc::new(QuicServerConfig::try_from(server)?),
            })
        };
        build().map_err(|source| NetError::Tls { source: source.into() })
    }
}

#[derive(Debug)]
struct Verifier {
    roots: Arc<rustls::RootCertStore>,
    group: String,
    clients: Arc<dyn ClientCertVerifier>,
    metrics: Arc<NetMetrics>,
}

impl Verifier {
    fn new(
        credentials: &Credentials,
        metrics: &Arc<NetMetrics>,
    ) -> Result<Verifier, rustls::server::VerifierBuilderError> {
        let roots = credentials.roots().clone();
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), crypto::provider()).build()?;
        Ok(Verifier { roots, group: credentials.identity().group.clone(), clients, metrics: metrics.clone() })
    }

    /// Counts a chain that was refused by its library.
    fn chain(&self, verified: Result<(), Error>) -> Result<(), Error> {
        verified.inspect_err(|error| self.metrics.refused(reason(error)))
    }

    /// Checks what the certificate says, once its chain holds.
    fn identity(&self, leaf: &CertificateDer<'_>, role: Option<Role>) -> Result<(), Error> {
        let refuse = |reason, error: CertificateError| {
            self.metrics.refused(reason);
            Err(Error::InvalidCertificate(error))
        };
        let identity = match x509::identity(leaf) {
            Ok(identity) => identity,
            Err(_) => return refuse(Refusal::BadCertificate, CertificateError::BadEncoding),
        };
        if identity.group != self.group {
            return refuse(Refusal::WrongGroup, CertificateError::ApplicationVerificationFailure);
        }
        if role.is_some_and(|role| role != identity.role) {
            return refuse(Refusal::WrongRole, CertificateError::ApplicationVerificationFailure);
        }
        Ok(())
    }
}

fn reason(error: &Error) -> Refusal {
    match error {
        Error::InvalidCertificate(error) => match error {
            // A CA of the same name but another key shows as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::UnknownCa,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Refusal::NotYetValid,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Refusal::WrongRole,
            _ => Refusal::BadCertificate,
        },
        Error::NoCertificatesPresented => Refusal::NoCertificate,
        _ => Refusal::BadCertificate,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.chain(crypto::verify_server(end_entity, intermediates, &self.roots, now))?;
        self.identity(end_entity, Some(Role::Node))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // With hints a client that has a certificate of another CA would send none, and be refused for the wrong reason.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.chain(self.clients.verify_client_cert(end_entity, intermediates, now).map(|_verified| ()))?;
        self.identity(end_entity, None)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}
