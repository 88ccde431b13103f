//! skeleton
use crate::error::FormatError;
use crate::settings::Settings;
impl Settings {
    /// Reads the JSON text of a setting.
    pub fn parse(_json: &str) -> Result<Settings, FormatError> {
        unimplemented!()
    }
    /// The JSON text as real clients write it.
    pub fn to_json(&self) -> String {
        unimplemented!()
    }
}
