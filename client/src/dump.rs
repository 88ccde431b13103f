//! `shoal dump`: a volume's metadata as a JSON file that `load`, ours or JuiceFS's, takes.

use std::path::PathBuf;

use shoal_meta::dump::DumpOptions;
use shoal_volume::dump::{DumpForm, DumpPlace, dump};

use crate::counting::Counting;

/// Flags of `dump`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Where to write; compressed if the name ends in .gz [default: standard output]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Dump this directory as if it were the whole volume
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    subdir: String,
    /// Keep the object store's secret keys in the dump; without them they have to be set again after a load
    #[arg(long)]
    keep_secret_key: bool,
    /// Directories read at once
    #[arg(long, default_value_t = 10)]
    threads: usize,
    /// Taken for JuiceFS's sake; a dump is always streamed, and needs no memory to be fast
    #[arg(long)]
    fast: bool,
    /// Leave out what is in the trash
    #[arg(long)]
    skip_trash: bool,
    /// Write the binary form instead of JSON: smaller and faster, always of the whole volume
    #[arg(long, conflicts_with_all = ["subdir", "skip_trash"])]
    binary: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let options = DumpOptions {
        subdir: args.subdir.into_bytes(),
        keep_secrets: args.keep_secret_key,
        skip_trash: args.skip_trash,
        threads: args.threads,
    };
    let form = match args.binary {
        true => DumpForm::Binary { keep_secrets: options.keep_secrets },
        false => DumpForm::Json(options),
    };
    let place = args.file.clone().map_or(DumpPlace::Standard, DumpPlace::File);
    let counting = Counting::of("names dumped");
    dump(&args.meta_url, &place, &form, counting.count()).await?;
    if let Some(file) = &args.file {
        let names = counting.so_far();
        drop(counting);
        println!("{names} names dumped to {}", file.display());
    }
    Ok(())
}
