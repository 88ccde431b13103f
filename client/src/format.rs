//! `shoal format`: makes a volume, or changes the setting of one. Flags and defaults are JuiceFS's; on a volume that exists, a flag
//! that is not given changes nothing.

use std::path::PathBuf;

use shoal_runtime::metrics::Registry;
use shoal_types::ByteSize;
use shoal_volume::{Access, FormatOptions, Formatted, OpenOptions};

/// Flags of `format`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL: redis://HOST:6379/DB, sqlite3:///FILE, postgres://USER@HOST:5432/DB or mysql://USER@(HOST:3306)/DB, the
    /// password there or in META_PASSWORD or the file META_PASSWORD_FILE names
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Name of the volume: 3 to 63 lower-case letters, digits and dashes
    #[arg(value_name = "NAME")]
    name: String,
    /// Object store type, file or s3 [default: file]
    #[arg(long)]
    storage: Option<String>,
    /// Bucket URL, or a directory for --storage file [default: /var/jfs]
    #[arg(long)]
    bucket: Option<String>,
    /// Access key of the object store
    #[arg(long, env = "ACCESS_KEY", hide_env_values = true)]
    access_key: Option<String>,
    /// Secret key of the object store
    #[arg(long, env = "SECRET_KEY", hide_env_values = true)]
    secret_key: Option<String>,
    /// Session token of the object store
    #[arg(long, env = "SESSION_TOKEN", hide_env_values = true)]
    session_token: Option<String>,
    /// Storage class of new objects
    #[arg(long)]
    storage_class: Option<String>,
    /// Block size, a power of two from 64K to 16M; a bare number is KiB [default: 4M]
    #[arg(long, value_parser = kib_size)]
    block_size: Option<ByteSize>,
    /// Compression of blocks, none, lz4 or zstd [default: none]
    #[arg(long)]
    compress: Option<String>,
    /// PEM file with an RSA private key: encrypts every object of a new volume
    #[arg(long, value_name = "FILE")]
    encrypt_rsa_key: Option<PathBuf>,
    /// Encryption of objects, aes256gcm-rsa or chacha20-rsa [default: aes256gcm-rsa]
    #[arg(long)]
    encrypt_algo: Option<String>,
    /// Spread object keys by a prefix
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    hash_prefix: Option<bool>,
    /// Number of buckets to spread blocks over; the bucket then holds one %d
    #[arg(long)]
    shards: Option<u32>,
    /// Space quota in GiB, 0 for none
    #[arg(long, value_name = "GIB")]
    capacity: Option<u64>,
    /// Inode quota, 0 for none
    #[arg(long)]
    inodes: Option<u64>,
    /// Days a removed file stays in the trash, 0 for no trash [default: 1]
    #[arg(long)]
    trash_days: Option<u32>,
    /// Enable POSIX ACLs; cannot be undone
    #[arg(long)]
    enable_acl: bool,
    /// Change an existing volume even where that makes its data unreadable
    #[arg(long)]
    force: bool,
    /// Leave an existing volume as it is
    #[arg(long)]
    no_update: bool,
}

/// JuiceFS reads a bare number as KiB here.
fn kib_size(text: &str) -> Result<ByteSize, String> {
    if let Ok(kib) = text.parse::<u64>() {
        return Ok(ByteSize(kib.saturating_mul(1024)));
    }
    text.parse::<ByteSize>().map_err(|error| error.to_string())
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let options = FormatOptions {
        name: args.name,
        storage: args.storage,
        bucket: args.bucket,
        access_key: args.access_key,
        secret_key: args.secret_key,
        session_token: args.session_token,
        storage_class: args.storage_class,
        block_size: args.block_size,
        compress: args.compress,
        encrypt_rsa_key: args.encrypt_rsa_key,
        encrypt_algo: args.encrypt_algo,
        hash_prefix: args.hash_prefix,
        shards: args.shards,
        capacity: args.capacity.map(|gib| gib.saturating_mul(1 << 30)),
        inodes: args.inodes,
        trash_days: args.trash_days,
        enable_acl: args.enable_acl,
        force: args.force,
        no_update: args.no_update,
    };
    let passphrase = OpenOptions::new(Access::Write).passphrase;
    let (settings, formatted) =
        shoal_volume::format(&args.meta_url, &options, passphrase.as_deref(), &Registry::new()).await?;
    let what = match formatted {
        Formatted::Created => "is ready",
        Formatted::Updated => "existed; its setting is updated",
        Formatted::Unchanged => "existed; nothing was changed",
    };
    println!("volume `{}` ({}) {what}", settings.name, settings.uuid);
    Ok(())
}
