//! `shoal load`: makes a volume's metadata from a dump, ours or JuiceFS's, in an empty database.

use std::path::PathBuf;

use shoal_volume::dump::{DumpKey, DumpPlace, LoadForm, index, load};
use shoal_volume::{Access, OpenOptions, redact};

use crate::counting::Counting;
use crate::table::Table;

/// Flags of `load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of an empty database. Never use it beside the one that was dumped: both would give out the same slices
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// The dump; compressed if its name ends in .gz [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// PEM file with the RSA private key of a dump that was encrypted, as those that JuiceFS keeps in an encrypted volume's object store
    #[arg(long, value_name = "FILE")]
    encrypt_rsa_key: Option<PathBuf>,
    /// Encryption of such a dump, aes256gcm-rsa or chacha20-rsa
    #[arg(long, default_value = "aes256gcm-rsa")]
    encrypt_algo: String,
    /// The dump has the binary form
    #[arg(long)]
    binary: bool,
    /// Show what a binary dump holds, and load nothing; the file takes the place of META-URL
    #[arg(long, requires = "binary")]
    stat: bool,
    /// With --stat, also where the segments of each kind begin: -1
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, requires = "stat")]
    offset: i64,
    /// Taken for JuiceFS's sake; records are written in the order of the dump
    #[arg(long, default_value_t = 10)]
    threads: usize,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if args.stat {
        return stat(&args);
    }
    let passphrase = OpenOptions::new(Access::Write).passphrase;
    let key = args.encrypt_rsa_key.map(|path| DumpKey { path, algorithm: args.encrypt_algo, passphrase });
    let place = args.file.map_or(DumpPlace::Standard, DumpPlace::File);
    let form = if args.binary { LoadForm::Binary } else { LoadForm::Json };
    let counting = Counting::of("names loaded");
    let settings = load(&args.meta_url, &place, key.as_ref(), form, counting.count()).await?;
    let count = counting.so_far();
    drop(counting);
    println!("volume `{}` with {count} names is loaded into {}", settings.name, redact(&args.meta_url));
    if settings.lacks_secrets() {
        println!(
            "the dump lacks the secrets of its object store; set them with `shoal format {} {} --secret-key ...`",
            redact(&args.meta_url),
            settings.name
        );
    }
    Ok(())
}

fn stat(args: &Args) -> anyhow::Result<()> {
    let path = args.file.clone().unwrap_or_else(|| PathBuf::from(&args.meta_url));
    let (version, segments) = index(&path)?;
    let with_offsets = args.offset == -1;
    let mut table = if with_offsets { Table::new(&["Name", "Num", "Offset"]) } else { Table::new(&["Name", "Num"]) };
    for segment in segments {
        let mut cells = vec![segment.name, segment.count.to_string()];
        if with_offsets {
            cells.push(format!("{:?}", segment.offsets));
        }
        table.row(cells);
    }
    println!("Backup Version: {version}");
    print!("{}", table.render());
    Ok(())
}
