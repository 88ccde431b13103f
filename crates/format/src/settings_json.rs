//! The JSON text of a setting: read as Go's decoder reads it, written as real clients write it.
//!
//! Names match whatever their case, `null` means absent, unknown fields survive. Written: one field per line without
//! leading blanks, in the format's order, empty fields left out where real clients leave them out.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value};

use crate::error::FormatError;
use crate::settings::{Settings, TierSetting};
use crate::version::check_meta_version;

/// Every field of the setting.
const FIELDS: &[&str] = &[
    "Name",
    "UUID",
    "Storage",
    "StorageClass",
    "Tiers",
    "Bucket",
    "AccessKey",
    "SecretKey",
    "SessionToken",
    "BlockSize",
    "Compression",
    "Shards",
    "HashPrefix",
    "Capacity",
    "Inodes",
    "EncryptKey",
    "EncryptAlgo",
    "KeyEncrypted",
    "UploadLimit",
    "DownloadLimit",
    "TrashDays",
    "MetaVersion",
    "MinClientVersion",
    "MaxClientVersion",
    "DirStats",
    "UserGroupQuota",
    "EnableACL",
    "RangerRestUrl",
    "RangerService",
    "ChangeLog",
    "ChangeLogMaxAge",
    "ChangeLogMaxLines",
    "KerbConf",
];

/// Every field of a tier.
const TIER_FIELDS: &[&str] = &["ID", "StorageClass", "Tag"];

/// Largest block size in KiB.
const MAX_BLOCK_KIB: u64 = 16 * 1024;

/// Most buckets a volume may have.
const MAX_SHARDS: u64 = 256;

impl Settings {
    /// Reads the JSON text of a setting.
    ///
    /// Errors: `Corrupt` for what is no setting; `Denied` instead if its `MetaVersion` says that it is a newer one.
    /// Otherwise versions are not checked here: see [`Settings::check_client`].
    pub fn parse(json: &str) -> Result<Settings, FormatError> {
        let value = serde_json::from_str(json).map_err(|source| FormatError::SettingJson { source: Some(source) })?;
        let Value::Object(map) = value else {
            return Err(FormatError::SettingJson { source: None });
        };
        let mut fields = Fields::split(map, FIELDS);
        let version = fields.known.get("MetaVersion").and_then(Value::as_i64).unwrap_or(0);
        let name = fields.known.get("Name").and_then(Value::as_str).unwrap_or("").to_owned();
        read(&mut fields).map_err(|error| check_meta_version(&name, version).err().unwrap_or(error))
    }

    /// The JSON text as real clients write it, unknown fields last.
    pub fn to_json(&self) -> String {
        let mut text = Vec::with_capacity(1024);
        let formatter = PrettyFormatter::with_indent(b"");
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        Value::Object(self.to_map()).serialize(&mut serializer).expect("a JSON value always serializes into memory");
        let text = String::from_utf8(text).expect("serde_json writes UTF-8");
        // Go escapes these five; outside strings none of them occurs in JSON.
        let escapes = [('<', "\\u003c"), ('>', "\\u003e"), ('&', "\\u0026"), ('\u{2028}', "\\u2028")];
        let text = text.replace('\u{2029}', "\\u2029");
        escapes
            .into_iter()
            .fold(text, |text, (from, to)| if text.contains(from) { text.replace(from, to) } else { text })
    }

