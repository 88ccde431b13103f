//! Creating a volume and changing its setting: what `juicefs format` and `juicefs config` write (spec sections 2, 6.1, 12).

use async_trait::async_trait;
use shoal_format::{Attr, FileType, Ino, Settings, Time};

use super::owners::{count_owners, put_owners};
use super::settings::settings;
use crate::changelog::{LogEntry, LogWriter};
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::DirUsage;
use crate::retry::Operation;

/// Creates the volume `settings` describe; with `force`, replaces the setting of the volume that is there.
pub(crate) struct Init<'a> {
    pub(crate) at: &'a str,
    pub(crate) settings: &'a Settings,
    pub(crate) force: bool,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for Init<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        txn.create_schema().await?;
        let mut setting = self.settings.clone();
        match settings(txn, self.at).await {
            Ok(old) if !self.force => {
                return Err(MetaError::VolumeExists { name: old.name, at: self.at.to_owned() });
            }
            // The namespace stays, and so does the identity that its objects and secrets hang on.
            Ok(old) => setting.uuid = old.uuid,
            Err(MetaError::NoVolume { .. }) => {}
            // A setting that cannot be read is what force is for.
            Err(MetaError::Format(_)) if self.force => {}
            Err(error) => return Err(error),
        }
        txn.put_setting(&setting.to_json()).await?;
        if txn.attr(Ino::ROOT).await?.is_none() {
            txn.insert_attrs(&[(Ino::ROOT, directory(0o777, self.now))]).await?;
            if setting.dir_stats {
                // Clients that begin at once would each count what the others have still to add.
                txn.put_dir_usage(&[(Ino::ROOT, DirUsage::default())]).await?;
            }
        }
        ensure_trash(txn, &setting, self.now).await
    }
}

/// Replaces the setting of an existing volume by one that keeps what is fixed at creation.
pub(crate) struct UpdateSettings<'a> {
    pub(crate) at: &'a str,
    pub(crate) settings: &'a Settings,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for UpdateSettings<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let old = settings(txn, self.at).await?;
        if let Some(field) = changed_fixed_field(&old, self.settings) {
            return Err(MetaError::invalid(format!(
                "{field} of volume `{}` is fixed when the volume is created and cannot change",
                old.name
            )));
        }
        change_settings(txn, &old, self.settings, self.log, self.now).await
    }
}

/// Puts `new` in the place of the setting `old`, with what begins to be kept from now on.
pub(crate) async fn change_settings(
    txn: &dyn Txn,
    old: &Settings,
    new: &Settings,
    log: &LogWriter,
    now: Time,
) -> Result<(), MetaError> {
    txn.put_setting(&new.to_json()).await?;
    if new.user_group_quota && !old.user_group_quota {
        put_owners(txn, &count_owners(txn).await?).await?;
        log.append(txn, new, now, || LogEntry::new("INIT_ENABLE_USERGROUPQUOTA")).await?;
    }
    if new.dir_stats && !old.dir_stats {
        // What was recorded before is out of date: unknown use is counted when it is needed.
        txn.forget_dir_usage().await?;
        log.append(txn, new, now, || LogEntry::new("INIT_ENABLE_DIRSTATS")).await?;
    }
    ensure_trash(txn, new, now).await
}

async fn ensure_trash(txn: &dyn Txn, settings: &Settings, now: Time) -> Result<(), MetaError> {
    if settings.trash_days > 0 && txn.attr(Ino::TRASH).await?.is_none() {
        txn.insert_attrs(&[(Ino::TRASH, directory(0o555, now))]).await?;
    }
    Ok(())
}

fn directory(mode: u16, now: Time) -> Attr {
    Attr::new(FileType::Directory, mode, Ino::ROOT, now)
}

/// The first field that is immutable after creation (spec section 2) and differs.
fn changed_fixed_field(old: &Settings, new: &Settings) -> Option<&'static str> {
    let shards = |settings: &Settings| settings.shards.max(1);
    let compression = |settings: &Settings| match settings.compression.as_str() {
        "" => "none".to_owned(),
        other => other.to_owned(),
    };
    let checks = [
        ("Name", old.name == new.name),
        ("UUID", old.uuid == new.uuid),
        ("BlockSize", old.block_size == new.block_size),
        ("Compression", compression(old) == compression(new)),
        ("Shards", shards(old) == shards(new)),
        ("HashPrefix", old.hash_prefix == new.hash_prefix),
        ("MetaVersion", old.meta_version == new.meta_version),
        ("EncryptKey", old.is_encrypted() == new.is_encrypted()),
    ];
    checks.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_fields_are_found_and_free_ones_are_not() {
        let old = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
        let change = |edit: &dyn Fn(&mut Settings)| {
            let mut new = old.clone();
            edit(&mut new);
            changed_fixed_field(&old, &new)
        };
        assert_eq!(change(&|s| s.name = "other".into()), Some("Name"));
        assert_eq!(change(&|s| s.block_size = 64), Some("BlockSize"));
        assert_eq!(change(&|s| s.compression = "lz4".into()), Some("Compression"));
        assert_eq!(change(&|s| s.encrypt_key = "key".into()), Some("EncryptKey"));
        assert_eq!(change(&|s| s.compression = String::new()), None);
        assert_eq!(change(&|s| s.shards = 1), None);
        assert_eq!(change(&|s| s.trash_days = 7), None);
        assert_eq!(change(&|s| s.bucket = "/elsewhere/".into()), None);
    }
}
