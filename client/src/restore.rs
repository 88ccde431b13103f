//! `shoal restore`: takes back what lies in the trash. Flags and defaults are JuiceFS's.

use std::sync::atomic::AtomicU64;

use anyhow::ensure;
use shoal_meta::{RestoreTo, Restoring};

use crate::changing::Changing;
use crate::counting::Counting;

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Hours of the trash, as its directories are named: 2026-11-22-13
    #[arg(required = true, value_name = "HOUR")]
    hours: Vec<String>,
    /// Also move what was removed back into its original directory; without, removed trees are only put together in the trash
    #[arg(long)]
    put_back: bool,
    /// Names moved at once
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=255))]
    threads: u8,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the trash is kept for root");
    let changing = Changing::open(&args.meta_url, "shoal restore").await?;
    let done = restore(&args, &changing).await;
    changing.close(done).await
}

async fn restore(args: &Args, changing: &Changing) -> anyhow::Result<()> {
    let (to, what) = match args.put_back {
        true => (RestoreTo::Origin, "back into the original directories"),
        false => (RestoreTo::Trees, "as trees that stay in the trash"),
    };
    let mut lost = 0;
    for hour in &args.hours {
        println!("restoring what was removed in {hour} in volume `{}`, {what}", changing.volume.settings.name);
        let (counting, skipped, failed) = (Counting::of("restored"), AtomicU64::new(0), AtomicU64::new(0));
        let (at_once, restored) = (args.threads.into(), counting.count());
        let how = Restoring { to, at_once, restored, skipped: &skipped, failed: &failed };
        changing.session.restore(hour, &how).await?;
        let restored = counting.so_far();
        drop(counting);
        let (skipped, failed) = (skipped.into_inner(), failed.into_inner());
        println!("{hour}: {restored} restored, {skipped} skipped, {failed} failed");
        lost += failed;
    }
    ensure!(lost == 0, "{lost} entries stay in the trash; the warnings above say why");
    Ok(())
}
