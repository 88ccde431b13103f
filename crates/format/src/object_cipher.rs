//! Encryption of objects: a fresh data key and nonce for each, the data key wrapped with the volume's RSA key.
//!
//! Layout: length of the wrapped key (u16 BE), length of the nonce (u8), wrapped key, nonce, ciphertext, tag. The key is
//! wrapped with RSAES-OAEP (SHA-256 for both hashes, label `keys`). aws-lc-rs does all of it: it takes OAEP labels, its
//! AES-GCM runs at memory speed, and its RSA-2048 private operation (measured 0.55 ms) takes no lock of ours, so it scales with cores.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey};
use bytes::Bytes;

use crate::error::FormatError;
use crate::pem::{KeyProblem, private_key};

/// OAEP label of the format.
const LABEL: &[u8] = b"keys";

/// Bytes of a data key; both algorithms use 256 bits.
const DATA_KEY_LEN: usize = 32;

/// Bytes of an AEAD tag; the same in both algorithms.
const TAG_LEN: usize = 16;

/// Bytes before the wrapped key: its length and the nonce's.
const LENGTHS: usize = 3;

/// The cipher of a volume's objects.
pub(crate) struct ObjectCipher {
    algorithm: &'static Algorithm,
    private: OaepPrivateDecryptingKey,
    public: OaepPublicEncryptingKey,
}

impl ObjectCipher {
    /// The cipher named `algorithm` in volume `volume`'s setting, with the private key in `pem`.
    pub(crate) fn new(
        volume: &str,
        algorithm: &str,
        pem: &str,
        passphrase: Option<&str>,
    ) -> Result<ObjectCipher, FormatError> {
        let volume = || volume.to_owned();
        let algorithm = match algorithm {
            "" | "aes256gcm-rsa" => &AES_256_GCM,
            "chacha20-rsa" => &CHACHA20_POLY1305,
            other => {
                return Err(FormatError::Algorithm { volume: volume(), what: "encryption", name: other.to_owned() });
            }
        };
        let pkcs8 = private_key(pem, passphrase).map_err(|problem| match problem {
            KeyProblem::PassphraseMissing => FormatError::PassphraseMissing { volume: volume() },
            KeyProblem::PassphraseWrong => FormatError::PassphraseWrong { volume: volume() },
            KeyProblem::Unusable(reason) => FormatError::PrivateKey { volume: volume(), reason },
        })?;
        let rejected = || FormatError::PrivateKey { volume: volume(), reason: "it is no RSA key of 2048 to 8192 bits" };
        let key = PrivateDecryptingKey::from_pkcs8(&pkcs8).map_err(|_| rejected())?;
        let public = OaepPublicEncryptingKey::new(key.public_key()).map_err(|_| rejected())?;
        let private = OaepPrivateDecryptingKey::new(key).map_err(|_| rejected())?;
        Ok(ObjectCipher { algorithm, private, public })
    }

    /// Bytes that encryption adds to an object.
    pub(crate) fn overhead(&self) -> usize {
        LENGTHS + self.public.ciphertext_size() + NONCE_LEN + TAG_LEN
    }

    /// The object for `plain`.
    pub(crate) fn encrypt(&self, plain: &[u8]) -> Result<Bytes, FormatError> {
        let failed = |_| FormatError::Library { what: "encrypting an object" };
        let mut data_key = [0; DATA_KEY_LEN];
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut data_key).map_err(failed)?;
        aws_lc_rs::rand::fill(&mut nonce).map_err(failed)?;
        let mut wrapped = vec![0; self.public.ciphertext_size()];
        let wrapped =
            self.public.encrypt(&OAEP_SHA256_MGF1SHA256, &data_key, &mut wrapped, Some(LABEL)).map_err(failed)?;

        let mut out = Vec::with_capacity(plain.len() + self.overhead());
        out.extend_from_slice(&(wrapped.len() as u16).to_be_bytes());
        out.push(NONCE_LEN as u8);
        out.extend_from_slice(wrapped);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let key = LessSafeKey::new(UnboundKey::new(self.algorithm, &data_key).map_err(failed)?);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..]).map_err(failed)?;
        out.extend_from_slice(tag.as_ref());
        Ok(out.into())
    }

    /// The plain bytes of an object. In place if nobody else holds `stored`, otherwise into one new buffer of their size.
    ///
    /// Errors: `Corrupt` for whatever this volume's key did not make.
    pub(crate) fn decrypt(&self, stored: Bytes) -> Result<Bytes, FormatError> {
        let stored_len = stored.len();
        let corrupt = |reason| FormatError::Object { stored_len, reason };
        let envelope = Envelope::parse(&stored).ok_or_else(|| corrupt("it is too short"))?;
        let key = self.data_key(envelope.wrapped).ok_or_else(|| corrupt("its data key is not this volume's"))?;
        let nonce =
            || Nonce::try_assume_unique_for_key(envelope.nonce).map_err(|_| corrupt("its nonce is not 12 bytes"));
        let (nonce, start) = (nonce()?, envelope.start);
        let altered = |_| corrupt("its bytes were altered");
        match stored.try_into_mut() {
            Ok(mut buffer) => {
                let len = key.open_in_place(nonce, Aad::empty(), &mut buffer[start..]).map_err(altered)?.len();
                Ok(buffer.freeze().slice(start..start + len))
            }
            Err(shared) => {
                let (ciphertext, tag) = shared[start..].split_at(stored_len - start - TAG_LEN);
                let mut plain = vec![0; ciphertext.len()];
                key.open_separate_gather(nonce, Aad::empty(), ciphertext, tag, &mut plain).map_err(altered)?;
                Ok(plain.into())
            }
        }
    }

    /// Unwraps a data key.
    fn data_key(&self, wrapped: &[u8]) -> Option<LessSafeKey> {
        if wrapped.len() != self.private.key_size_bytes() {
            return None;
        }
        let mut buffer = vec![0; self.private.min_output_size()];
        let key = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut buffer, Some(LABEL)).ok()?;
        UnboundKey::new(self.algorithm, key).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for ObjectCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCipher").field("algorithm", self.algorithm).finish_non_exhaustive()
    }
}

/// The parts of an encrypted object before its ciphertext.
struct Envelope<'a> {
    wrapped: &'a [u8],
    nonce: &'a [u8],
    /// Where ciphertext and tag begin; at least a tag follows.
    start: usize,
}

impl<'a> Envelope<'a> {
    fn parse(stored: &'a [u8]) -> Option<Envelope<'a>> {
        let (&[high, low, nonce_len], rest) = stored.split_first_chunk::<LENGTHS>()?;
        let (wrapped, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        let (nonce, rest) = rest.split_at_checked(usize::from(nonce_len))?;
        (rest.len() >= TAG_LEN).then(|| Envelope { wrapped, nonce, start: stored.len() - rest.len() })
    }
}
