//! Makes a group's CA and its certificates as files: what `shoal cert` does.
//!
//! A CA directory holds `ca.pem` and `ca-key.pem`; keep it off the machines that serve. An issued directory holds `ca.pem`,
//! `cert.pem` and `key.pem`, which is what [`crate::Credentials::load`] reads. Keys are written with mode 0600. A file appears
//! whole or not at all, and an existing key or certificate is never replaced unless asked to.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use shoal_runtime::{clock, rng};

use crate::authority::{Authority, Issued, Validity};
use crate::error::NetError;
use crate::identity::{PeerIdentity, Role, is_name};
use crate::x509;
pub use crate::x509::CertInfo;

/// A CA is valid for ten years: longer than the machines it vouches for.
pub const CA_DAYS: u32 = 3650;
/// Default for a node's or client's certificate: one year, so that a lost key stops working by itself.
pub const LEAF_DAYS: u32 = 365;

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const PUBLIC: u32 = 0o644;
const SECRET: u32 = 0o600;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Keep,
    Replace,
}

/// Makes a CA for `group` in `dir`, which is created if need be.
///
/// `force` replaces a CA that is there: every certificate it signed stops working. Errors: `Conflict` if there is one and not
/// `force`; `Invalid` for a group that is no name.
pub fn init(dir: &Path, group: &str, force: bool) -> Result<(), NetError> {
    if !is_name(group) {
        return Err(NetError::Name { name: group.to_owned() });
    }
    let existing = if force { Existing::Replace } else { Existing::Keep };
    let path = dir.join(CA_CERT);
    let authority = Authority::generate(group, Validity::days(clock::unix_now(), CA_DAYS))
        .map_err(|source| NetError::Issue { path: path.clone(), source: Arc::new(source) })?;
    let Issued { cert_pem, key_pem } = authority.own();
    write_pair(&dir.join(CA_KEY), &key_pem, &path, &cert_pem, existing)
}

/// Issues a certificate for `role` and `name`, valid for `days` days, with the CA in `ca_dir`, into `out_dir`.
///
/// Errors: `Conflict` if `out_dir` holds one already ([`renew`] replaces it); `NotFound` without a CA; `Invalid` for a name of
/// other characters or a number of days that is not 1 to [`CA_DAYS`].
pub fn issue(ca_dir: &Path, role: Role, name: &str, out_dir: &Path, days: u32) -> Result<(), NetError> {
    write_issued(ca_dir, role, name, out_dir, days, Existing::Keep)
}

/// As [`issue`], but replaces the certificate and key in `out_dir`.
pub fn renew(ca_dir: &Path, role: Role, name: &str, out_dir: &Path, days: u32) -> Result<(), NetError> {
    write_issued(ca_dir, role, name, out_dir, days, Existing::Replace)
}

/// What the certificates in the PEM file `path` say, or those in `ca.pem` and `cert.pem` of the directory `path`.
pub fn show(path: &Path) -> Result<Vec<CertInfo>, NetError> {
    let files: Vec<PathBuf> = if path.is_dir() {
        [CA_CERT, CERT].iter().map(|name| path.join(name)).filter(|file| file.exists()).collect()
    } else {
        vec![path.to_owned()]
    };
    let now_s = clock::unix_now().as_secs() as i64;
    let mut infos = Vec::new();
    for file in &files {
        for der in certificates(file)? {
            let info = x509::read(&der, now_s);
            infos.push(info.map_err(|problem| NetError::Credential { path: file.clone(), problem })?);
        }
    }
    if infos.is_empty() {
        let problem = "holds no certificate".to_owned();
        return Err(NetError::Credential { path: path.to_owned(), problem });
    }
    Ok(infos)
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(NetError::Credential { path: path.to_owned(), problem: "holds no certificate".to_owned() }),
    }
}

/// A small text file. Errors name it and the way out.
pub(crate) fn read(path: &Path) -> Result<String, NetError> {
    fs::read_to_string(path)
        .map_err(|source| NetError::CredentialFile { path: path.to_owned(), source: Arc::new(source) })
}

fn write_issued(
    ca_dir: &Path,
    role: Role,
    name: &str,
    out_dir: &Path,
    days: u32,
    existing: Existing,
) -> Result<(), NetError> {
    if !(1..=CA_DAYS).contains(&days) {
        return Err(NetError::Setting { setting: "days", value: days.into(), bounds: "1 to 3650 days" });
    }
    let ca_path = ca_dir.join(CA_CERT);
    let (ca_pem, ca_key) = (read(&ca_path)?, read(&ca_dir.join(CA_KEY))?);
    let ca = &certificates(&ca_path)?[0];
    let group = x509::ca_group(ca).map_err(|problem| NetError::Credential { path: ca_path.clone(), problem })?;
    let identity = PeerIdentity::new(role, &group, name).map_err(|_| NetError::Name { name: name.to_owned() })?;
    let cert_path = out_dir.join(CERT);
    let failed = |source| NetError::Issue { path: cert_path.clone(), source: Arc::new(source) };
    let authority = Authority::load(&ca_pem, &ca_key).map_err(failed)?;
    let issued = authority.sign(&identity, Validity::days(clock::unix_now(), days)).map_err(failed)?;
    write_pair(&out_dir.join(KEY), &issued.key_pem, &cert_path, &issued.cert_pem, existing)?;
    // The CA's certificate is public and may be the one that is there already.
    write(&out_dir.join(CA_CERT), &ca_pem, PUBLIC, Existing::Replace)
}

/// Writes a key, then its certificate, so that a certificate in place has its key.
fn write_pair(key: &Path, key_pem: &str, cert: &Path, cert_pem: &str, existing: Existing) -> Result<(), NetError> {
    if existing == Existing::Keep
        && let Some(path) = [key, cert].into_iter().find(|path| path.exists())
    {
        return Err(NetError::Exists { path: path.to_owned() });
    }
    if let Some(dir) = key.parent() {
        fs::create_dir_all(dir).map_err(|source| NetError::Issue { path: dir.to_owned(), source: Arc::new(source) })?;
    }
    write(key, key_pem, SECRET, existing)?;
    write(cert, cert_pem, PUBLIC, existing)
}

/// Makes `path` appear whole, under its mode from the first byte on.
fn write(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), NetError> {
    let temporary = path.with_extension(format!("{:016x}.tmp", rng::random_u64()));
    let result = write_new(&temporary, text, mode).and_then(|()| match existing {
        Existing::Replace => fs::rename(&temporary, path),
        Existing::Keep => fs::hard_link(&temporary, path),
    });
    if existing == Existing::Keep || result.is_err() {
        // Best effort: a left-over temporary is harmless and has the right mode.
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => NetError::Exists { path: path.to_owned() },
        _ => NetError::Issue { path: path.to_owned(), source: Arc::new(source) },
    })
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
