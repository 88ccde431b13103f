//! Signs certificates, in memory.
//!
//! Keys are ECDSA P-256: the fastest handshake of the algorithms every TLS 1.3 stack has. A leaf of role node may serve and
//! connect, a leaf of role client may only connect; its extended key usages say so, so that any TLS library refuses the rest.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::identity::{PeerIdentity, Role};

/// When a certificate is valid, both since 1970.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validity {
    pub from: Duration,
    pub until: Duration,
}

/// Certificates begin this much before they are made, so that a machine whose clock is a little behind takes them.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(86_400);

impl Validity {
    /// `days` days from `now`.
    pub(crate) fn days(now: Duration, days: u32) -> Validity {
        Validity { from: now.saturating_sub(CLOCK_SKEW), until: now + DAY * days }
    }
}

/// A certificate and its key, as PEM.
pub(crate) struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

/// A CA that can sign.
pub(crate) struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
    key_pem: String,
}

impl Authority {
    /// A new CA for `group`, which is a checked name.
    pub(crate) fn generate(group: &str, validity: Validity) -> Result<Authority, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(validity);
        params.distinguished_name = subject(group, &format!("shoal CA of {group}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key)?.pem();
        let key_pem = key.serialize_pem();
        Ok(Authority { cert_pem, issuer: Issuer::new(params, key), key_pem })
    }

    /// The CA that was generated earlier.
    pub(crate) fn load(cert_pem: &str, key_pem: &str) -> Result<Authority, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(cert_pem, KeyPair::from_pem(key_pem)?)?;
        Ok(Authority { cert_pem: cert_pem.to_owned(), issuer, key_pem: key_pem.to_owned() })
    }

    /// The CA's own certificate and key.
    pub(crate) fn own(&self) -> Issued {
        Issued { cert_pem: self.cert_pem.clone(), key_pem: self.key_pem.clone() }
    }

    /// A certificate for `identity`.
    pub(crate) fn sign(&self, identity: &PeerIdentity, validity: Validity) -> Result<Issued, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params(validity);
        params.distinguished_name = subject(&identity.group, &identity.name);
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match identity.role {
            Role::Node => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        let cert_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { cert_pem, key_pem: key.serialize_pem() })
    }
}

fn params(validity: Validity) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + validity.from;
    params.not_after = epoch + validity.until;
    params
}

fn subject(group: &str, name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, group);
    subject.push(DnType::CommonName, name);
    subject
}
