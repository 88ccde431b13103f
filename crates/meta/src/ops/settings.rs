//! Reading the setting, and the gate every change passes.

use shoal_format::{ClientRole, Settings};

use crate::engine::Records;
use crate::error::MetaError;

/// The volume's setting. `at` names the database in messages.
pub(crate) async fn settings(records: &dyn Records, at: &str) -> Result<Settings, MetaError> {
    let json = records.setting().await?.ok_or_else(|| MetaError::NoVolume { at: at.to_owned() })?;
    Ok(Settings::parse(&json)?)
}

/// The setting of a volume that is about to be changed: refused where it obliges writers to more than we maintain.
pub(crate) async fn settings_for_change(records: &dyn Records, at: &str) -> Result<Settings, MetaError> {
    let settings = settings(records, at).await?;
    settings.check_client_as(ClientRole::Writer)?;
    Ok(settings)
}
