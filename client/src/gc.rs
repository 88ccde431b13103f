//! `shoal gc`: finds, and deletes, objects that nothing needs and what waits to be deleted; compacts.

use shoal_meta::Session;
use shoal_runtime::metrics::Registry;
use shoal_volume::upkeep::{Amount, GcOptions, GcReport, gc};
use shoal_volume::{Access, OpenOptions, Volume};

use crate::changing::Changing;
use crate::compact;
use crate::counting::Counting;

/// Flags of `gc`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Compact every chunk that is many slices
    #[arg(long)]
    compact: bool,
    /// Delete leaked objects, and what waits to be deleted; without it, nothing is deleted
    #[arg(long)]
    delete: bool,
    /// Objects, and files, deleted at once; chunks compacted at once
    #[arg(long, short = 'p', default_value_t = 10)]
    threads: usize,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if args.compact || args.delete {
        let changing = Changing::open(&args.meta_url, "gc").await?;
        let done = work(&changing.volume, &args, Some(&changing.session)).await;
        return changing.close(done).await;
    }
    let volume = Volume::open(&args.meta_url, &OpenOptions::new(Access::Read), &Registry::new()).await?;
    let done = work(&volume, &args, None).await;
    volume.meta.close().await;
    done
}

async fn work(volume: &Volume, args: &Args, session: Option<&Session>) -> anyhow::Result<()> {
    if let (true, Some(session)) = (args.compact, session) {
        compact::all(volume, session, args.threads).await?;
    }
    let counting = Counting::of("objects scanned");
    let options = GcOptions { session: session.filter(|_| args.delete), threads: args.threads };
    let report = gc(volume, &options, counting.count()).await;
    drop(counting);
    show(&report?, args.delete);
    Ok(())
}

/// In the words of JuiceFS, for scripts that read them.
fn show(report: &GcReport, delete: bool) {
    let amount = |amount: Amount, what: &str| format!("{} {what} ({} bytes)", amount.count, amount.bytes);
    println!("using {} slices ({} bytes)", report.slices.count, report.slices.bytes);
    if delete {
        println!("Deleted {} pending slices", report.deleted_slices);
    }
    println!(
        "scanned {} objects, {} valid, {}, {}, {}, {}, {}, {}",
        report.scanned,
        report.valid,
        amount(report.pending, "pending delete"),
        amount(report.compacted, "compacted"),
        amount(report.leaked, "leaked"),
        amount(report.delslices, "delslices"),
        amount(report.delfiles, "delfiles"),
        amount(report.skipped, "skipped")
    );
    let deletable = [report.pending, report.leaked, report.delslices, report.delfiles];
    if !delete && deletable.iter().any(|amount| amount.count > 0) {
        println!("Please add `--delete` to delete leaked and pending objects, delslices and delfiles");
    }
}