    fn to_map(&self) -> Map<String, Value> {
        let mut out = Out(Map::new());
        out.always("Name", self.name.as_str());
        out.always("UUID", self.uuid.as_str());
        out.always("Storage", self.storage.as_str());
        out.unless_empty("StorageClass", self.storage_class.clone());
        out.always("Tiers", tiers_to_value(&self.tiers));
        out.always("Bucket", self.bucket.as_str());
        out.unless_empty("AccessKey", self.access_key.clone());
        out.unless_empty("SecretKey", self.secret_key.clone());
        out.unless_empty("SessionToken", self.session_token.clone());
        out.always("BlockSize", self.block_size);
        out.unless_empty("Compression", self.compression.clone());
        out.unless_empty("Shards", self.shards);
        out.unless_empty("HashPrefix", self.hash_prefix);
        out.unless_empty("Capacity", self.capacity);
        out.unless_empty("Inodes", self.inodes);
        out.unless_empty("EncryptKey", self.encrypt_key.clone());
        out.unless_empty("EncryptAlgo", self.encrypt_algo.clone());
        out.unless_empty("KeyEncrypted", self.key_encrypted);
        out.unless_empty("UploadLimit", self.upload_limit);
        out.unless_empty("DownloadLimit", self.download_limit);
        out.always("TrashDays", self.trash_days);
        out.unless_empty("MetaVersion", self.meta_version);
        out.unless_empty("MinClientVersion", self.min_client_version.clone());
        out.unless_empty("MaxClientVersion", self.max_client_version.clone());
        out.unless_empty("DirStats", self.dir_stats);
        out.unless_empty("UserGroupQuota", self.user_group_quota);
        out.always("EnableACL", self.enable_acl);
        out.unless_empty("RangerRestUrl", self.ranger_rest_url.clone());
        out.unless_empty("RangerService", self.ranger_service.clone());
        out.unless_empty("ChangeLog", self.change_log);
        out.unless_empty("ChangeLogMaxAge", self.change_log_max_age);
        out.unless_empty("ChangeLogMaxLines", self.change_log_max_lines);
        out.unless_empty("KerbConf", self.kerb_conf.clone());
        out.rest(&self.extra)
    }
}

fn read(fields: &mut Fields) -> Result<Settings, FormatError> {
    let name = fields.text("Name")?;
    if name.is_empty() {
        return Err(FormatError::SettingField { field: "Name", wanted: "a volume name" });
    }
    let storage_class = fields.text("StorageClass")?;
    let block_size = fields.bounded("BlockSize", 1, MAX_BLOCK_KIB, "a block size of 1 to 16384 KiB")?;
    Ok(Settings {
        name,
        uuid: fields.text("UUID")?,
        storage: fields.text("Storage")?,
        tiers: read_tiers(fields.known.remove("Tiers"), &storage_class)?,
        storage_class,
        bucket: fields.text("Bucket")?,
        access_key: fields.text("AccessKey")?,
        secret_key: fields.text("SecretKey")?,
        session_token: fields.text("SessionToken")?,
        block_size,
        compression: fields.text("Compression")?,
        shards: fields.bounded("Shards", 0, MAX_SHARDS, "a number of buckets up to 256")?,
        hash_prefix: fields.flag("HashPrefix")?,
        capacity: fields.unsigned("Capacity")?,
        inodes: fields.unsigned("Inodes")?,
        encrypt_key: fields.text("EncryptKey")?,
        encrypt_algo: fields.text("EncryptAlgo")?,
        key_encrypted: fields.flag("KeyEncrypted")?,
        upload_limit: fields.signed("UploadLimit")?,
        download_limit: fields.signed("DownloadLimit")?,
        trash_days: fields.signed("TrashDays")?,
        meta_version: fields.signed("MetaVersion")?,
        min_client_version: fields.text("MinClientVersion")?,
        max_client_version: fields.text("MaxClientVersion")?,
        dir_stats: fields.flag("DirStats")?,
        user_group_quota: fields.flag("UserGroupQuota")?,
        enable_acl: fields.flag("EnableACL")?,
        ranger_rest_url: fields.text("RangerRestUrl")?,
        ranger_service: fields.text("RangerService")?,
        change_log: fields.flag("ChangeLog")?,
        change_log_max_age: fields.signed("ChangeLogMaxAge")?,
        change_log_max_lines: fields.signed("ChangeLogMaxLines")?,
        kerb_conf: fields.text("KerbConf")?,
        extra: std::mem::take(&mut fields.extra),
    })
}

