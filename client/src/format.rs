//! `shoal format`: makes a volume. Flags and defaults are JuiceFS's.

use std::path::PathBuf;

use shoal_runtime::metrics::Registry;
use shoal_types::ByteSize;
use shoal_volume::{Access, FormatOptions, Formatted, OpenOptions};

/// Flags of `format`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL, such as sqlite3:///var/lib/shoal/train.db
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Name of the volume: 3 to 63 lower-case letters, digits and dashes
    #[arg(value_name = "NAME")]
    name: String,
    /// Object store type: file or s3
    #[arg(long, default_value = "file")]
    storage: String,
    /// Bucket URL, or a directory for --storage file
    #[arg(long, default_value = "/var/jfs")]
    bucket: String,
    /// Access key of the object store
    #[arg(long, env = "ACCESS_KEY", default_value = "", hide_env_values = true)]
    access_key: String,
    /// Secret key of the object store
    #[arg(long, env = "SECRET_KEY", default_value = "", hide_env_values = true)]
    secret_key: String,
    /// Session token of the object store
    #[arg(long, env = "SESSION_TOKEN", default_value = "", hide_env_values = true)]
    session_token: String,
    /// Storage class of new objects
    #[arg(long, default_value = "")]
    storage_class: String,
    /// Block size, a power of two from 64K to 16M; a bare number is KiB
    #[arg(long, default_value = "4M", value_parser = kib_size)]
    block_size: ByteSize,
    /// Compression of blocks: none, lz4 or zstd
    #[arg(long, default_value = "none")]
    compress: String,
    /// PEM file with an RSA private key: encrypts every object
    #[arg(long, value_name = "FILE")]
    encrypt_rsa_key: Option<PathBuf>,
    /// Encryption of objects: aes256gcm-rsa or chacha20-rsa
    #[arg(long, default_value = "aes256gcm-rsa")]
    encrypt_algo: String,
    /// Spread object keys by a prefix
    #[arg(long)]
    hash_prefix: bool,
    /// Number of buckets to spread blocks over; the bucket then holds one %d
    #[arg(long, default_value_t = 0)]
    shards: u32,
    /// Space quota in GiB, 0 for none
    #[arg(long, default_value_t = 0, value_name = "GIB")]
    capacity: u64,
    /// Inode quota, 0 for none
    #[arg(long, default_value_t = 0)]
    inodes: u64,
    /// Days a removed file stays in the trash, 0 for no trash
    #[arg(long, default_value_t = 1)]
    trash_days: u32,
    /// Enable POSIX ACLs; cannot be undone
    #[arg(long)]
    enable_acl: bool,
    /// Overwrite what is there
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
        capacity: args.capacity.saturating_mul(1 << 30),
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
