//! `shoal rmr`: removes files and directories with everything below them, many names at once. Flags and defaults are JuiceFS's.

use std::path::PathBuf;

use anyhow::Context;
use shoal_meta::{TrashUse, TreeRemoval};
use shoal_runtime::clock;

use crate::changing::{Changing, caller, place};
use crate::counting::Counting;
use crate::target::{locate, shown};

/// Flags of `rmr`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and directories in a mount, or in the volume with --meta
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Metadata URL of the volume, when it is not mounted here
    #[arg(long, value_name = "META-URL")]
    meta: Option<String>,
    /// Delete at once instead of moving to the trash; root only
    #[arg(long)]
    skip_trash: bool,
    /// Transactions at once
    #[arg(long, short = 'p', default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=255))]
    threads: u8,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let located = locate(args.meta.as_deref(), &args.paths)?;
    let changing = Changing::at(&located, "shoal rmr").await?;
    let done = remove(&args, &located.paths, &changing).await;
    changing.close(done).await
}

async fn remove(args: &Args, paths: &[Vec<u8>], changing: &Changing) -> anyhow::Result<()> {
    let Changing { volume, session } = changing;
    let caller = caller()?;
    let trash = if args.skip_trash { TrashUse::Skip } else { TrashUse::AsSet };
    let what = match volume.settings.trash_days {
        days if days > 0 && !args.skip_trash => format!("it stays in the trash for days: {days}"),
        _ => "it is deleted for good".to_owned(),
    };
    let (counting, started) = (Counting::of("removed"), clock::now());
    let how = TreeRemoval { caller: &caller, trash, at_once: args.threads.into(), removed: counting.count() };
    for path in paths {
        let (parent, name) = place(&volume.meta, path).await?;
        println!("removing {} from volume `{}`; {what}", shown(path), volume.settings.name);
        let removed = session.remove_tree(&how, parent, name).await;
        removed.with_context(|| format!("{} is not removed", shown(path)))?;
    }
    let removed = counting.so_far();
    drop(counting);
    println!("{removed} names removed in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}
