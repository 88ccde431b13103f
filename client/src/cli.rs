//! The commands and what they share.

use clap::{Parser, Subcommand};
use shoal_runtime::telemetry::LogLevel;

/// The open distributed cache between GPU hosts and object storage.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, about, propagate_version = true)]
pub(crate) struct Cli {
    /// Least important messages to log: error, warn, info, debug or trace [default: info for mount, warn otherwise]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    pub(crate) fn log_level(&self) -> LogLevel {
        self.log_level.unwrap_or(match self.command {
            Command::Mount(_) => LogLevel::Info,
            _ => LogLevel::Warn,
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a volume, or change the setting of one
    Format(crate::format::Args),
    /// Load a local directory into a volume
    Import(crate::import::Args),
    /// Make and show the certificates of a group
    Cert(crate::cert::Args),
    /// Mount a volume (read-only)
    Mount(crate::mount::Args),
    /// Unmount a volume
    Umount(crate::umount::Args),
    /// Show the nodes of a ring, and the setting of a volume
    Status(crate::status::Args),
    /// Bring files into the ring ahead of use
    Warmup(crate::warmup::Args),
    /// Show what a file is made of and where its blocks are cached
    Info(crate::info::Args),
    /// Show the whole of it on this machine: volume, ring, two mounts
    Demo(crate::demo::Args),
}
