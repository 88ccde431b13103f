//! A volume's setting: one JSON object in its metadata.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// Highest `MetaVersion` this crate understands.
pub const META_VERSION: i64 = 1;

/// Storage class and tag of one tier.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TierSetting {
    /// The tier's number, the same as its key in [`Settings::tiers`].
    pub id: u8,
    /// Storage class of objects in this tier, as the object store spells it; empty is the store's default.
    pub storage_class: String,
    /// Tag of objects in this tier, `key=value`.
    pub tag: String,
    /// Fields this crate does not know, kept for the next writer.
    pub extra: Map<String, Value>,
}

/// The setting of a volume. Field names follow the format's; secrets are as stored (see [`Settings::secret_key`]).
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Volume name and prefix of every object key.
    pub name: String,
    /// Volume identity, 36 characters; also the key that obfuscates secrets.
    pub uuid: String,
    /// Object store type: `file`, `s3`, `gs`, ...
    pub storage: String,
    /// Default storage class of volumes older than tiers.
    pub storage_class: String,
    /// Tiers by number; empty on volumes older than 1.4.
    pub tiers: BTreeMap<u8, TierSetting>,
    /// Bucket URL, a directory with trailing `/` for `file`, or a template with one `%d` for a sharded volume.
    pub bucket: String,
    /// Access key of the object store.
    pub access_key: String,
    /// Secret key as stored; sealed if [`Settings::key_encrypted`].
    pub secret_key: String,
    /// Session token as stored; sealed if [`Settings::key_encrypted`].
    pub session_token: String,
    /// Block size in KiB, 1 to 16384.
    pub block_size: u32,
    /// `none` or empty, `lz4`, `zstd`.
    pub compression: String,
    /// Buckets the objects are spread over, at most 256; 0 and 1 mean one.
    pub shards: u32,
    /// Object keys spread over 256 prefixes.
    pub hash_prefix: bool,
    /// Space quota in bytes, 0 = none.
    pub capacity: u64,
    /// Inode quota, 0 = none.
    pub inodes: u64,
    /// Private key PEM as stored; objects are encrypted if it is not empty. Sealed if [`Settings::key_encrypted`].
    pub encrypt_key: String,
    /// `aes256gcm-rsa` or empty, `chacha20-rsa`, `sm4gcm`. Means nothing without a key.
    pub encrypt_algo: String,
    /// The secrets are stored sealed.
    pub key_encrypted: bool,
    /// Upload limit of each client in Mbps, 0 = none.
    pub upload_limit: i64,
    /// Download limit of each client in Mbps, 0 = none.
    pub download_limit: i64,
    /// Days that removed files stay in the trash, 0 = no trash.
    pub trash_days: i64,
    /// Layout of the metadata.
    pub meta_version: i64,
    /// Oldest client that may open the volume; empty = any.
    pub min_client_version: String,
    /// Newest client that may open the volume; empty = any.
    pub max_client_version: String,
    /// Usage statistics are kept for each directory.
    pub dir_stats: bool,
    /// Usage is tracked for each user and group.
    pub user_group_quota: bool,
    /// POSIX ACLs are on.
    pub enable_acl: bool,
    /// Ranger server.
    pub ranger_rest_url: String,
    /// Ranger service.
    pub ranger_service: String,
    /// Every metadata transaction appends to a change log.
    pub change_log: bool,
    /// Seconds that change log entries are kept.
    pub change_log_max_age: i64,
    /// Entries of the change log that are kept, 0 = no limit.
    pub change_log_max_lines: i64,
    /// Kerberos configuration.
    pub kerb_conf: String,
    /// Fields this crate does not know, in their order, kept for the next writer.
    pub extra: Map<String, Value>,
}

impl Settings {
    /// The setting `juicefs format` makes without options: 4 MiB blocks, no compression, no encryption, one day of trash.
    ///
    /// The name is not checked here (see `validate_name`); `uuid` is a random v4 UUID in its 36-character form.
    pub fn new(name: &str, uuid: &str) -> Settings {
        Settings {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            storage: "file".to_owned(),
            tiers: BTreeMap::from([(0, TierSetting::default())]),
            bucket: "/var/jfs/".to_owned(),
            block_size: 4096,
            compression: "none".to_owned(),
            encrypt_algo: "aes256gcm-rsa".to_owned(),
            trash_days: 1,
            meta_version: META_VERSION,
            min_client_version: "1.1.0-A".to_owned(),
            dir_stats: true,
            ..Settings::empty()
        }
    }

    /// A setting whose every field is absent.
    pub(crate) fn empty() -> Settings {
        Settings {
            name: String::new(),
            uuid: String::new(),
            storage: String::new(),
            storage_class: String::new(),
            tiers: BTreeMap::new(),
            bucket: String::new(),
            access_key: String::new(),
            secret_key: String::new(),
            session_token: String::new(),
            block_size: 0,
            compression: String::new(),
            shards: 0,
            hash_prefix: false,
            capacity: 0,
            inodes: 0,
            encrypt_key: String::new(),
            encrypt_algo: String::new(),
            key_encrypted: false,
            upload_limit: 0,
            download_limit: 0,
            trash_days: 0,
            meta_version: 0,
            min_client_version: String::new(),
            max_client_version: String::new(),
            dir_stats: false,
            user_group_quota: false,
            enable_acl: false,
            ranger_rest_url: String::new(),
            ranger_service: String::new(),
            change_log: false,
            change_log_max_age: 0,
            change_log_max_lines: 0,
            kerb_conf: String::new(),
            extra: Map::new(),
        }
    }

    /// True if there is anything in the setting to be kept secret.
    pub fn has_secrets(&self) -> bool {
        [&self.secret_key, &self.session_token, &self.encrypt_key].iter().any(|secret| !secret.is_empty())
    }

    /// True if every object of the volume is encrypted.
    pub fn is_encrypted(&self) -> bool {
        !self.encrypt_key.is_empty()
    }
}

/// Names the volume; never prints its secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("uuid", &self.uuid)
            .field("storage", &self.storage)
            .field("block_size", &self.block_size)
            .field("compression", &self.compression)
            .field("encrypted", &self.is_encrypted())
            .finish_non_exhaustive()
    }
}
