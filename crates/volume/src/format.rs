//! `format`: makes a volume, or updates the setting of one.
//!
//! Flag names, defaults and rules are JuiceFS's (`juicefs-features.md` A.1; volume format, sections 2 and 3.4; what JuiceFS 1.4.2
//! does with a volume that exists is pinned by the interop tests): an option that is not given keeps what the volume has.

use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use shoal_format::{Settings, Version, round_block_size, validate_name};
use shoal_meta::{Meta, OpenMode};
use shoal_object::{ObjectOptions, ObjectStore};
use shoal_runtime::metrics::Registry;
use shoal_types::{ByteSize, ErrorKind};

use crate::engine::open_engine;
use crate::error::VolumeError;
use crate::open::open_objects;

/// Oldest client that understands ACLs, as JuiceFS writes it into the setting.
const ACL_CLIENT_VERSION: &str = "1.2.0-A";

/// Most buckets a volume is spread over.
const SHARDS_MAX: u32 = 256;

/// Where the objects of a volume go that names no bucket.
const DEFAULT_BUCKET: &str = "/var/jfs";

/// What `format` is asked for. `None` is JuiceFS's default for a new volume, and leaves an existing one as it is.
#[derive(Debug, Clone, Default)]
pub struct FormatOptions {
    /// Volume name: 3 to 63 lower-case letters, digits and dashes.
    pub name: String,
    /// Object store type: `file` or `s3`.
    pub storage: Option<String>,
    /// Bucket URL, or a directory for `file`.
    pub bucket: Option<String>,
    /// Access key of the object store.
    pub access_key: Option<String>,
    /// Secret key of the object store.
    pub secret_key: Option<String>,
    /// Session token of the object store.
    pub session_token: Option<String>,
    /// Storage class of new objects; empty for the bucket's default.
    pub storage_class: Option<String>,
    /// Block size; rounded down to a power of two in 64 KiB..16 MiB.
    pub block_size: Option<ByteSize>,
    /// `none`, `lz4` or `zstd`.
    pub compress: Option<String>,
    /// PEM file with the RSA private key that encrypts a new volume's objects.
    pub encrypt_rsa_key: Option<PathBuf>,
    /// `aes256gcm-rsa` or `chacha20-rsa`, for a new volume.
    pub encrypt_algo: Option<String>,
    /// Spread object keys by a prefix.
    pub hash_prefix: Option<bool>,
    /// Number of buckets the volume is spread over; the bucket then holds a `%d`.
    pub shards: Option<u32>,
    /// Space quota in bytes, 0 for none.
    pub capacity: Option<u64>,
    /// Inode quota, 0 for none.
    pub inodes: Option<u64>,
    /// Days a removed file stays in the trash.
    pub trash_days: Option<u32>,
    /// POSIX ACLs; there is no way back.
    pub enable_acl: bool,
    /// Change even what makes the data of an existing volume unreadable.
    pub force: bool,
    /// Leave an existing volume as it is.
    pub no_update: bool,
}

