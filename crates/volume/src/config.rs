//! `config`: changes the setting of a volume that exists, under its running clients.
//!
//! Flags, rules and lines of output are those of `juicefs config` 1.4.2 (`juicefs-features.md` A.1; pinned by the interop tests).

use shoal_format::{Settings, TierSetting, Version};
use shoal_meta::Meta;
use shoal_meta_sql::OpenMode;
use shoal_object::ObjectOptions;
use shoal_runtime::metrics::Registry;
use shoal_types::ByteSize;

use crate::engine::open_engine;
use crate::error::VolumeError;
use crate::format::{self, FormatOptions};
use crate::open::open_objects;

/// Oldest client that understands tiers, as JuiceFS writes it into the setting.
const TIER_CLIENT_VERSION: &str = "1.4.0-A";
/// Highest tier.
const TIER_MAX: u8 = 3;
/// Seconds that entries of a new change log are kept.
const CHANGE_LOG_AGE_SECS: i64 = 7200;

/// What `config` is asked for. `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigOptions {
    /// Object store type.
    pub storage: Option<String>,
    /// Bucket URL, or a directory for `file`.
    pub bucket: Option<String>,
    /// Access key of the object store.
    pub access_key: Option<String>,
    /// Secret key of the object store.
    pub secret_key: Option<String>,
    /// Session token of the object store.
    pub session_token: Option<String>,
    /// The tier that `storage_class` and `tag` are of; the default one is 0.
    pub tier: Option<u8>,
    /// Storage class of new objects of a tier.
    pub storage_class: Option<String>,
    /// Tag of new objects of a tier, `key=value`.
    pub tag: Option<String>,
    /// Upload limit of each client in Mbps, 0 for none.
    pub upload_limit: Option<i64>,
    /// Download limit of each client in Mbps, 0 for none.
    pub download_limit: Option<i64>,
    /// Space quota in bytes, 0 for none.
    pub capacity: Option<u64>,
    /// Inode quota, 0 for none.
    pub inodes: Option<u64>,
    /// Days a removed file stays in the trash.
    pub trash_days: Option<u32>,
    /// POSIX ACLs; there is no way back.
    pub enable_acl: Option<bool>,
    /// Stores secrets sealed from now on.
    pub encrypt_secret: bool,
    /// Oldest client that may open the volume.
    pub min_client_version: Option<String>,
    /// Newest client that may open the volume.
    pub max_client_version: Option<String>,
    /// Statistics of directories.
    pub dir_stats: Option<bool>,
    /// Use by users and groups.
    pub user_group_quota: Option<bool>,
    /// A change log.
    pub change_log: Option<bool>,
    /// Seconds that entries of the change log are kept, 0 for no limit.
    pub change_log_max_age: Option<i64>,
    /// Entries of the change log that are kept, 0 for no limit.
    pub change_log_max_lines: Option<i64>,
    /// Change even what makes the data unreachable.
    pub force: bool,
}

/// A change of a setting that is worked out and not made yet.
#[derive(Debug, Clone)]
pub struct ConfigPlan {
    /// The setting as it will be; its secrets are open.
    wanted: Settings,
    /// The setting as it is.
    existing: Settings,
    /// What changes, a line each.
    pub lines: Vec<String>,
    /// What a person should agree to before.
    pub warnings: Vec<String>,
    /// Whether objects go elsewhere.
    moves_objects: bool,
}

/// Works out what `options` change of the volume at `url`. Errors: `Invalid` for what is impossible, and what the engine reports.
pub async fn plan_config(url: &str, options: &ConfigOptions) -> Result<(Settings, ConfigPlan), VolumeError> {
    let meta = Meta::new(open_engine(url, OpenMode::ReadOnly).await?);
    let existing = meta.settings().await;
    meta.close().await;
    let existing = existing?;
    let plan = plan(&existing, options)?;
    Ok((existing, plan))
}

