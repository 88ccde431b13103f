//! `shoal import`: loads a local directory into a volume.

use std::path::PathBuf;

use anyhow::Context;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_types::ByteSize;
use shoal_volume::import::{ImportOptions, Progress, import};
use shoal_volume::{Access, OpenOptions, Volume};

use crate::target::split_path;

/// Flags of `import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory to load; its content, not itself, appears in the target
    #[arg(value_name = "DIR")]
    source: PathBuf,
    /// Metadata URL of the volume, and where in it to load: META-URL[:/path]
    #[arg(value_name = "META-URL[:/PATH]")]
    target: String,
    /// Objects stored at once
    #[arg(long, default_value_t = 20)]
    max_uploads: usize,
    /// Bytes of file content in memory at most
    #[arg(long, default_value = "300M", value_name = "SIZE")]
    buffer_size: ByteSize,
    /// Pass over what is there already with the same type, length and time: goes on with an import that was stopped
    #[arg(long)]
    skip_existing: bool,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let (url, path) = split_path(&args.target);
    let volume = Volume::open(url, &OpenOptions::new(Access::Write), &Registry::new()).await?;
    let options = ImportOptions {
        max_uploads: args.max_uploads,
        buffer_size: args.buffer_size,
        skip_existing: args.skip_existing,
    };
    let shutdown = Shutdown::on_signals()?;
    let progress = if args.quiet { Progress::silent() } else { Progress::bar() };
    let started = clock::now();
    let report = import(&volume, &args.source, path, &options, &progress, &shutdown).await;
    progress.finish();
    volume.meta.close().await;
    let report = report.with_context(|| format!("import of {} stopped", args.source.display()))?;
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{} files, {} directories, {} further names, {} others: {} in {} objects in {seconds:.1} s ({}/s)",
        report.files,
        report.dirs,
        report.links,
        report.others,
        ByteSize(report.bytes),
        report.objects,
        ByteSize((report.bytes as f64 / seconds.max(0.001)) as u64),
    );
    if report.skipped > 0 {
        println!("{} names were there already", report.skipped);
    }
    Ok(())
}
