//! `shoal destroy`: deletes a volume with everything in it. Flags and questions are JuiceFS's.

use std::io::{BufRead, Write};

use anyhow::{bail, ensure};
use shoal_format::SessionInfo;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_volume::{Doomed, redact};

use crate::counting::Counting;
use crate::table::Table;

/// Objects deleted at once; as many as with real clients.
const DELETES_AT_ONCE: usize = 100;

/// Flags of `destroy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// The volume's UUID, as `shoal status` shows it
    #[arg(value_name = "UUID")]
    uuid: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Also where clients use the volume; what they still write is lost
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let doomed = Doomed::open(&args.meta_url, &Registry::new()).await?;
    let settings = &doomed.settings;
    ensure!(
        settings.uuid == args.uuid,
        "volume `{}` has the UUID {}, not {}; nothing was deleted",
        settings.name,
        settings.uuid,
        args.uuid
    );
    if !args.force {
        refuse_in_use(&doomed).await?;
    }
    announce(&doomed, &args.meta_url).await?;
    if !args.yes && !confirmed()? {
        bail!("nothing was deleted");
    }
    let (counting, started) = (Counting::of("objects deleted"), clock::now());
    doomed.delete_objects(DELETES_AT_ONCE, counting.count()).await?;
    let deleted = counting.so_far();
    drop(counting);
    if !args.force {
        // One that came meanwhile has lost data already; it learns so from its heartbeat rather than from wrong metadata.
        refuse_in_use(&doomed).await?;
    }
    doomed.drop_metadata().await?;
    doomed.meta.close().await;
    println!(
        "volume `{}` is destroyed: {deleted} objects deleted in {:.1} s",
        args.uuid,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn refuse_in_use(doomed: &Doomed) -> anyhow::Result<()> {
    let sessions = doomed.meta.sessions().await?;
    if sessions.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["SID", "HOST", "MOUNTPOINT"]);
    for session in &sessions {
        let info = SessionInfo::parse(&session.info).unwrap_or_default();
        table.row(vec![session.sid.to_string(), info.host_name, info.mount_point]);
    }
    eprint!("{}", table.render());
    bail!("volume `{}` has clients: {}; end them first, or pass --force", doomed.settings.name, sessions.len())
}

/// Says what is about to be deleted.
async fn announce(doomed: &Doomed, url: &str) -> anyhow::Result<()> {
    let stat = doomed.meta.statfs().await?;
    let store = format!("{}, everything below {}", doomed.objects.name(), doomed.prefix());
    println!(" volume name: {}\n volume UUID: {}", doomed.settings.name, doomed.settings.uuid);
    println!("data storage: {store}\n  used bytes: {}\n used inodes: {}", stat.used_bytes, stat.used_inodes);
    println!("WARNING: the volume will be destroyed for good:");
    println!("WARNING: 1. ALL objects in {store}");
    println!("WARNING: 2. ALL entries of the metadata in {}", redact(url));
    Ok(())
}

fn confirmed() -> anyhow::Result<bool> {
    print!("Proceed anyway? [y/N]: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