impl FormatOptions {
    /// JuiceFS's defaults for a volume `name` with its objects in `bucket` of type `storage`.
    pub fn new(name: &str, storage: &str, bucket: &str) -> FormatOptions {
        FormatOptions {
            name: name.to_owned(),
            storage: Some(storage.to_owned()),
            bucket: Some(bucket.to_owned()),
            ..FormatOptions::default()
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
    validate_name(&options.name)?;
    let existing = existing(url).await?;
    let wanted = match &existing {
        Some(existing) if options.no_update => return Ok((existing.clone(), Formatted::Unchanged)),
        Some(existing) => changed(existing, options)?,
        None => fresh(options)?,
    };
    wanted.codec(passphrase)?;
    let objects = open_objects(&wanted, &ObjectOptions::default(), registry)?;
    if existing.is_none() || options.bucket.is_some() {
        make_directories(&wanted)?;
    }
    shoal_object::probe(&*objects).await?;
    match existing {
        Some(existing) => update(url, &existing, wanted, options).await,
        None => create(url, wanted, &*objects, passphrase).await,
    }
}

/// The setting of the volume at `url`, if there is one.
async fn existing(url: &str) -> Result<Option<Settings>, VolumeError> {
    let settings = async {
        let meta = Meta::new(open_engine(url, OpenMode::ReadOnly).await?);
        let settings = meta.settings().await;
        meta.close().await;
        Ok::<_, VolumeError>(settings?)
    };
    match settings.await {
        Ok(settings) => Ok(Some(settings)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn create(
    url: &str,
    mut settings: Settings,
    objects: &dyn ObjectStore,
    passphrase: Option<&str>,
) -> Result<(Settings, Formatted), VolumeError> {
    refuse_foreign_objects(objects, &settings.name).await?;
    let uuid = Bytes::from(settings.uuid.clone());
    let encrypted = settings.codec(passphrase)?.encrypt_object(uuid)?;
    settings.seal_secrets()?;
    let key = settings.layout().uuid_key();
    objects.put(&key, encrypted).await?;
    objects.sync().await?;
    match init(url, &settings).await {
        Ok(()) => Ok((settings, Formatted::Created)),
        // Somebody else made the volume meanwhile, and the object is theirs.
        Err(error) if error.kind() == ErrorKind::Conflict => Err(error),
        Err(error) => {
            // Without a volume it would only make the next attempt refuse the prefix.
            if let Err(left) = objects.delete(&key).await {
                tracing::warn!(key, error = %left, "an object is left behind");
            }
            Err(error)
        }
    }
}

async fn init(url: &str, settings: &Settings) -> Result<(), VolumeError> {
    let meta = Meta::new(open_engine(url, OpenMode::Create).await?);
    let made = meta.init(settings, false).await;
    meta.close().await;
    Ok(made?)
}

/// The prefix must be new, whatever is forced: two volumes of one name in one bucket would destroy each other.
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

async fn update(
    url: &str,
    existing: &Settings,
    mut settings: Settings,
    options: &FormatOptions,
) -> Result<(Settings, Formatted), VolumeError> {
    let meta = Meta::new(open_engine(url, OpenMode::ReadWrite).await?);
    settings.seal_secrets()?;
    let written = match fixed_change(existing, &settings) {
        Some(_) if options.force => meta.init(&settings, true).await,
        // Whatever is fixed and differs was refused before, and the engine refuses it again.
        _ => meta.update_settings(&settings).await,
    };
    meta.close().await;
    written?;
    Ok((settings, Formatted::Updated))
}

/// The setting of a new volume.
fn fresh(options: &FormatOptions) -> Result<Settings, VolumeError> {
    let mut settings = Settings::new(&options.name, &uuid::Uuid::new_v4().to_string());
    settings.encrypt_algo = match &options.encrypt_algo {
        Some(algorithm) => one_of("--encrypt-algo", algorithm, &["aes256gcm-rsa", "chacha20-rsa"])?,
        None => settings.encrypt_algo,
    };
    if let Some(path) = &options.encrypt_rsa_key {
        let source = |source| VolumeError::Source { path: path.clone(), source };
        settings.encrypt_key = std::fs::read_to_string(path).map_err(source)?;
    }
    let bucket = options.bucket.clone().unwrap_or_else(|| DEFAULT_BUCKET.to_owned());
    apply(&FormatOptions { bucket: Some(bucket), ..options.clone() }, &mut settings)?;
    Ok(settings)
}

/// The setting of an existing volume after what is asked for; its secrets are open.
pub(crate) fn changed(existing: &Settings, options: &FormatOptions) -> Result<Settings, VolumeError> {
    if !options.force {
        existing.check_client()?;
    }
    if options.encrypt_rsa_key.is_some() && !existing.is_encrypted() {
        let reason = format!("volume `{}` exists without encryption, which cannot be added later", existing.name);
        return Err(VolumeError::BadOption { option: "--encrypt-rsa-key", reason });
    }
    let mut settings = existing.clone();
    // What is replaced need not open: a dump may have removed it.
    if options.secret_key.is_some() {
        settings.secret_key.clear();
    }
    if options.session_token.is_some() {
        settings.session_token.clear();
    }
    // Secrets are sealed with the volume's own UUID: open, replace, seal again.
    settings.unseal_secrets()?;
    apply(options, &mut settings)?;
    if let (Some(change), false) = (fixed_change(existing, &settings), options.force) {
        let (field, now, wanted) = change;
        return Err(VolumeError::Immutable { name: existing.name.clone(), field, existing: now, wanted });
    }
    Ok(settings)
}

/// Takes over what `options` say, and nothing else.
fn apply(options: &FormatOptions, settings: &mut Settings) -> Result<(), VolumeError> {
    fn set<T: Clone>(field: &mut T, wanted: &Option<T>) {
        if let Some(wanted) = wanted {
            field.clone_from(wanted);
        }
    }
    settings.name.clone_from(&options.name);
    set(&mut settings.storage, &options.storage);
    set(&mut settings.access_key, &options.access_key);
    set(&mut settings.secret_key, &options.secret_key);
    set(&mut settings.session_token, &options.session_token);
    set(&mut settings.hash_prefix, &options.hash_prefix);
    set(&mut settings.shards, &options.shards);
    set(&mut settings.capacity, &options.capacity);
    set(&mut settings.inodes, &options.inodes);
    if let Some(days) = options.trash_days {
        settings.trash_days = i64::from(days);
    }
    if let Some(size) = options.block_size {
        settings.block_size = round_block_size(size.0);
    }
    if let Some(compress) = &options.compress {
        settings.compression = one_of("--compress", compress, &["none", "lz4", "zstd"])?;
    }
    if let Some(class) = &options.storage_class {
        settings.storage_class.clone_from(class);
        settings.tiers.entry(0).or_default().storage_class.clone_from(class);
    }
    if let Some(bucket) = &options.bucket {
        settings.bucket = bucket_of(&settings.storage, bucket)?;
    }
    if options.enable_acl {
        settings.enable_acl = true;
        if Version::parse(&settings.min_client_version) < Version::parse(ACL_CLIENT_VERSION) {
            settings.min_client_version = ACL_CLIENT_VERSION.to_owned();
        }
    }
    check_shards(settings)
}

/// The first field that differs although it is fixed when the volume is made: its name, its value now, the value asked for.
fn fixed_change(existing: &Settings, wanted: &Settings) -> Option<(&'static str, String, String)> {
    let shards = |settings: &Settings| settings.shards.max(1).to_string();
    let fields = [
        ("name", existing.name.clone(), wanted.name.clone()),
        ("block size", format!("{}K", existing.block_size), format!("{}K", wanted.block_size)),
        ("compression", compression(existing), compression(wanted)),
        ("shards", shards(existing), shards(wanted)),
        ("hash prefix", existing.hash_prefix.to_string(), wanted.hash_prefix.to_string()),
    ];
    fields.into_iter().find(|(_, now, then)| now != then)
}

fn compression(settings: &Settings) -> String {
    if settings.compression.is_empty() { "none".to_owned() } else { settings.compression.clone() }
}

fn one_of(option: &'static str, value: &str, allowed: &[&str]) -> Result<String, VolumeError> {
    match allowed.contains(&value) {
        true => Ok(value.to_owned()),
        false => {
            Err(VolumeError::BadOption { option, reason: format!("`{value}` is not one of {}", allowed.join(", ")) })
        }
    }
}

fn check_shards(settings: &Settings) -> Result<(), VolumeError> {
    let bad = |reason: String| Err(VolumeError::BadOption { option: "--shards", reason });
    match settings.shards {
        0 | 1 => Ok(()),
        shards if shards > SHARDS_MAX => bad(format!("at most {SHARDS_MAX} buckets are possible")),
        _ if settings.bucket.matches("%d").count() == 1 => Ok(()),
        _ => bad(format!("the bucket `{}` must hold one %d, which stands for the shard's number", settings.bucket)),
    }
}

/// JuiceFS stores the directory of a `file` bucket as an absolute path without `.` and `..` that ends in a slash.
fn bucket_of(storage: &str, bucket: &str) -> Result<String, VolumeError> {
    if storage != "file" {
        return Ok(bucket.to_owned());
    }
    let path = Path::new(bucket.strip_prefix("file://").unwrap_or(bucket));
    let absolute = std::path::absolute(path).map_err(|source| VolumeError::Source { path: path.to_owned(), source })?;
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    Ok(format!("{}/", clean.display().to_string().trim_end_matches('/')))
}

/// The directory of a `file` bucket is made if it is missing, as JuiceFS does.
pub(crate) fn make_directories(settings: &Settings) -> Result<(), VolumeError> {
    if settings.storage != "file" {
        return Ok(());
    }
    for path in settings.buckets()?.into_iter().map(PathBuf::from) {
        std::fs::create_dir_all(&path).map_err(|source| VolumeError::Source { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_bucket_is_an_absolute_directory() {
        let of = |bucket| bucket_of("file", bucket).expect("valid");
        assert_eq!(of("/a/b"), "/a/b/");
        assert_eq!(of("/a/x/..//b/./"), "/a/b/");
        assert_eq!(of("file:///a"), "/a/");
        assert_eq!(of("/.."), "/");
        assert!(of("relative").starts_with('/') && of("relative").ends_with("/relative/"));
        assert_eq!(bucket_of("s3", "https://b.example.com").expect("valid"), "https://b.example.com");
    }

    #[test]
    fn options_that_are_not_given_keep_what_a_volume_has() {
        let options = FormatOptions {
            trash_days: Some(7),
            block_size: Some(ByteSize(1 << 20)),
            hash_prefix: Some(true),
            ..FormatOptions::new("vol", "file", "/data")
        };
        let volume = fresh(&options).expect("valid");
        assert_eq!((volume.block_size, volume.trash_days, volume.hash_prefix), (1024, 7, true));
        let again = changed(&volume, &FormatOptions { name: "vol".into(), ..FormatOptions::default() });
        assert_eq!(again.expect("nothing changes"), volume);
        let refused = changed(&volume, &FormatOptions { block_size: Some(ByteSize(4 << 20)), ..options.clone() });
        assert_eq!(refused.expect_err("fixed").kind(), ErrorKind::Conflict);
        let forced = FormatOptions { block_size: Some(ByteSize(4 << 20)), force: true, ..options };
        assert_eq!(changed(&volume, &forced).expect("forced").block_size, 4096);
    }

    #[test]
    fn acls_keep_clients_out_that_do_not_know_them() {
        let volume = fresh(&FormatOptions::new("vol", "file", "/data")).expect("valid");
        let acl = FormatOptions { name: "vol".into(), enable_acl: true, ..FormatOptions::default() };
        let with = changed(&volume, &acl).expect("valid");
        assert_eq!((with.enable_acl, with.min_client_version.as_str()), (true, "1.2.0-A"));
        let newer = Settings { min_client_version: "1.4.0".into(), ..volume };
        assert_eq!(changed(&newer, &acl).expect("valid").min_client_version, "1.4.0");
    }
}