/// Makes a planned change; running clients follow within their heartbeat. The object store is tried before, unless forced.
pub async fn apply_config(
    url: &str,
    plan: ConfigPlan,
    options: &ConfigOptions,
    passphrase: Option<&str>,
    registry: &Registry,
) -> Result<(), VolumeError> {
    let mut wanted = plan.wanted;
    if plan.moves_objects && !options.force {
        wanted.codec(passphrase)?;
        let objects = open_objects(&wanted, &ObjectOptions::default(), registry)?;
        format::make_directories(&wanted)?;
        shoal_object::probe(&*objects).await?;
    }
    wanted.seal_secrets()?;
    let meta = Meta::new(open_engine(url, OpenMode::ReadWrite).await?);
    let written = match meta.settings().await {
        // Two who change different things at once must not undo each other.
        Ok(now) if now != plan.existing => Err(VolumeError::SettingChanged { name: now.name }),
        Ok(_) => meta.update_settings(&wanted).await.map_err(VolumeError::from),
        Err(error) => Err(error.into()),
    };
    meta.close().await;
    written
}

fn plan(existing: &Settings, options: &ConfigOptions) -> Result<ConfigPlan, VolumeError> {
    if options.enable_acl == Some(false) && existing.enable_acl {
        return bad("--enable-acl", "ACLs cannot be disabled once they are enabled");
    }
    let shared = FormatOptions {
        name: existing.name.clone(),
        storage: options.storage.clone(),
        bucket: options.bucket.clone(),
        access_key: options.access_key.clone(),
        secret_key: options.secret_key.clone(),
        session_token: options.session_token.clone(),
        capacity: options.capacity,
        inodes: options.inodes,
        trash_days: options.trash_days,
        enable_acl: options.enable_acl == Some(true),
        force: options.force,
        ..FormatOptions::default()
    };
    let mut wanted = format::changed(existing, &shared)?;
    set(&mut wanted.upload_limit, options.upload_limit);
    set(&mut wanted.download_limit, options.download_limit);
    set(&mut wanted.dir_stats, options.dir_stats);
    set(&mut wanted.user_group_quota, options.user_group_quota);
    change_log(&mut wanted, options);
    let tier_lines = tiers(&mut wanted, options)?;
    versions(&mut wanted, existing, options)?;

    let lines = [differences(existing, &wanted, options), tier_lines].concat();
    let mut warnings = Vec::new();
    if wanted.trash_days == 0 && existing.trash_days > 0 {
        warnings.push("The current trash will be emptied and future removed files will purged immediately.".to_owned());
    }
    if options.min_client_version.is_some() && wanted.min_client_version != existing.min_client_version {
        let version = &wanted.min_client_version;
        warnings.push(format!("Clients below version {version} will be rejected after modification."));
    }
    if options.max_client_version.is_some() && wanted.max_client_version != existing.max_client_version {
        let version = &wanted.max_client_version;
        warnings.push(format!("Clients above version {version} will be rejected after modification."));
    }
    let where_to =
        [&options.storage, &options.bucket, &options.access_key, &options.secret_key, &options.session_token];
    let moves_objects = where_to.iter().any(|option| option.is_some());
    Ok(ConfigPlan { wanted, existing: existing.clone(), lines, warnings, moves_objects })
}

fn set<T>(field: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *field = wanted;
    }
}

fn bad<T>(option: &'static str, reason: &str) -> Result<T, VolumeError> {
    Err(VolumeError::BadOption { option, reason: reason.to_owned() })
}

fn change_log(wanted: &mut Settings, options: &ConfigOptions) {
    let begins = options.change_log == Some(true) && !wanted.change_log;
    set(&mut wanted.change_log, options.change_log);
    set(&mut wanted.change_log_max_lines, options.change_log_max_lines);
    match options.change_log_max_age {
        Some(age) => wanted.change_log_max_age = age,
        None if begins && wanted.change_log_max_age == 0 => wanted.change_log_max_age = CHANGE_LOG_AGE_SECS,
        None => {}
    }
}

