//! `format`: makes a volume, or updates the setting of one.
//!
//! Flag names, defaults and rules are JuiceFS's (`juicefs-features.md` A.1; volume format, sections 2 and 3.4).

use std::path::PathBuf;

use bytes::Bytes;
use shoal_format::{Settings, round_block_size, validate_name};
use shoal_meta::Meta;
use shoal_meta_sql::OpenMode;
use shoal_object::{ObjectOptions, ObjectStore};
use shoal_runtime::metrics::Registry;
use shoal_types::{ByteSize, ErrorKind};

use crate::engine::open_engine;
use crate::error::VolumeError;
use crate::open::open_objects;

/// What `format` is asked for.
#[derive(Debug, Clone)]
pub struct FormatOptions {
    /// Volume name: 3 to 63 lower-case letters, digits and dashes.
    pub name: String,
    /// Object store type: `file` or `s3`.
    pub storage: String,
    /// Bucket URL, or a directory for `file`.
    pub bucket: String,
    /// Access key of the object store.
    pub access_key: String,
    /// Secret key of the object store.
    pub secret_key: String,
    /// Session token of the object store.
    pub session_token: String,
    /// Storage class of new objects; empty for the bucket's default.
    pub storage_class: String,
    /// Block size; rounded down to a power of two in 64 KiB..16 MiB.
    pub block_size: ByteSize,
    /// `none`, `lz4` or `zstd`.
    pub compress: String,
    /// PEM file with the RSA private key that encrypts the volume's objects.
    pub encrypt_rsa_key: Option<PathBuf>,
    /// `aes256gcm-rsa` or `chacha20-rsa`.
    pub encrypt_algo: String,
    /// Spread object keys by a prefix.
    pub hash_prefix: bool,
    /// Number of buckets the volume is spread over; the bucket then holds a `%d`.
    pub shards: u32,
    /// Space quota in bytes, 0 for none.
    pub capacity: u64,
    /// Inode quota, 0 for none.
    pub inodes: u64,
    /// Days a removed file stays in the trash.
    pub trash_days: u32,
    /// POSIX ACLs.
    pub enable_acl: bool,
    /// Overwrite what is there.
    pub force: bool,
    /// Leave an existing volume as it is.
    pub no_update: bool,
}

impl FormatOptions {
    /// JuiceFS's defaults for a volume `name` with its objects in `bucket` of type `storage`.
    pub fn new(name: &str, storage: &str, bucket: &str) -> FormatOptions {
        FormatOptions {
            name: name.to_owned(),
            storage: storage.to_owned(),
            bucket: bucket.to_owned(),
            access_key: String::new(),
            secret_key: String::new(),
            session_token: String::new(),
            storage_class: String::new(),
            block_size: ByteSize(4 << 20),
            compress: "none".to_owned(),
            encrypt_rsa_key: None,
            encrypt_algo: "aes256gcm-rsa".to_owned(),
            hash_prefix: false,
            shards: 0,
            capacity: 0,
            inodes: 0,
            trash_days: 1,
            enable_acl: false,
            force: false,
            no_update: false,
        }
    }
}

/// What `format` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formatted {
    /// A new volume.
    Created,
    /// An existing volume's setting was updated.
    Updated,
    /// An existing volume was left as it was.
    Unchanged,
}