/// The tiers; a volume older than they are has tier 0 with its default storage class.
fn read_tiers(value: Option<Value>, storage_class: &str) -> Result<BTreeMap<u8, TierSetting>, FormatError> {
    let wrong = || FormatError::SettingField { field: "Tiers", wanted: "a map from tier numbers to tiers" };
    let map = match value {
        Some(Value::Object(map)) => map,
        Some(_) => return Err(wrong()),
        None => Map::new(),
    };
    let mut tiers = BTreeMap::new();
    for (number, value) in map {
        let Value::Object(map) = value else { return Err(wrong()) };
        let mut fields = Fields::split(map, TIER_FIELDS);
        let tier = TierSetting {
            id: fields.bounded("ID", 0, u64::from(u8::MAX), "a tier number")? as u8,
            storage_class: fields.text("StorageClass")?,
            tag: fields.text("Tag")?,
            extra: fields.extra,
        };
        tiers.insert(number.parse().map_err(|_| wrong())?, tier);
    }
    if tiers.is_empty() {
        tiers.insert(0, TierSetting { storage_class: storage_class.to_owned(), ..TierSetting::default() });
    }
    Ok(tiers)
}

fn tiers_to_value(tiers: &BTreeMap<u8, TierSetting>) -> Value {
    let tier_to_value = |tier: &TierSetting| {
        let mut out = Out(Map::new());
        out.always("ID", tier.id);
        out.always("StorageClass", tier.storage_class.as_str());
        out.always("Tag", tier.tag.as_str());
        Value::Object(out.rest(&tier.extra))
    };
    tiers.iter().map(|(number, tier)| (number.to_string(), tier_to_value(tier))).collect()
}

/// The fields of a JSON object: those with a known name under that name, the others as they came.
struct Fields {
    known: BTreeMap<&'static str, Value>,
    extra: Map<String, Value>,
}

