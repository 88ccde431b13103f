//! `shoal config`: shows and changes the setting of a volume, under its running clients. Flags and output are JuiceFS's.

use std::io::{IsTerminal, Write};

use anyhow::{bail, ensure};
use shoal_runtime::metrics::Registry;
use shoal_types::ByteSize;
use shoal_volume::{Access, ConfigOptions, OpenOptions, apply_config, plan_config};

use crate::quota::gib_size;
use crate::volume_status::without_secrets;

/// Flags of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Answer every question with yes
    #[arg(long, short)]
    yes: bool,
    /// Do not try the object store before
    #[arg(long)]
    force: bool,
    /// Object store type, file or s3
    #[arg(long)]
    storage: Option<String>,
    /// Bucket URL, or a directory for --storage file
    #[arg(long)]
    bucket: Option<String>,
    /// Access key of the object store
    #[arg(long)]
    access_key: Option<String>,
    /// Secret key of the object store
    #[arg(long)]
    secret_key: Option<String>,
    /// Session token of the object store
    #[arg(long)]
    session_token: Option<String>,
    /// Storage class of new objects, of the tier that --tier names
    #[arg(long)]
    storage_class: Option<String>,
    /// Tag of new objects, KEY=VALUE, of the tier that --tier names
    #[arg(long, value_name = "KEY=VALUE")]
    tag: Option<String>,
    /// Tier that --storage-class and --tag are of, 0 to 3 [default: 0]
    #[arg(long)]
    tier: Option<u8>,
    /// Upload limit of each client in Mbps, 0 for none
    #[arg(long, value_name = "MBPS")]
    upload_limit: Option<i64>,
    /// Download limit of each client in Mbps, 0 for none
    #[arg(long, value_name = "MBPS")]
    download_limit: Option<i64>,
    /// Space quota in GiB or with a unit, 0 for none
    #[arg(long, value_name = "GIB", value_parser = gib_size)]
    capacity: Option<ByteSize>,
    /// Inode quota, 0 for none
    #[arg(long)]
    inodes: Option<u64>,
    /// Days a removed file stays in the trash, 0 for no trash
    #[arg(long)]
    trash_days: Option<u32>,
    /// Enable POSIX ACLs; cannot be undone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    enable_acl: Option<bool>,
    /// Store secrets sealed
    #[arg(long)]
    encrypt_secret: bool,
    /// Oldest client that may use the volume
    #[arg(long, value_name = "VERSION")]
    min_client_version: Option<String>,
    /// Newest client that may use the volume
    #[arg(long, value_name = "VERSION")]
    max_client_version: Option<String>,
    /// Keep statistics of directories, which their quotas need
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    dir_stats: Option<bool>,
    /// Count what users and groups own, which their quotas need
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    user_group_quota: Option<bool>,
    /// Keep a log of every change of metadata
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    changelog: Option<bool>,
    /// How long entries of the change log are kept, such as 2h or 90m; 0 for ever
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    changelog_max_age: Option<i64>,
    /// How many entries of the change log are kept; 0 for any number
    #[arg(long, value_name = "COUNT")]
    changelog_max_lines: Option<i64>,
}

/// Seconds of a time such as `2h`, `1h30m`, `90s` or `0`.
fn seconds(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    let (mut total, mut digits) = (0i64, String::new());
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                digits.push(character);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(format!("`{text}` is no time such as 2h, 90m or 30s")),
        };
        let count: i64 = digits.parse().map_err(|_| format!("`{text}` lacks a number before `{character}`"))?;
        total = total.saturating_add(count.saturating_mul(unit));
        digits.clear();
    }
    if digits.is_empty() && !text.is_empty() { Ok(total) } else { Err(format!("`{text}` lacks a unit: h, m or s")) }
}

impl Args {
    fn options(&self) -> ConfigOptions {
        ConfigOptions {
            storage: self.storage.clone(),
            bucket: self.bucket.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            session_token: self.session_token.clone(),
            tier: self.tier,
            storage_class: self.storage_class.clone(),
            tag: self.tag.clone(),
            upload_limit: self.upload_limit,
            download_limit: self.download_limit,
            capacity: self.capacity.map(|size| size.0),
            inodes: self.inodes,
            trash_days: self.trash_days,
            enable_acl: self.enable_acl,
            encrypt_secret: self.encrypt_secret,
            min_client_version: self.min_client_version.clone(),
            max_client_version: self.max_client_version.clone(),
            dir_stats: self.dir_stats,
            user_group_quota: self.user_group_quota,
            change_log: self.changelog,
            change_log_max_age: self.changelog_max_age,
            change_log_max_lines: self.changelog_max_lines,
            force: self.force,
        }
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let options = args.options();
    let (existing, plan) = plan_config(&args.meta_url, &options).await?;
    if options == ConfigOptions::default() && !args.yes {
        println!("{}", without_secrets(existing).to_json().trim_end());
        return Ok(());
    }
    for warning in &plan.warnings {
        eprintln!("WARNING: {warning}");
        ensure!(args.yes || agreed()?, "nothing was changed; --yes agrees beforehand");
    }
    if plan.lines.is_empty() {
        println!("Nothing changed.");
        return Ok(());
    }
    let lines = plan.lines.clone();
    let passphrase = OpenOptions::new(Access::Write).passphrase;
    apply_config(&args.meta_url, plan, &options, passphrase.as_deref(), &Registry::new()).await?;
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// Asks whether to go on. Only a person can agree.
fn agreed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nothing was changed: nobody is there to agree; --yes agrees beforehand");
    }
    eprint!("Proceed anyway? [y/N]: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, secs) in [("0", 0), ("2h", 7200), ("1h30m", 5400), ("90s", 90), ("30m", 1800)] {
            assert_eq!(seconds(text), Ok(secs));
        }
        for text in ["", "90", "h", "1d", "-1h", "1h3"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
