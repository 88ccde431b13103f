//! `shoal fsck`: whether the objects of a volume's files are there, and its directories are what they ought to be.

use anyhow::bail;
use shoal_meta::check::{CheckOptions, Finding};
use shoal_runtime::metrics::Registry;
use shoal_types::ByteSize;
use shoal_volume::upkeep::{FsckOptions, FsckReport, ObjectState, fsck};
use shoal_volume::{Access, OpenOptions, Volume};

use crate::counting::Counting;
use crate::target::shown;

/// Flags of `fsck`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Check what is at this path of the volume, and the objects of the files there; without it, the objects of every file
    #[arg(long)]
    path: Option<String>,
    /// Put right what is wrong with directories and link counts at --path
    #[arg(long, requires = "path")]
    repair: bool,
    /// Check everything below --path too
    #[arg(long, short, requires = "path")]
    recursive: bool,
    /// Count the use of every directory anew; with --path / --recursive, that of the volume too
    #[arg(long, requires = "path")]
    sync_dir_stat: bool,
    /// Permissions of directories that have to be made anew
    #[arg(long, default_value = "0755", value_name = "OCTAL", value_parser = octal)]
    repair_dir_mode: u16,
}

fn octal(text: &str) -> Result<u16, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u16::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "permissions are octal, such as 0755".to_owned())
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let access = if args.repair { Access::Write } else { Access::Read };
    let volume = Volume::open(&args.meta_url, &OpenOptions::new(access), &Registry::new()).await?;
    let tree = args.path.map(|path| CheckOptions {
        path: path.into_bytes(),
        repair: args.repair,
        recursive: args.recursive,
        sync_usage: args.sync_dir_stat,
        dir_mode: args.repair_dir_mode,
    });
    let with_tree = tree.is_some();
    let counting = Counting::of(if with_tree { "files checked" } else { "objects listed" });
    let mut found = |finding: &Finding| counting.say(&finding.to_string());
    let report = fsck(&volume, &FsckOptions { tree }, &mut found, counting.count()).await;
    drop(counting);
    volume.meta.close().await;
    let report = report?;
    if with_tree {
        println!("Checked {} nodes", report.tree.checked);
    }
    println!("Found {} blocks ({} bytes)", report.objects.0, report.objects.1);
    println!("Used by {} slices ({} bytes)", report.slices.0, report.slices.1);
    show(&report);
    verdict(&report)
}

fn show(report: &FsckReport) {
    for block in &report.blocks {
        let what = match &block.state {
            ObjectState::Missing => format!("can't find block {}", block.key),
            ObjectState::WrongSize(len) => {
                format!("block {} has {len} bytes, which is not what {} bytes become", block.key, block.len)
            }
            ObjectState::Unknown(why) => format!("block {} cannot be checked: {why}", block.key),
        };
        let paths = report.files.get(&block.ino).map(Vec::as_slice).unwrap_or_default();
        match paths.first() {
            Some(path) => println!("{what} for file {}", shown(path)),
            None => println!("{what} for inode {}, which has no name", block.ino),
        }
    }
    if !report.files.is_empty() {
        println!("      INODE: PATH");
    }
    for (ino, paths) in &report.files {
        for path in paths {
            println!("{:>11}: {}", ino.0, shown(path));
        }
        if paths.is_empty() {
            println!("{:>11}: (removed, and still open)", ino.0);
        }
    }
}

fn verdict(report: &FsckReport) -> anyhow::Result<()> {
    if report.is_clean() {
        return Ok(());
    }
    let mut wrong = Vec::new();
    if report.tree.broken > 0 {
        wrong.push(format!("{} errors in directories and names", report.tree.broken));
    }
    if !report.blocks.is_empty() {
        let keys: std::collections::BTreeMap<&str, u32> =
            report.blocks.iter().map(|block| (block.key.as_str(), block.len)).collect();
        let bytes: u64 = keys.values().map(|len| u64::from(*len)).sum();
        wrong.push(format!(
            "{} objects are lost or damaged ({bytes} bytes, {}), {} broken files",
            keys.len(),
            ByteSize(bytes),
            report.files.len()
        ));
    }
    bail!("{}", wrong.join("; "))
}