/// Makes the volume that `options` describe at metadata URL `url`, or updates its setting if it exists.
///
/// Nothing is written before every option, the object store and the passphrase were checked. Errors: `Invalid`, `Conflict`, and what
/// the engine and the object store report.
pub async fn format(
    url: &str,
    options: &FormatOptions,
    passphrase: Option<&str>,
    registry: &Registry,
) -> Result<(Settings, Formatted), VolumeError> {
    let wanted = settings_of(options)?;
    wanted.codec(passphrase)?;
    let objects = open_objects(&wanted, &ObjectOptions::default(), registry)?;
    make_directories(&wanted)?;
    shoal_object::probe(&*objects).await?;
    let meta = Meta::new(open_engine(url, OpenMode::Create).await?);
    match meta.settings().await {
        Ok(existing) if options.no_update => Ok((existing, Formatted::Unchanged)),
        Ok(existing) => update(&meta, existing, wanted, options).await,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create(&meta, wanted, &*objects, options, passphrase).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn create(
    meta: &Meta,
    mut settings: Settings,
    objects: &dyn ObjectStore,
    options: &FormatOptions,
    passphrase: Option<&str>,
) -> Result<(Settings, Formatted), VolumeError> {
    if !options.force {
        refuse_foreign_objects(objects, &settings.name).await?;
    }
    let uuid = Bytes::from(settings.uuid.clone());
    let encrypted = settings.codec(passphrase)?.encrypt_object(uuid)?;
    objects.put(&settings.layout().uuid_key(), encrypted).await?;
    settings.seal_secrets()?;
    meta.init(&settings, options.force).await?;
    Ok((settings, Formatted::Created))
}

/// The prefix must be new: two volumes of one name in one bucket would destroy each other.
async fn refuse_foreign_objects(objects: &dyn ObjectStore, name: &str) -> Result<(), VolumeError> {
    let prefix = format!("{name}/");
    let found = objects.list(&prefix, None, 100).await?;
    let foreign =
        found.iter().find(|entry| !entry.key.starts_with(&format!("{prefix}testing/")) && !entry.key.ends_with('/'));
    match foreign {
        Some(entry) => Err(VolumeError::NotEmpty { store: objects.name(), prefix, example: entry.key.clone() }),
        None => Ok(()),
    }
}

/// What may change in an existing volume changes; the rest must agree.
async fn update(
    meta: &Meta,
    existing: Settings,
    wanted: Settings,
    options: &FormatOptions,
) -> Result<(Settings, Formatted), VolumeError> {
    let name = existing.name.clone();
    let fields = [
        ("name", existing.name.clone(), wanted.name.clone()),
        ("block size", format!("{}K", existing.block_size), format!("{}K", wanted.block_size)),
        ("compression", compression(&existing), compression(&wanted)),
        ("shards", existing.shards.to_string(), wanted.shards.to_string()),
        ("hash prefix", existing.hash_prefix.to_string(), wanted.hash_prefix.to_string()),
    ];
    let changed = fields.into_iter().find(|(_, now, then)| now != then);
    if let (Some((field, existing, wanted)), false) = (changed, options.force) {
        return Err(VolumeError::Immutable { name, field, existing, wanted });
    }
    if existing.is_encrypted() != wanted.is_encrypted() && !options.force {
        let word = |on: bool| if on { "a key" } else { "no key" }.to_owned();
        let (now, then) = (word(existing.is_encrypted()), word(wanted.is_encrypted()));
        return Err(VolumeError::Immutable { name, field: "encryption", existing: now, wanted: then });
    }
    let mut settings = existing;
    // Secrets are sealed with the volume's own UUID: open, replace, seal again.
    settings.unseal_secrets()?;
    settings.storage = wanted.storage;
    settings.bucket = wanted.bucket;
    settings.access_key = wanted.access_key;
    settings.secret_key = wanted.secret_key;
    settings.session_token = wanted.session_token;
    settings.capacity = wanted.capacity;
    settings.inodes = wanted.inodes;
    settings.trash_days = wanted.trash_days;
    settings.enable_acl |= wanted.enable_acl;
    settings.seal_secrets()?;
    meta.update_settings(&settings).await?;
    Ok((settings, Formatted::Updated))
}

fn compression(settings: &Settings) -> String {
    if settings.compression.is_empty() { "none".to_owned() } else { settings.compression.clone() }
}

fn settings_of(options: &FormatOptions) -> Result<Settings, VolumeError> {
    validate_name(&options.name)?;
    let mut settings = Settings::new(&options.name, &uuid::Uuid::new_v4().to_string());
    settings.storage = options.storage.clone();
    settings.bucket = bucket_of(options)?;
    settings.access_key = options.access_key.clone();
    settings.secret_key = options.secret_key.clone();
    settings.session_token = options.session_token.clone();
    settings.storage_class = options.storage_class.clone();
    settings.block_size = round_block_size(options.block_size.0);
    settings.compression = one_of("--compress", &options.compress, &["none", "lz4", "zstd"])?;
    settings.encrypt_algo = one_of("--encrypt-algo", &options.encrypt_algo, &["aes256gcm-rsa", "chacha20-rsa"])?;
    settings.hash_prefix = options.hash_prefix;
    settings.shards = shards_of(options)?;
    settings.capacity = options.capacity;
    settings.inodes = options.inodes;
    settings.trash_days = i64::from(options.trash_days);
    settings.enable_acl = options.enable_acl;
    if options.enable_acl {
        settings.min_client_version = "1.2.0-A".to_owned();
    }
    if let Some(path) = &options.encrypt_rsa_key {
        let source = |source| VolumeError::Source { path: path.clone(), source };
        settings.encrypt_key = std::fs::read_to_string(path).map_err(source)?;
    }
    Ok(settings)
}

fn one_of(option: &'static str, value: &str, allowed: &[&str]) -> Result<String, VolumeError> {
    match allowed.contains(&value) {
        true => Ok(value.to_owned()),
        false => {
            Err(VolumeError::BadOption { option, reason: format!("`{value}` is not one of {}", allowed.join(", ")) })
        }
    }
}

fn shards_of(options: &FormatOptions) -> Result<u32, VolumeError> {
    let bad = |reason: &str| VolumeError::BadOption { option: "--shards", reason: reason.to_owned() };
    match options.shards {
        0 | 1 => Ok(options.shards),
        2..=256 if options.bucket.matches("%d").count() == 1 => Ok(options.shards),
        2..=256 => Err(bad("the bucket must hold one %d, which stands for the shard's number")),
        _ => Err(bad("at most 256 buckets are possible")),
    }
}

/// JuiceFS stores the directory of a `file` bucket as an absolute path that ends in a slash.
fn bucket_of(options: &FormatOptions) -> Result<String, VolumeError> {
    if options.storage != "file" {
        return Ok(options.bucket.clone());
    }
    let path = options.bucket.strip_prefix("file://").unwrap_or(&options.bucket);
    let absolute =
        std::path::absolute(path).map_err(|source| VolumeError::Source { path: PathBuf::from(path), source })?;
    Ok(format!("{}/", absolute.display().to_string().trim_end_matches('/')))
}

/// The directory of a `file` bucket is made if it is missing, as JuiceFS does.
fn make_directories(settings: &Settings) -> Result<(), VolumeError> {
    if settings.storage != "file" {
        return Ok(());
    }
    for path in settings.buckets()?.into_iter().map(PathBuf::from) {
        std::fs::create_dir_all(&path).map_err(|source| VolumeError::Source { path, source })?;
    }
    Ok(())
}