impl Fields {
    /// Sorts the members of `map`. Of a name in several spellings the last wins, as in Go; `null` counts as absent.
    fn split(map: Map<String, Value>, names: &[&'static str]) -> Fields {
        let mut fields = Fields { known: BTreeMap::new(), extra: Map::new() };
        for (key, value) in map {
            match names.iter().find(|name| name.eq_ignore_ascii_case(&key)) {
                Some(_) if value.is_null() => {}
                Some(name) => _ = fields.known.insert(name, value),
                None => _ = fields.extra.insert(key, value),
            }
        }
        fields
    }

    /// Takes field `name` out, converted by `convert`; absent is the type's zero.
    fn take<T: Default>(
        &mut self,
        field: &'static str,
        wanted: &'static str,
        convert: impl FnOnce(Value) -> Option<T>,
    ) -> Result<T, FormatError> {
        match self.known.remove(field) {
            None => Ok(T::default()),
            Some(value) => convert(value).ok_or(FormatError::SettingField { field, wanted }),
        }
    }

    fn text(&mut self, field: &'static str) -> Result<String, FormatError> {
        self.take(field, "a text", |value| if let Value::String(text) = value { Some(text) } else { None })
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, FormatError> {
        self.take(field, "true or false", |value| value.as_bool())
    }

    fn unsigned(&mut self, field: &'static str) -> Result<u64, FormatError> {
        self.take(field, "a whole number from 0", |value| value.as_u64())
    }

    fn signed(&mut self, field: &'static str) -> Result<i64, FormatError> {
        self.take(field, "a whole number", |value| value.as_i64())
    }

    /// A number of `min` to `max`; `max` fits 32 bits. Absent counts as 0.
    fn bounded(&mut self, field: &'static str, min: u64, max: u64, wanted: &'static str) -> Result<u32, FormatError> {
        let number: u64 = self.take(field, wanted, |value| value.as_u64())?;
        let number = u32::try_from(number).ok().filter(|n| (min..=max).contains(&u64::from(*n)));
        number.ok_or(FormatError::SettingField { field, wanted })
    }
}

/// A JSON object being written.
struct Out(Map<String, Value>);

impl Out {
    fn always(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Leaves out "", 0 and false.
    fn unless_empty<T: Into<Value> + Default + PartialEq>(&mut self, name: &str, value: T) {
        if value != T::default() {
            self.always(name, value);
        }
    }

    /// Adds the fields nobody here knows and ends the object.
    fn rest(mut self, extra: &Map<String, Value>) -> Map<String, Value> {
        for (name, value) in extra {
            self.0.entry(name.clone()).or_insert_with(|| value.clone());
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_types::ErrorKind;

    fn with(fields: &str) -> Result<Settings, FormatError> {
        Settings::parse(&format!(r#"{{"Name": "vol", "BlockSize": 4096, {fields}}}"#))
    }

    #[test]
    fn unknown_fields_survive_in_order() {
        let settings = with(r#""Zebra": {"b": 1, "a": [true, null]}, "TrashDays": 2, "Alpha": -0.5"#).unwrap();
        assert_eq!(settings.extra.keys().collect::<Vec<_>>(), ["Zebra", "Alpha"]);
        let json = settings.to_json();
        assert!(json.ends_with("\"Zebra\": {\n\"b\": 1,\n\"a\": [\ntrue,\nnull\n]\n},\n\"Alpha\": -0.5\n}"), "{json}");
        assert_eq!(Settings::parse(&json).unwrap(), settings);
    }

    #[test]
    fn unknown_fields_of_tiers_survive() {
        let settings = with(r#""Tiers": {"2": {"id": 2, "STORAGECLASS": "IA", "Days": 3}}"#).unwrap();
        assert_eq!(settings.tiers[&2].storage_class, "IA");
        assert_eq!(Settings::parse(&settings.to_json()).unwrap(), settings);
        assert!(settings.to_json().contains("\"Days\": 3"));
    }

    #[test]
    fn names_match_in_any_case_and_null_is_absent() {
        let settings = with(r#""hashprefix": true, "SHARDS": 3, "shards": null, "Compression": null"#).unwrap();
        assert_eq!((settings.hash_prefix, settings.shards, settings.compression.as_str()), (true, 3, ""));
        assert!(settings.extra.is_empty());
    }

    #[test]
    fn volumes_without_tiers_get_their_default_one() {
        for tiers in [r#""Tiers": null"#, r#""Tiers": {}"#, r#""TrashDays": 1"#] {
            let settings = with(&format!(r#"{tiers}, "StorageClass": "IA""#)).unwrap();
            assert_eq!(settings.tiers[&0].storage_class, "IA");
        }
    }

    #[test]
    fn wrong_types_and_bounds_name_the_field() {
        for (fields, name) in [
            (r#""Capacity": 1.0"#, "Capacity"),
            (r#""Capacity": -1"#, "Capacity"),
            (r#""HashPrefix": 1"#, "HashPrefix"),
            (r#""UUID": 5"#, "UUID"),
            (r#""Shards": 257"#, "Shards"),
            (r#""BLOCKSIZE": 0"#, "BlockSize"),
            (r#""BlockSize": 16385"#, "BlockSize"),
            (r#""BlockSize": 4294971392"#, "BlockSize"),
            (r#""Tiers": {"x": {}}"#, "Tiers"),
            (r#""Tiers": {"1": 5}"#, "Tiers"),
            (r#""Name": """#, "Name"),
        ] {
            let error = with(fields).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains(&format!("field {name} ")), "{fields}: {error}");
        }
        for text in ["", "[]", "5", "null", "{", r#"{"Name": "x"}"#] {
            assert_eq!(Settings::parse(text).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
        }
    }

    #[test]
    fn a_newer_setting_is_refused_as_such() {
        let error = with(r#""MetaVersion": 2, "Capacity": "lots""#).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    }

    #[test]
    fn every_field_has_a_place() {
        let written = Settings::parse(include_str!("../tests/golden/setting_all.json")).unwrap().to_map();
        let mut expected: Vec<_> = FIELDS.to_vec();
        expected.retain(|name| !["EncryptKey", "KeyEncrypted"].contains(name));
        assert_eq!(written.keys().collect::<Vec<_>>(), expected);
    }
}
