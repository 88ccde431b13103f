//! `shoal changelog`: what happens to a volume's metadata, as it happens. Flags and output are JuiceFS's.

use std::io::Write;
use std::time::Duration;

use anyhow::ensure;
use shoal_runtime::clock;
use shoal_runtime::shutdown::Shutdown;
use shoal_volume::{Access, open_meta};

/// Entries read at once.
const PAGE: usize = 1000;
/// Between two looks at a log that has nothing new.
const PAUSE: Duration = Duration::from_millis(500);

/// Flags of `changelog`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Show what came after this version; 0 for what comes from now on
    #[arg(long, value_name = "VERSION", default_value_t = 0)]
    from: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let meta = open_meta(&args.meta_url, Access::Read).await?;
    let settings = meta.settings().await?;
    let newest = meta.newest_change().await?;
    ensure!(
        settings.change_log || newest > 0,
        "volume `{}` has no change log; `shoal config META-URL --changelog` makes one",
        settings.name
    );
    let shutdown = Shutdown::on_signals()?;
    let mut version = if args.from == 0 { newest } else { args.from };
    let mut out = std::io::stdout();
    loop {
        let page = meta.changes(version, PAGE).await?;
        for change in &page {
            writeln!(out, "{}: {}", change.version, change.entry)?;
            version = change.version;
        }
        out.flush()?;
        if page.len() < PAGE {
            tokio::select! {
                () = shutdown.wait() => break,
                () = clock::sleep(PAUSE) => {}
            }
        }
    }
    meta.close().await;
    Ok(())
}
