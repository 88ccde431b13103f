//! Secrets in the setting: the object store's keys and the volume's private key.
//!
//! "Sealed" means AES-128-GCM under the MD5 of the volume's UUID: whoever reads the metadata can open it. It keeps keys
//! out of casual sight and is part of the format, no more.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use crate::error::FormatError;
use crate::settings::Settings;

/// What a dump leaves of a secret.
const REMOVED: &str = "removed";

/// The algorithm whose volumes seal with SM4 instead of AES.
const SM4: &str = "sm4gcm";

impl Settings {
    /// The object store's secret key in the clear; `None` if there is none.
    ///
    /// Errors: `Invalid` if a dump removed it or it is sealed with SM4; `Corrupt` if it does not open.
    pub fn secret_key(&self) -> Result<Option<String>, FormatError> {
        self.open("SecretKey", &self.secret_key)
    }

    /// The object store's session token in the clear; `None` if there is none. Errors as [`Settings::secret_key`].
    pub fn session_token(&self) -> Result<Option<String>, FormatError> {
        self.open("SessionToken", &self.session_token)
    }

    /// The private key PEM, itself perhaps protected by a passphrase; `None` if objects are not encrypted.
    ///
    /// Errors as [`Settings::secret_key`].
    pub fn encrypt_key(&self) -> Result<Option<String>, FormatError> {
        self.open("EncryptKey", &self.encrypt_key)
    }

    /// Seals the secrets, as `format` does; without secrets, or sealed already, nothing changes.
    ///
    /// Errors: `Invalid` if the volume seals with SM4.
    pub fn seal_secrets(&mut self) -> Result<(), FormatError> {
        if self.key_encrypted || self.secrets().iter().all(|(_, secret)| secret.is_empty()) {
            return Ok(());
        }
        let key = self.sealing_key()?;
        let seal = |secret: &str| match secret {
            "" => Ok(String::new()),
            secret => seal(&key, secret),
        };
        let sealed = (seal(&self.secret_key)?, seal(&self.session_token)?, seal(&self.encrypt_key)?);
        (self.secret_key, self.session_token, self.encrypt_key) = sealed;
        self.key_encrypted = true;
        Ok(())
    }

    /// Opens the sealed secrets in place, before one of them is replaced. Errors as [`Settings::secret_key`].
    pub fn unseal_secrets(&mut self) -> Result<(), FormatError> {
        let opened = (self.secret_key()?, self.session_token()?, self.encrypt_key()?);
        self.secret_key = opened.0.unwrap_or_default();
        self.session_token = opened.1.unwrap_or_default();
        self.encrypt_key = opened.2.unwrap_or_default();
        self.key_encrypted = false;
        Ok(())
    }

    /// Leaves the word `removed` where the object store's secrets were, as a dump without `--keep-secret-key` does. The private key
    /// of an encrypted volume stays: nobody could set it again.
    pub fn remove_secrets(&mut self) {
        for secret in [&mut self.secret_key, &mut self.session_token] {
            if !secret.is_empty() {
                REMOVED.clone_into(secret);
            }
        }
    }

    /// True if a dump removed a secret that the volume needs.
    pub fn lacks_secrets(&self) -> bool {
        self.secrets().iter().any(|(_, secret)| *secret == REMOVED)
    }

    fn secrets(&self) -> [(&'static str, &str); 3] {
        [("SecretKey", &self.secret_key), ("SessionToken", &self.session_token), ("EncryptKey", &self.encrypt_key)]
    }

    fn open(&self, field: &'static str, stored: &str) -> Result<Option<String>, FormatError> {
        match stored {
            "" => Ok(None),
            REMOVED => Err(FormatError::SecretRemoved { volume: self.name.clone(), field }),
            clear if !self.key_encrypted => Ok(Some(clear.to_owned())),
            sealed => match open(&self.sealing_key()?, sealed) {
                Some(clear) => Ok(Some(clear)),
                None => Err(FormatError::Secret { volume: self.name.clone(), field }),
            },
        }
    }

    fn sealing_key(&self) -> Result<LessSafeKey, FormatError> {
        if self.encrypt_algo == SM4 {
            return Err(FormatError::Algorithm {
                volume: self.name.clone(),
                what: "encryption",
                name: self.encrypt_algo.clone(),
            });
        }
        let key = UnboundKey::new(&AES_128_GCM, &Md5::digest(self.uuid.as_bytes()));
        key.map(LessSafeKey::new).map_err(|_| FormatError::Library { what: "making the sealing key" })
    }
}

/// base64 of nonce, ciphertext and tag.
fn seal(key: &LessSafeKey, clear: &str) -> Result<String, FormatError> {
    let failed = |_| FormatError::Library { what: "sealing a secret" };
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(failed)?;
    let mut sealed = clear.as_bytes().to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).map_err(failed)?;
    Ok(STANDARD.encode([&nonce[..], &sealed].concat()))
}

/// The text in a sealed secret; `None` if it is none of this key's.
fn open(key: &LessSafeKey, sealed: &str) -> Option<String> {
    let bytes = STANDARD.decode(sealed).ok()?;
    let (nonce, ciphertext) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let mut clear = ciphertext.to_vec();
    let len = key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut clear).ok()?.len();
    clear.truncate(len);
    String::from_utf8(clear).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_types::ErrorKind;

    const SEALED: &str = "ojAEIg0VqUDPsnUhfvVxr/LmV4ahYqjWPv005zINhcYCLA==";

    fn volume() -> Settings {
        Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873")
    }

    #[test]
    fn golden_secret_opens() {
        let settings = Settings { key_encrypted: true, secret_key: SEALED.into(), ..volume() };
        assert_eq!(settings.secret_key().unwrap().as_deref(), Some("SECRET"));
        assert_eq!(settings.session_token().unwrap(), None);
    }

    #[test]
    fn secrets_survive_sealing() {
        let clear = Settings { secret_key: "s".into(), session_token: "t".into(), encrypt_key: "k".into(), ..volume() };
        let mut settings = clear.clone();
        settings.seal_secrets().unwrap();
        assert!(settings.key_encrypted && settings.secret_key != "s");
        assert_eq!(settings.encrypt_key().unwrap().as_deref(), Some("k"));
        let sealed = settings.clone();
        settings.seal_secrets().unwrap();
        assert_eq!(settings, sealed, "sealing twice must not seal the sealed");
        settings.unseal_secrets().unwrap();
        assert_eq!(settings, clear);
    }

    #[test]
    fn a_volume_without_secrets_stays_open() {
        let mut settings = volume();
        settings.seal_secrets().unwrap();
        assert!(!settings.key_encrypted);
        assert_eq!(settings.secret_key().unwrap(), None);
    }

    #[test]
    fn what_does_not_open_says_why() {
        let sealed = Settings { key_encrypted: true, secret_key: SEALED.into(), ..volume() };
        let other = Settings { uuid: "another".into(), ..sealed.clone() };
        assert_eq!(other.secret_key().unwrap_err().kind(), ErrorKind::Corrupt);
        for text in ["no base64!", "AAAA", ""] {
            let broken = Settings { secret_key: text.into(), ..sealed.clone() };
            assert_eq!(broken.secret_key().is_err(), !text.is_empty(), "{text}");
        }
        let removed = Settings { secret_key: "removed".into(), ..sealed.clone() };
        assert!(removed.secret_key().unwrap_err().to_string().contains("SecretKey of volume `vol` was removed"));
        let sm4 = Settings { encrypt_algo: SM4.into(), ..sealed };
        assert!(sm4.secret_key().unwrap_err().to_string().contains("encryption `sm4gcm`"));
    }
}
