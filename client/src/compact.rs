//! `shoal compact`: makes one slice of the many that chunks of files have become.

use std::time::Duration;

use anyhow::{Context, bail};
use shoal_format::{Attr, FileType, Ino};
use shoal_meta::Session;
use shoal_runtime::metrics::Registry;
use shoal_vfs::{UPLOADS_MAX, Vfs, VfsOptions};
use shoal_volume::upkeep::{CompactReport, compact_file, compact_volume};
use shoal_volume::{AttachOptions, RingReads, Volume, Writing};
use tokio::runtime::Handle;

use crate::changing::Changing;
use crate::counting::Counting;
use crate::target::{locate, shown};

/// Memory for blocks on their way: some at once for each chunk that is compacted.
const MEMORY: u64 = 512 << 20;

/// Flags of `compact`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and directories in a mount, or in the volume with --meta
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<std::path::PathBuf>,
    /// Metadata URL of the volume, when it is not mounted here
    #[arg(long, value_name = "META-URL")]
    meta: Option<String>,
    /// Chunks compacted at once
    #[arg(long, short = 'p', default_value_t = 10)]
    threads: usize,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let located = locate(args.meta.as_deref(), &args.paths)?;
    let changing = Changing::at(&located, "compact").await?;
    let done = paths(&changing.volume, &changing.session, &located.paths, args.threads).await;
    let report = changing.close(done).await?;
    tell(&report)
}

async fn paths(volume: &Volume, session: &Session, paths: &[Vec<u8>], threads: usize) -> anyhow::Result<CompactReport> {
    let vfs = attach(volume, session, &Registry::new()).await?;
    let counting = Counting::of("files looked at");
    let mut report = CompactReport::default();
    for path in paths {
        let found = volume.meta.resolve_path(path).await?;
        let (ino, attr) = found.with_context(|| format!("no such path in the volume: {}", shown(path)))?;
        let mut files: Vec<(Ino, u64)> = Vec::new();
        let is_file = |attr: &Attr| attr.kind == FileType::Regular && attr.length > 0;
        vfs.walk(ino, attr, async |entry| {
            files.extend(is_file(&entry.attr).then_some((entry.ino, entry.attr.length)));
            Ok(())
        })
        .await?;
        for file in files {
            compact_file(&volume.meta, &vfs, file, threads, &mut report).await?;
            counting.count().fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    Ok(report)
}

/// Compacts every chunk of the volume, and says what came of it.
pub(crate) async fn all(volume: &Volume, session: &Session, threads: usize) -> anyhow::Result<()> {
    let vfs = attach(volume, session, &Registry::new()).await?;
    let counting = Counting::of("chunks looked at");
    let report = compact_volume(&volume.meta, &vfs, threads, counting.count()).await?;
    drop(counting);
    tell(&report)
}

fn tell(report: &CompactReport) -> anyhow::Result<()> {
    println!("Compacted {} chunks ({} slices, {} bytes).", report.chunks, report.slices, report.bytes);
    if report.failed > 0 {
        bail!("{} chunks could not be compacted; --log-level warn says why", report.failed);
    }
    Ok(())
}

/// The volume's files, read and written without a ring.
async fn attach(volume: &Volume, session: &Session, registry: &Registry) -> anyhow::Result<Vfs> {
    let options = AttachOptions {
        ring: None,
        memory: MEMORY,
        peer_timeout: Duration::from_secs(60),
        reads: RingReads::default(),
        vfs: VfsOptions { max_readahead: 0, ..VfsOptions::default() },
        writes: Some(Writing { session: session.clone(), memory: None, uploads_max: UPLOADS_MAX, fill_group: false }),
    };
    Ok(volume.attach(&options, Handle::current(), registry).await?.vfs)
}
