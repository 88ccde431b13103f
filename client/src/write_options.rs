//! Flags of `mount` about what is written.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use shoal_meta::Session;
use shoal_types::ByteSize;
use shoal_volume::{Hours, StageOptions, Writing};

use crate::options::Period;

/// Names and defaults are JuiceFS's where it has the option.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WriteArgs {
    /// Of --memory, what is for bytes that are written and not stored yet [default: a quarter of it]
    #[arg(long, value_name = "SIZE")]
    buffer_size: Option<ByteSize>,
    /// Blocks on their way to the object store at once
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_uploads: u32,
    /// Keep written blocks on this host's disk first, synced, and store them later
    #[arg(long, conflicts_with = "read_only")]
    writeback: bool,
    /// Where blocks wait to be stored, a directory for each volume [default: /var/lib/shoal, or ~/.shoal/stage]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// How long a block waits with --writeback before it is stored, such as 90s, 10m or 1h
    #[arg(long, default_value = "0s", value_name = "TIME")]
    upload_delay: Period,
    /// Hours of the day, such as 1,6 or 22-4, between which blocks are stored with --writeback [default: all]
    #[arg(long, value_name = "START,END", value_parser = hours)]
    upload_hours: Option<Hours>,
    /// Stage only blocks smaller than this with --writeback, 0 for all
    #[arg(long, default_value = "0", value_name = "SIZE")]
    writeback_threshold_size: ByteSize,
    /// Blocks written to the disk at once with --writeback; further ones are stored directly
    #[arg(long, default_value_t = 1000, value_name = "N")]
    max_stage_write: usize,
    /// Part of the disk that stays free of caches; --writeback leaves half of that free
    #[arg(long, default_value_t = 0.1, value_name = "RATIO")]
    free_space_ratio: f64,
    /// How young a directory's time of change may be to stay as it is when an entry comes or goes, where many clients write at once
    /// (PostgreSQL, MySQL); 0 keeps it exact
    #[arg(long, default_value = "100ms", value_name = "TIME")]
    skip_dir_mtime: Period,
    /// Offer written blocks to their owners on the ring
    #[arg(long, requires = "join", conflicts_with = "read_only")]
    fill_group: bool,
}

impl WriteArgs {
    /// How what `session` writes is staged.
    pub(crate) fn stage_options(&self) -> anyhow::Result<StageOptions> {
        let ratio = self.free_space_ratio;
        ensure!((0.0..1.0).contains(&ratio), "--free-space-ratio {ratio} is not a part of a disk, such as 0.1");
        Ok(StageOptions {
            cache_dir: std::path::absolute(self.cache_dir.clone().unwrap_or_else(default_cache_dir))?,
            writeback: self.writeback,
            below: Some(self.writeback_threshold_size.0).filter(|size| *size > 0),
            upload_delay: self.upload_delay.0,
            hours: self.upload_hours.unwrap_or(Hours::ALL),
            writes_max: self.max_stage_write,
            uploads_max: self.max_uploads as usize,
            free_space_ratio: ratio,
        })
    }

    /// True if written blocks are to be staged or offered, which a mount for reading has none of.
    pub(crate) fn wants_writes(&self) -> bool {
        self.writeback || self.fill_group
    }

    /// How exact the times of directories are.
    pub(crate) fn dir_time_slack(&self) -> Duration {
        self.skip_dir_mtime.0
    }

    /// How `session` writes within `memory`.
    pub(crate) fn writing(&self, session: Session, memory: ByteSize) -> anyhow::Result<Writing> {
        let own = self.buffer_size.map(|size| size.0);
        ensure!(own.is_none_or(|own| own < memory.0), "--buffer-size must leave some of --memory {memory} for reading");
        let uploads_max = self.max_uploads as usize;
        Ok(Writing { session, memory: own, uploads_max, fill_group: self.fill_group })
    }
}

/// Two hours of a day, with a comma or a dash between.
fn hours(text: &str) -> Result<Hours, String> {
    let parsed = text.split_once([',', '-']).and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
    let hours = parsed.and_then(|(start, end)| Hours::between(start, end));
    hours.ok_or_else(|| format!("`{text}` are no hours of a day; write them as 1,6 or 22-4"))
}

fn default_cache_dir() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) if !rustix::process::geteuid().is_root() => PathBuf::from(home).join(".shoal/stage"),
        _ => PathBuf::from("/var/lib/shoal"),
    }
}