/// Sets class and tag of a tier; gives the lines that say so.
fn tiers(wanted: &mut Settings, options: &ConfigOptions) -> Result<Vec<String>, VolumeError> {
    let id = options.tier.unwrap_or(0);
    if id > TIER_MAX {
        return bad("--tier", "tiers are 0 to 3");
    }
    if options.storage_class.is_none() && options.tag.is_none() {
        return match options.tier {
            Some(_) => bad("--tier", "say what the tier is with --storage-class or --tag"),
            None => Ok(Vec::new()),
        };
    }
    if wanted.tiers.is_empty() {
        // A volume older than tiers.
        let storage_class = wanted.storage_class.clone();
        wanted.tiers.insert(0, TierSetting { storage_class, ..TierSetting::default() });
    }
    let tier = wanted.tiers.entry(id).or_insert_with(|| TierSetting { id, ..TierSetting::default() });
    let mut lines = Vec::new();
    for (name, field, value) in
        [("storage-class", &mut tier.storage_class, &options.storage_class), ("tag", &mut tier.tag, &options.tag)]
    {
        let Some(value) = value else { continue };
        lines.push(match id {
            0 => format!("{name:>10}: {field} -> {value}"),
            _ => format!("set tier {id} {name}: {value}"),
        });
        field.clone_from(value);
    }
    if id > 0 && Version::parse(&wanted.min_client_version) < Version::parse(TIER_CLIENT_VERSION) {
        TIER_CLIENT_VERSION.clone_into(&mut wanted.min_client_version);
    }
    Ok(lines)
}

fn versions(wanted: &mut Settings, existing: &Settings, options: &ConfigOptions) -> Result<(), VolumeError> {
    let limit = |option: &'static str, text: &str| match Version::parse(text) {
        Some(version) => Ok(version),
        None => bad(option, &format!("`{text}` is no version")),
    };
    if let Some(text) = &options.min_client_version {
        let version = limit("--min-client-version", text)?;
        if Version::parse(&existing.min_client_version).is_some_and(|old| version < old) {
            let old = &existing.min_client_version;
            return bad("--min-client-version", &format!("it cannot be lowered from {old} to {text}"));
        }
        wanted.min_client_version.clone_from(text);
    }
    if let Some(text) = &options.max_client_version {
        limit("--max-client-version", text)?;
        wanted.max_client_version.clone_from(text);
    }
    Ok(())
}

/// What changes beside tiers, by the names of the flags, in their order.
fn differences(old: &Settings, new: &Settings, options: &ConfigOptions) -> Vec<String> {
    let size = |bytes: u64| ByteSize(bytes).iec();
    let (mbps, age) = (|limit: i64| format!("{limit}.0 Mbps"), |secs: i64| go_duration(secs));
    let defaulted = if options.change_log_max_age.is_none() { " (default)" } else { "" };
    let text = |value: &dyn ToString| value.to_string();
    let fields = [
        ("access-key", old.access_key.clone(), new.access_key.clone()),
        ("bucket", old.bucket.clone(), new.bucket.clone()),
        ("capacity", size(old.capacity), size(new.capacity)),
        ("changelog", text(&old.change_log), text(&new.change_log)),
        ("changelog-max-age", age(old.change_log_max_age), age(new.change_log_max_age)),
        ("changelog-max-lines", text(&old.change_log_max_lines), text(&new.change_log_max_lines)),
        ("dir-stats", text(&old.dir_stats), text(&new.dir_stats)),
        ("download-limit", mbps(old.download_limit), mbps(new.download_limit)),
        ("enable-acl", text(&old.enable_acl), text(&new.enable_acl)),
        ("inodes", text(&old.inodes), text(&new.inodes)),
        ("max-client-version", old.max_client_version.clone(), new.max_client_version.clone()),
        ("min-client-version", old.min_client_version.clone(), new.min_client_version.clone()),
        ("storage", old.storage.clone(), new.storage.clone()),
        ("trash-days", text(&old.trash_days), text(&new.trash_days)),
        ("upload-limit", mbps(old.upload_limit), mbps(new.upload_limit)),
        ("user-group-quota", text(&old.user_group_quota), text(&new.user_group_quota)),
    ];
    let differing = fields.into_iter().filter(|(_, old, new)| old != new);
    let mut lines: Vec<String> = differing
        .map(|(name, old, new)| {
            let note = if name == "changelog-max-age" { defaulted } else { "" };
            format!("{name:>10}: {old} -> {new}{note}")
        })
        .collect();
    let sealed = options.encrypt_secret && !old.key_encrypted && new.has_secrets();
    let secrets = [
        ("secret-key", options.secret_key.is_some(), "updated"),
        ("session-token", options.session_token.is_some(), "updated"),
        ("encrypt-secret", sealed, "false -> true"),
    ];
    lines.extend(
        secrets.into_iter().filter(|(_, changed, _)| *changed).map(|(name, _, what)| format!("{name:>10}: {what}")),
    );
    lines
}

