//! What the fields of a certificate say.
//!
//! A leaf carries its [`PeerIdentity`] as its one URI subject alternative name; a CA carries its group as the organization of
//! its subject.

use std::fmt::Write as _;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::identity::{PeerIdentity, is_name};

/// What one certificate says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// Whom it names; `None` for a CA.
    pub identity: Option<PeerIdentity>,
    /// The group it is of.
    pub group: String,
    /// Start of its validity, RFC 3339, UTC.
    pub valid_from: String,
    /// End of its validity, RFC 3339, UTC.
    pub valid_until: String,
    /// Whole days until its end, negative once it has passed.
    pub days_left: i64,
    /// SHA-256 of the certificate in hexadecimal, as `openssl x509 -fingerprint -sha256` computes it.
    pub fingerprint: String,
}

/// Reads the certificate `der` at `now_s` seconds since 1970. The error is the end of a sentence that begins with its name.
pub(crate) fn read(der: &[u8], now_s: i64) -> Result<CertInfo, String> {
    let certificate = parse(der)?;
    let (identity, group) = if certificate.is_ca() {
        (None, group_of(&certificate)?)
    } else {
        let identity = identity_of(&certificate)?;
        let group = identity.group.clone();
        (Some(identity), group)
    };
    let validity = certificate.validity();
    Ok(CertInfo {
        identity,
        group,
        valid_from: rfc3339(validity.not_before),
        valid_until: rfc3339(validity.not_after),
        days_left: (validity.not_after.timestamp() - now_s).div_euclid(86_400),
        fingerprint: fingerprint(der),
    })
}

/// The identity in the leaf certificate `der`.
pub(crate) fn identity(der: &[u8]) -> Result<PeerIdentity, String> {
    identity_of(&parse(der)?)
}

/// When the certificate `der` expires, seconds since 1970.
pub(crate) fn expires(der: &[u8]) -> Result<u64, String> {
    Ok(parse(der)?.validity().not_after.timestamp().max(0) as u64)
}

/// The group of the CA certificate `der`.
pub(crate) fn ca_group(der: &[u8]) -> Result<String, String> {
    let certificate = parse(der)?;
    if certificate.is_ca() { group_of(&certificate) } else { Err("is no CA certificate".to_owned()) }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err("holds a certificate that does not parse".to_owned()),
    }
}

fn identity_of(certificate: &X509Certificate<'_>) -> Result<PeerIdentity, String> {
    let bad = |_| "holds a certificate whose alternative names do not parse".to_owned();
    let names = certificate.subject_alternative_name().map_err(bad)?;
    let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(|error| format!("holds a certificate of another kind: {error}")),
        _ => Err("holds a certificate without a shoal:// identity".to_owned()),
    }
}

fn group_of(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let group = certificate.subject().iter_organization().next().and_then(|name| name.as_str().ok());
    match group {
        Some(group) if is_name(group) => Ok(group.to_owned()),
        _ => Err("holds a CA certificate that names no group".to_owned()),
    }
}

fn rfc3339(time: ASN1Time) -> String {
    let time = time.to_datetime();
    let (date, month) = (time.date(), u8::from(time.month()));
    format!(
        "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn fingerprint(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
