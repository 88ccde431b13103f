//! Flags of `mount` about how often files are looked at, and what that leaves behind.

use shoal_meta::AtimeMode;
use shoal_types::ByteSize;
use shoal_vfs::VfsOptions;

use crate::options::Period;

/// Names and defaults are JuiceFS's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LookArgs {
    /// How long a file that was opened is opened again without a look whether another client changed it, such as 10s
    #[arg(long, default_value = "0s", value_name = "TIME")]
    open_cache: Period,
    /// Files of which that is known, at most; 0 for any number
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    open_cache_limit: usize,
    /// When reading changes the time of the last access: never; when it was changed since, or read a day ago; when it was read more
    /// than a second ago
    #[arg(long, value_enum, default_value_t = Atime::Noatime, value_name = "MODE")]
    atime_mode: Atime,
    /// Answer df with what this mount knows since its last heartbeat, without asking the metadata database
    #[arg(long)]
    fast_statfs: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Atime {
    Noatime,
    Relatime,
    Strictatime,
}

impl LookArgs {
    /// How files are read with up to `max_readahead` bytes fetched ahead.
    pub(crate) fn vfs_options(&self, max_readahead: ByteSize) -> VfsOptions {
        VfsOptions {
            max_readahead: max_readahead.0,
            open_cache: self.open_cache.0,
            open_cache_files: if self.open_cache_limit == 0 { usize::MAX } else { self.open_cache_limit },
            atime: match self.atime_mode {
                Atime::Noatime => AtimeMode::Never,
                Atime::Relatime => AtimeMode::Relative,
                Atime::Strictatime => AtimeMode::Strict,
            },
            fast_statfs: self.fast_statfs,
        }
    }
}
