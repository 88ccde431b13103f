//! `shoal clone`: copies a file or directory without copying its data. Flags and defaults are JuiceFS's.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use shoal_meta::{CloneMode, Cloned, Place};
use shoal_runtime::clock;
use shoal_runtime::shutdown::Shutdown;

use crate::changing::{Changing, caller, place};
use crate::counting::Counting;
use crate::mount_state::MountState;
use crate::target::{Located, locate, shown};

/// Flags of `clone`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file or directory in a mount, or in the volume with --meta
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The new name, in the same volume
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// Metadata URL of the volume, when it is not mounted here
    #[arg(long, value_name = "META-URL")]
    meta: Option<String>,
    /// Keep owner, group, mode and times
    #[arg(long, short)]
    preserve: bool,
    /// Transactions at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=255))]
    threads: u8,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let located = find(&args)?;
    let changing = Changing::at(&located, "shoal clone").await?;
    let done = copy(&args, &located.paths, &changing).await;
    changing.close(done).await
}

/// Both ends. That of a copy does not exist yet: its directory tells the mount.
fn find(args: &Args) -> anyhow::Result<Located> {
    if args.meta.is_some() {
        return locate(args.meta.as_deref(), &[args.source.clone(), args.target.clone()]);
    }
    ensure!(std::fs::symlink_metadata(&args.target).is_err(), "{} exists already", args.target.display());
    // As in JuiceFS, a symbolic link stands for what it leads to.
    let source = std::fs::canonicalize(&args.source);
    let source = source.with_context(|| format!("no such path: {}", args.source.display()))?;
    let mut located = locate(None, std::slice::from_ref(&source))?;
    let above = match args.target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let above = std::fs::canonicalize(above).with_context(|| format!("no such directory: {}", above.display()))?;
    let name = args.target.file_name().with_context(|| format!("{} is no new name", args.target.display()))?;
    let (mount, mut path) = MountState::of(&above)?;
    ensure!(
        located.mount.as_ref().is_some_and(|source| source.uuid == mount.uuid),
        "{} and {} are in different volumes",
        args.source.display(),
        args.target.display()
    );
    path.push(b'/');
    path.extend_from_slice(name.as_encoded_bytes());
    located.paths.push(path);
    // What programs here wrote and did not flush yet belongs into the copy of a file.
    if source.is_file() {
        std::fs::File::open(&source).and_then(|file| file.sync_all())?;
    }
    Ok(located)
}

async fn copy(args: &Args, paths: &[Vec<u8>], changing: &Changing) -> anyhow::Result<()> {
    let [from, to] = paths else { anyhow::bail!("clone takes two paths") };
    let Changing { volume, session } = changing;
    let found = volume.meta.resolve_path(from).await?;
    let (source, _) = found.with_context(|| format!("no such path in the volume: {}", shown(from)))?;
    let (parent, name) = place(&volume.meta, to).await?;
    let mode = if args.preserve { CloneMode::Preserve } else { CloneMode::Own };
    let (caller, stop, shutdown) = (caller()?, AtomicBool::new(false), Shutdown::on_signals()?);
    let (counting, started) = (Counting::of("copied"), clock::now());
    let how = Cloned { caller: &caller, mode, at_once: args.threads.into(), copied: counting.count(), stop: &stop };
    let done = {
        let mut work = std::pin::pin!(session.clone_tree(&how, source, Place { parent, name }));
        tokio::select! {
            done = &mut work => done,
            () = shutdown.wait() => {
                stop.store(true, Ordering::Relaxed);
                work.await
            }
        }
    };
    done.with_context(|| format!("{} is not copied to {}", shown(from), shown(to)))?;
    let copied = counting.so_far();
    drop(counting);
    println!("{copied} inodes copied in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
