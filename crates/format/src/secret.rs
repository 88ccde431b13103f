//! skeleton
use crate::error::FormatError;
use crate::settings::Settings;
impl Settings {
    /// The object store's secret key in the clear; `None` if there is none.
    pub fn secret_key(&self) -> Result<Option<String>, FormatError> {
        unimplemented!()
    }
    /// The object store's session token in the clear; `None` if there is none.
    pub fn session_token(&self) -> Result<Option<String>, FormatError> {
        unimplemented!()
    }
    /// The private key PEM in the clear; `None` if objects are not encrypted.
    pub fn encrypt_key(&self) -> Result<Option<String>, FormatError> {
        unimplemented!()
    }
    /// Seals the secrets.
    pub fn seal_secrets(&mut self) -> Result<(), FormatError> {
        unimplemented!()
    }
}
