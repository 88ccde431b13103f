//! `import`: loads a local directory into a volume.
//!
//! One thread walks the source; a planner gives inodes out and starts uploads, bounded by a memory budget and a number of PUTs;
//! a committer writes the records of each batch in walk order, and only once every object of the batch is stored. So at any
//! moment the volume holds a consistent prefix of the walk: stopped or killed, an import leaks objects, never records.

mod plan;
mod progress;
mod scan;
mod upload;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use shoal_meta::MkdirP;
use shoal_runtime::budget::Budget;
use shoal_runtime::shutdown::Shutdown;
use shoal_types::ByteSize;

use crate::error::VolumeError;
use crate::open::Volume;
use plan::Planner;
pub use progress::{Counts, Progress};
use upload::Uploader;

/// How an import may use the machine.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// PUTs in flight (JuiceFS's `--max-uploads`).
    pub max_uploads: usize,
    /// Bytes of file content in memory at most (JuiceFS's `--buffer-size`).
    pub buffer_size: ByteSize,
    /// Pass over what is there already instead of refusing it: how an import that was stopped goes on.
    pub skip_existing: bool,
}

impl Default for ImportOptions {
    fn default() -> ImportOptions {
        ImportOptions { max_uploads: 20, buffer_size: ByteSize(300 << 20), skip_existing: false }
    }
}

/// What an import loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Regular files, hard links not counted again.
    pub files: u64,
    /// Directories below the source.
    pub dirs: u64,
    /// Symbolic links, sockets, pipes and devices.
    pub others: u64,
    /// Further names of files with several.
    pub links: u64,
    /// Bytes of the files' lengths.
    pub bytes: u64,
    /// Names passed over because they were there already.
    pub skipped: u64,
    /// Objects stored.
    pub objects: u64,
}

/// Loads everything below `source` into directory `target` of the volume (made if missing; absolute, `/` for the root).
///
/// Keeps modes, owners, times, symbolic and hard links, extended attributes, special files and holes. Errors: `Conflict` when a name
/// exists already (with `skip_existing`: as something else); `Cancelled` after `shutdown`; what the source, the object store or the engine report.
pub async fn import(
    volume: &Volume,
    source: &Path,
    target: &str,
    options: &ImportOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<ImportReport, VolumeError> {
    let meta = std::fs::metadata(source).map_err(|error| scan::unreadable(source, error))?;
    if !meta.is_dir() {
        return Err(scan::unreadable(source, std::io::ErrorKind::NotADirectory.into()));
    }
    std::fs::read_dir(source).map_err(|error| scan::unreadable(source, error))?;
    let made = MkdirP { mode: (meta.mode() & 0o7777) as u16, uid: meta.uid(), gid: meta.gid() };
    let (root, target) = volume.meta.mkdir_p(target.as_bytes(), made).await?;
    let counts = progress.counts();
    let uploader = Uploader::new(volume, target.tier, options, Budget::new(options.buffer_size.0), counts.clone());
    let scanned = scan::start(source.to_owned(), shutdown.clone());
    let totals = scan::count(source.to_owned(), counts.clone(), shutdown.clone());
    let planner =
        Planner::new(volume, (root, target.tier), options.skip_existing, Arc::new(uploader), counts, shutdown.clone());
    let result = planner.run(scanned).await;
    totals.stop();
    result
}
