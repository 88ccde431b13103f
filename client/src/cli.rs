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
    /// Show or change the setting of a volume
    Config(crate::config::Args),
    /// Load a local directory into a volume
    Import(crate::import::Args),
    /// Make and show the certificates of a group
    Cert(crate::cert::Args),
    /// Mount a volume
    Mount(Box<crate::mount::Args>),
    /// Unmount a volume
    Umount(crate::umount::Args),
    /// Show the nodes of a ring, and the setting of a volume
    Status(crate::status::Args),
    /// Look after one cache node: its state, and leaving the ring in order
    Node(crate::node::Args),
    /// Bring files into the ring ahead of use
    Warmup(crate::warmup::Args),
    /// Show what a file is made of and where its blocks are cached
    Info(crate::info::Args),
    /// Show how much lies below a directory and in its largest entries
    Summary(crate::summary::Args),
    /// Remove files and directories with everything below them
    Rmr(crate::rmr::Args),
    /// Copy a file or directory without copying its data
    Clone(crate::clone::Args),
    /// Show what a mount does, a line each second
    Stats(crate::stats::Args),
    /// Show which requests a mount answers, and how long they take
    Profile(crate::profile::Args),
    /// Collect what is to be known of a mount that is in trouble
    Debug(crate::debug::Args),
    /// Delete a volume with everything in it
    Destroy(crate::destroy::Args),
    /// Take back what lies in the trash
    Restore(crate::restore::Args),
    /// Limit directories, users and groups
    Quota(crate::quota::Args),
    /// Keep files in other storage classes
    Tier(crate::tier::Args),
    /// Follow a volume's change log
    Changelog(crate::changelog::Args),
    /// Write a volume's metadata to a file
    Dump(crate::dump::Args),
    /// Load a dump of a volume's metadata into an empty database
    Load(crate::load::Args),
    /// Check that the objects of a volume's files are there, and its directories are what they ought to be
    Fsck(crate::fsck::Args),
    /// Find, and delete, objects that nothing needs and what waits to be deleted
    Gc(crate::gc::Args),
    /// Make one slice of the many that chunks of files have become
    Compact(crate::compact::Args),
    /// Show the whole of it on this machine: volume, ring, two mounts
    Demo(crate::demo::Args),
}
