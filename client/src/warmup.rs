//! `shoal warmup`: brings files into the ring ahead of use.
//!
//! Idempotent: blocks that are there already cost their owner a look, so running it again is how to resume. It succeeds only if
//! every block is stored.

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use shoal_cache::WarmReport;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_types::{BlockKey, ByteSize};
use shoal_vfs::{Vfs, VfsOptions};
use shoal_volume::{AttachOptions, RingReads};
use std::collections::HashSet;
use tokio::runtime::Handle;

use crate::options::TargetArgs;
use crate::target::{self, shown};

/// Blocks sent to the owners at once: bounds memory, and lets the walk go on while they fill.
const BATCH_BLOCKS: usize = 16_384;

/// RAM of a client that reads nothing itself.
const MEMORY: u64 = 64 << 20;

/// Flags of `warmup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let registry = Registry::new();
    let target = target::open(&args.target, &registry).await?;
    if target.ring.is_none() {
        bail!("no ring to warm: the mount has none; name one with --join HOST:PORT,... and --certs DIR");
    }
    let options = AttachOptions {
        ring: target.ring.clone(),
        memory: MEMORY,
        peer_timeout: std::time::Duration::from_secs(60),
        reads: RingReads::default(),
        vfs: VfsOptions { max_readahead: 0, ..VfsOptions::default() },
        writes: None,
    };
    let attached = target.volume.attach(&options, Handle::current(), &registry).await?;
    let started = clock::now();
    let bar = if args.quiet { ProgressBar::hidden() } else { bar() };
    let mut work = Warmup {
        vfs: attached.vfs.clone(),
        bar,
        seen: HashSet::new(),
        pending: Vec::new(),
        total: WarmReport::default(),
    };
    for path in &target.paths {
        work.path(path).await?;
    }
    work.send().await?;
    work.bar.finish_and_clear();
    finish(&work.total, started.elapsed().as_secs_f64())
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} blocks  {per_sec}  ETA {eta}  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

struct Warmup {
    vfs: Vfs,
    bar: ProgressBar,
    seen: HashSet<shoal_types::BlockId>,
    pending: Vec<BlockKey>,
    total: WarmReport,
}

impl Warmup {
    async fn path(&mut self, path: &[u8]) -> anyhow::Result<()> {
        let found = self.vfs.meta().resolve_path(path).await?;
        let (ino, attr) = found.with_context(|| format!("no such path in the volume: {}", shown(path)))?;
        let vfs = self.vfs.clone();
        let mut files = Vec::new();
        vfs.walk(ino, attr, async |entry| {
            if entry.attr.kind == shoal_format::FileType::Regular && entry.attr.length > 0 {
                files.push((entry.ino, entry.attr));
            }
            Ok(())
        })
        .await?;
        for (ino, attr) in files {
            for block in vfs.file_blocks(ino, &attr).await? {
                if self.seen.insert(block.key.id()) {
                    self.bar.inc_length(1);
                    self.pending.push(block.key);
                }
            }
            if self.pending.len() >= BATCH_BLOCKS {
                self.send().await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (bar, before) = (self.bar.clone(), self.total.total);
        let keys = std::mem::take(&mut self.pending);
        let report = self.vfs.cache().warm(keys, |progress| bar.set_position(before + progress.done)).await?;
        add(&mut self.total, report);
        Ok(())
    }
}

fn add(total: &mut WarmReport, report: WarmReport) {
    total.total += report.total;
    total.already += report.already;
    total.fetched += report.fetched;
    total.failed += report.failed;
    total.bytes += report.bytes;
    total.first_error = total.first_error.take().or(report.first_error);
}

fn finish(total: &WarmReport, seconds: f64) -> anyhow::Result<()> {
    println!(
        "{} blocks: {} fetched ({}), {} already there, {} failed, in {seconds:.1} s",
        total.total,
        total.fetched,
        ByteSize(total.bytes),
        total.already,
        total.failed
    );
    if total.failed > 0 {
        let first = total.first_error.as_deref().unwrap_or("no reason was given");
        bail!(
            "{} of {} blocks are not in the ring; the first: {first}; run it again to resume",
            total.failed,
            total.total
        );
    }
    Ok(())
}