/// A duration as Go says it: `2h0m0s`, `1m30s`, `0s`.
fn go_duration(secs: i64) -> String {
    let (hours, minutes, rest) = (secs / 3600, secs / 60 % 60, secs % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Settings {
        Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873")
    }

    fn planned(existing: &Settings, options: &ConfigOptions) -> ConfigPlan {
        plan(existing, options).expect("possible")
    }

    #[test]
    fn only_what_is_given_changes() {
        let none = planned(&volume(), &ConfigOptions::default());
        assert_eq!((none.wanted, none.lines, none.warnings), (volume(), vec![], vec![]));
        let options = ConfigOptions {
            capacity: Some(1 << 30),
            change_log: Some(true),
            trash_days: Some(0),
            upload_limit: Some(5),
            ..ConfigOptions::default()
        };
        let plan = planned(&volume(), &options);
        let want = Settings {
            capacity: 1 << 30,
            change_log: true,
            change_log_max_age: 7200,
            trash_days: 0,
            upload_limit: 5,
            ..volume()
        };
        assert_eq!(plan.wanted, want);
        assert_eq!(
            plan.lines[1..],
            [
                " changelog: false -> true",
                "changelog-max-age: 0s -> 2h0m0s (default)",
                "trash-days: 1 -> 0",
                "upload-limit: 0.0 Mbps -> 5.0 Mbps"
            ]
        );
        assert_eq!((plan.lines[0].as_str(), plan.warnings.len()), ("  capacity: 0 B -> 1.0 GiB", 1));
    }

    #[test]
    fn tiers_keep_out_clients_that_do_not_know_them() {
        let class = |tier, class: &str| ConfigOptions {
            tier,
            storage_class: Some(class.to_owned()),
            ..ConfigOptions::default()
        };
        let first = planned(&volume(), &class(Some(1), "GLACIER"));
        assert_eq!(first.lines, ["min-client-version: 1.1.0-A -> 1.4.0-A", "set tier 1 storage-class: GLACIER"]);
        assert_eq!(first.wanted.tiers[&1].storage_class, "GLACIER");
        let default = planned(&volume(), &class(None, "STANDARD_IA"));
        assert_eq!(default.lines, ["storage-class:  -> STANDARD_IA"]);
        assert_eq!(default.wanted.min_client_version, "1.1.0-A");
        assert!(plan(&volume(), &class(Some(4), "X")).is_err());
        let empty = ConfigOptions { tier: Some(1), ..ConfigOptions::default() };
        assert!(plan(&volume(), &empty).is_err());
    }

    #[test]
    fn what_cannot_be_undone_or_is_no_version_is_refused() {
        let acl = |enable_acl| ConfigOptions { enable_acl, ..ConfigOptions::default() };
        let with = planned(&volume(), &acl(Some(true))).wanted;
        assert_eq!((with.enable_acl, with.min_client_version.as_str()), (true, "1.2.0-A"));
        assert!(plan(&with, &acl(Some(false))).is_err());
        assert_eq!(planned(&volume(), &acl(Some(false))).lines.len(), 0);
        let min = |text: &str| ConfigOptions { min_client_version: Some(text.to_owned()), ..ConfigOptions::default() };
        for text in ["", "x", "1.0.0"] {
            assert!(plan(&volume(), &min(text)).is_err(), "{text}");
        }
        let plan = planned(&volume(), &min("1.3.0"));
        assert_eq!((plan.lines[0].as_str(), plan.warnings.len()), ("min-client-version: 1.1.0-A -> 1.3.0", 1));
    }

    #[test]
    fn durations_are_said_as_go_does() {
        for (secs, said) in [(0, "0s"), (90, "1m30s"), (7200, "2h0m0s"), (5400, "1h30m0s")] {
            assert_eq!(go_duration(secs), said);
        }
    }
}
