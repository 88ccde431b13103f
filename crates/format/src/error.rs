//! What can be wrong with bytes, texts and keys of a volume.

use shoal_types::ErrorKind;

/// A volume's setting, record or block is not what the format says, or asks for what we do not have.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The setting is not a JSON object.
    #[error("the volume's setting is not a JSON object")]
    SettingJson {
        /// Where the parser stopped; `None` when the text is JSON of another type.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// A field of the setting has the wrong type or lies outside its bounds.
    #[error("field {field} of the volume's setting is not {wanted}")]
    SettingField {
        /// The field's name as the format spells it.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The volume's metadata has a newer layout than we know.
    #[error("volume `{volume}` has metadata version {version}, this client knows up to {known}; use a newer client")]
    MetaVersion {
        /// Volume name.
        volume: String,
        /// What the volume has.
        version: i64,
        /// The highest we know.
        known: i64,
    },
    /// The volume admits only newer clients.
    #[error(
        "volume `{volume}` wants client {wanted} or newer, this one offers the features of {ours} to a {role}; \
         use a newer client, or lower the limit with `juicefs config --min-client-version`"
    )]
    ClientTooOld {
        /// Volume name.
        volume: String,
        /// The volume's `MinClientVersion`.
        wanted: String,
        /// The feature level this client claims.
        ours: &'static str,
        /// What the client wants to be.
        role: &'static str,
    },
    /// The volume admits only older clients.
    #[error(
        "volume `{volume}` wants client {wanted} or older, this one offers the features of {ours} to a {role}; \
         use an older client, or raise the limit with `juicefs config --max-client-version`"
    )]
    ClientTooNew {
        /// Volume name.
        volume: String,
        /// The volume's `MaxClientVersion`.
        wanted: String,
        /// The feature level this client claims.
        ours: &'static str,
        /// What the client wants to be.
        role: &'static str,
    },
    /// A client version in the setting cannot be read.
    #[error("volume `{volume}` limits clients to version `{text}`, which is no version such as 1.4.0")]
    ClientVersion {
        /// Volume name.
        volume: String,
        /// The text in the setting.
        text: String,
    },
    /// Writers of this volume must maintain something we do not.
    #[error("volume `{volume}` has {feature} on, which this client does not maintain; open it read-only")]
    WriterFeature {
        /// Volume name.
        volume: String,
        /// What is on.
        feature: &'static str,
    },
    /// A volume name that the format does not allow.
    #[error(
        "`{name}` is no volume name; use 3 to 63 lower-case letters, digits and dashes, with a letter or digit at both ends"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The bucket of a sharded volume is no template.
    #[error("bucket `{bucket}` of a sharded volume needs one %d for the number of the shard")]
    BucketTemplate {
        /// The setting's `Bucket`.
        bucket: String,
    },
    /// A secret was stripped from the setting by a dump.
    #[error("{field} of volume `{volume}` was removed by a dump; set it again with `juicefs config`")]
    SecretRemoved {
        /// Volume name.
        volume: String,
        /// Which secret.
        field: &'static str,
    },
    /// A secret in the setting does not decrypt.
    #[error("{field} of volume `{volume}` does not decrypt with the volume's UUID")]
    Secret {
        /// Volume name.
        volume: String,
        /// Which secret.
        field: &'static str,
    },
    /// The volume uses an algorithm we do not have.
    #[error("volume `{volume}` uses {what} `{name}`, which this client does not support")]
    Algorithm {
        /// Volume name.
        volume: String,
        /// Kind of algorithm: "compression", "encryption".
        what: &'static str,
        /// Its name in the setting.
        name: String,
    },
    /// The private key needs a passphrase.
    #[error("the encryption key of volume `{volume}` is protected; put its passphrase in JFS_RSA_PASSPHRASE")]
    PassphraseMissing {
        /// Volume name.
        volume: String,
    },
    /// The private key does not open with this passphrase.
    #[error("the encryption key of volume `{volume}` does not open with this passphrase; check JFS_RSA_PASSPHRASE")]
    PassphraseWrong {
        /// Volume name.
        volume: String,
    },
    /// The private key is not one we can use.
    #[error("the encryption key of volume `{volume}` is unusable: {reason}")]
    PrivateKey {
        /// Volume name.
        volume: String,
        /// Why.
        reason: &'static str,
    },
    /// A metadata record is malformed.
    #[error("{record} record of {len} bytes is malformed: {reason}")]
    Record {
        /// Which record.
        record: &'static str,
        /// Its length in bytes.
        len: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A slice record points outside its slice.
    #[error("bytes {off}+{len} lie outside slice {id} of {size} bytes")]
    SliceRange {
        /// Slice id.
        id: u64,
        /// Bytes in the slice.
        size: u32,
        /// First byte wanted.
        off: u32,
        /// Bytes wanted.
        len: u32,
    },
    /// A stored block is not what it must be.
    #[error("stored block of {stored_len} bytes (plain length {plain_len}) is corrupt: {reason}")]
    Block {
        /// Bytes as stored.
        stored_len: usize,
        /// Bytes it should decode to.
        plain_len: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// An encrypted object is not what it must be.
    #[error("encrypted object of {stored_len} bytes does not decrypt: {reason}")]
    Object {
        /// Bytes as stored.
        stored_len: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A block is larger than the format allows.
    #[error("a block of {len} bytes is larger than the format's {max}")]
    BlockTooLarge {
        /// Bytes asked for.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A library failed at something that does not depend on its input.
    #[error("{what} failed")]
    Library {
        /// What was being done.
        what: &'static str,
    },
}

impl FormatError {
    /// What the caller may do about it.
    pub fn kind(&self) -> ErrorKind {
        use FormatError::*;
        match self {
            SettingJson { .. } | SettingField { .. } | Secret { .. } | Record { .. } => ErrorKind::Corrupt,
            SliceRange { .. } | Block { .. } | Object { .. } => ErrorKind::Corrupt,
            MetaVersion { .. } | ClientTooOld { .. } | ClientTooNew { .. } | ClientVersion { .. } => ErrorKind::Denied,
            WriterFeature { .. } | PassphraseMissing { .. } | PassphraseWrong { .. } => ErrorKind::Denied,
            Name { .. } | BucketTemplate { .. } | SecretRemoved { .. } | Algorithm { .. } => ErrorKind::Invalid,
            PrivateKey { .. } | BlockTooLarge { .. } => ErrorKind::Invalid,
            Library { .. } => ErrorKind::Internal,
        }
    }
}
