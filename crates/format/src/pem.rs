//! The volume's private key: PEM text in any form the real client takes, out as one PKCS#8 document.
//!
//! PEM is RFC 7468, its legacy encryption RFC 1421 with OpenSSL's key derivation, PKCS#8 RFC 5208, PBES2 RFC 8018.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, KeyInit, KeyIvInit};
use md5::{Digest, Md5};
use pkcs8::der::{AnyRef, Decode, Encode};
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{AlgorithmIdentifierRef, EncryptedPrivateKeyInfo, ObjectIdentifier, PrivateKeyInfo};

/// rsaEncryption, RFC 8017.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Most PBKDF2 rounds we run for one key: some seconds. OpenSSL's default is 2048, the largest advice seen 1.3 million.
const MAX_ROUNDS: u32 = 10_000_000;

/// Most memory in bytes that scrypt may take for one key; OpenSSL's default needs 16 MiB.
const MAX_SCRYPT_BYTES: u64 = 256 << 20;

/// Why a private key is of no use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum KeyProblem {
    /// It is protected, and there is no passphrase.
    PassphraseMissing,
    /// It is protected by another passphrase.
    PassphraseWrong,
    /// It is not what we can read.
    Unusable(&'static str),
}

/// The PKCS#8 document of the key in `pem`. An empty passphrase counts as none; an unneeded one is ignored.
pub(crate) fn private_key(pem: &str, passphrase: Option<&str>) -> Result<Vec<u8>, KeyProblem> {
    let block = PemBlock::first(pem).ok_or(KeyProblem::Unusable("it is no PEM text"))?;
    let passphrase = || passphrase.filter(|text| !text.is_empty()).ok_or(KeyProblem::PassphraseMissing);
    match block.label {
        "PRIVATE KEY" => Ok(block.der),
        "ENCRYPTED PRIVATE KEY" => open_pkcs8(&block.der, passphrase()?),
        "RSA PRIVATE KEY" if block.header("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED")) => {
            to_pkcs8(&open_legacy(&block, passphrase()?)?)
        }
        "RSA PRIVATE KEY" => to_pkcs8(&block.der),
        _ => Err(KeyProblem::Unusable("its PEM block is no RSA private key")),
    }
}

/// One PEM block.
struct PemBlock<'a> {
    label: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    der: Vec<u8>,
}

impl<'a> PemBlock<'a> {
    /// The first block of a text, whatever stands before it.
    fn first(text: &'a str) -> Option<PemBlock<'a>> {
        let (_, rest) = text.split_once("-----BEGIN ")?;
        let (label, rest) = rest.split_once("-----")?;
        let (body, _) = rest.split_once("-----END ")?;
        let (mut headers, mut base64) = (Vec::new(), String::with_capacity(body.len()));
        for line in body.lines().map(str::trim) {
            match line.split_once(':') {
                Some((name, value)) if base64.is_empty() => headers.push((name.trim(), value.trim())),
                _ => base64.extend(line.chars().filter(|c| !c.is_ascii_whitespace())),
            }
        }
        Some(PemBlock { label, headers, der: STANDARD.decode(base64).ok()? })
    }

    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }
}

/// Wraps a PKCS#1 document as PKCS#8.
fn to_pkcs8(pkcs1: &[u8]) -> Result<Vec<u8>, KeyProblem> {
    let algorithm = AlgorithmIdentifierRef { oid: RSA, parameters: Some(AnyRef::NULL) };
    PrivateKeyInfo::new(algorithm, pkcs1).to_der().map_err(|_| KeyProblem::Unusable("it is too long"))
}

/// Opens a PKCS#8 document encrypted with PBES2.
fn open_pkcs8(der: &[u8], passphrase: &str) -> Result<Vec<u8>, KeyProblem> {
    let unknown = || KeyProblem::Unusable("it is protected in a way other than PBES2 with AES or triple DES");
    let info = EncryptedPrivateKeyInfo::from_der(der).map_err(|_| unknown())?;
    let affordable = match &info.encryption_algorithm.pbes2().ok_or_else(unknown)?.kdf {
        Kdf::Pbkdf2(params) => params.iteration_count <= MAX_ROUNDS,
        Kdf::Scrypt(params) => {
            let work = u64::from(params.block_size).max(1).saturating_mul(params.cost_parameter);
            work.saturating_mul(128).saturating_mul(u64::from(params.parallelization).max(1)) <= MAX_SCRYPT_BYTES
        }
        _ => return Err(unknown()),
    };
    if !affordable {
        return Err(KeyProblem::Unusable("opening it would take too much time or memory"));
    }
    let document = info.decrypt(passphrase).map_err(|_| KeyProblem::PassphraseWrong)?;
    Ok(document.as_bytes().to_vec())
}

/// Opens a PKCS#1 block with legacy PEM encryption.
fn open_legacy(block: &PemBlock<'_>, passphrase: &str) -> Result<Vec<u8>, KeyProblem> {
    let unknown = KeyProblem::Unusable("it is protected in a way other than AES or triple DES");
    let Some((cipher, iv)) = block.header("DEK-Info").and_then(|info| info.split_once(',')) else {
        return Err(unknown);
    };
    let iv = from_hex(iv.trim()).ok_or(KeyProblem::PassphraseWrong)?;
    let plain = match cipher.trim() {
        "AES-128-CBC" => legacy_cbc::<aes::Aes128>(&block.der, &iv, passphrase),
        "AES-192-CBC" => legacy_cbc::<aes::Aes192>(&block.der, &iv, passphrase),
        "AES-256-CBC" => legacy_cbc::<aes::Aes256>(&block.der, &iv, passphrase),
        "DES-EDE3-CBC" => legacy_cbc::<des::TdesEde3>(&block.der, &iv, passphrase),
        _ => return Err(unknown),
    };
    // The padding alone lets one wrong passphrase in 256 pass; what comes out must be one DER value too.
    plain.filter(|der| AnyRef::from_der(der).is_ok()).ok_or(KeyProblem::PassphraseWrong)
}

/// CBC with a key of MD5 rounds over passphrase and the first 8 bytes of the IV (OpenSSL's EVP_BytesToKey).
fn legacy_cbc<C: BlockCipher + BlockDecryptMut + KeyInit>(
    ciphertext: &[u8],
    iv: &[u8],
    passphrase: &str,
) -> Option<Vec<u8>> {
    let salt = iv.get(..8)?;
    let (mut key, mut round) = (Vec::new(), Vec::new());
    while key.len() < C::key_size() {
        round = Md5::new().chain_update(&round).chain_update(passphrase).chain_update(salt).finalize().to_vec();
        key.extend_from_slice(&round);
    }
    let decryptor = Decryptor::<C>::new_from_slices(&key[..C::key_size()], iv).ok()?;
    decryptor.decrypt_padded_vec_mut::<Pkcs7>(ciphertext).ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect())?
}
