//! `shoal tier`: which storage class a file's blocks are kept in. Flags and output are JuiceFS's.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Subcommand;
use futures::TryStreamExt;
use shoal_format::{Attr, CHUNK_BYTES, FileType, Ino, Settings, TierSetting};
use shoal_runtime::metrics::Registry;
use shoal_types::ErrorKind;
use shoal_volume::{Access, OpenOptions, Volume};

use crate::grid::Grid;

/// Blocks that are copied at once, of one file.
const BLOCKS_AT_ONCE: usize = 10;
/// How often a file is begun again whose blocks were compacted away meanwhile.
const ATTEMPTS: u32 = 3;
/// Bytes of a stored block: none is longer.
const BLOCK_BYTES_MAX: usize = 64 << 20;

/// Flags of `tier`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the volume's tiers; `shoal config META-URL --tier N --storage-class CLASS` makes them
    #[command(visible_alias = "ls")]
    List {
        /// Metadata URL of the volume
        #[arg(value_name = "META-URL")]
        meta_url: String,
    },
    /// Move a file to a tier, or say which tier a directory's new entries get
    Set(SetArgs),
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// Metadata URL of the volume
    #[arg(value_name = "META-URL")]
    meta_url: String,
    /// Path in the volume
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The tier, 0 to 3
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=3))]
    tier: u8,
    /// With everything below a directory
    #[arg(long, short)]
    recursive: bool,
    /// Write blocks again even where the tier stays: its storage class may have changed
    #[arg(long, short)]
    force: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::List { meta_url } => {
            let meta = shoal_volume::open_meta(&meta_url, Access::Read).await?;
            print!("{}", table(&meta.settings().await?));
            meta.close().await;
            Ok(())
        }
        Action::Set(args) => set(&args).await,
    }
}

fn table(settings: &Settings) -> String {
    let mut grid = Grid::aligned(&["tier", "storageClass", "tag"], &[1, 2]);
    for tier in (0..=3).filter_map(|id| tier_of(settings, id)) {
        grid.row(vec![tier.id.to_string(), tier.storage_class, tier.tag]);
    }
    grid.render()
}

/// A tier; a volume older than tiers has the default one.
fn tier_of(settings: &Settings, id: u8) -> Option<TierSetting> {
    let legacy = || TierSetting { storage_class: settings.storage_class.clone(), ..TierSetting::default() };
    settings.tiers.get(&id).cloned().or_else(|| (id == 0).then(legacy))
}

async fn set(args: &SetArgs) -> anyhow::Result<()> {
    let volume = Volume::open(&args.meta_url, &OpenOptions::new(Access::Write), &Registry::new()).await?;
    let done = set_in(&volume, args).await;
    volume.meta.close().await;
    done
}

async fn set_in(volume: &Volume, args: &SetArgs) -> anyhow::Result<()> {
    let name = args.path.display();
    let wanted = tier_of(&volume.settings, args.tier);
    let wanted = wanted.with_context(|| format!("volume `{}` has no tier {}", volume.settings.name, args.tier))?;
    ensure!(wanted.tag.is_empty(), "tier {} has a tag, which this version cannot put on objects", args.tier);
    let found = volume.meta.resolve_path(args.path.as_os_str().as_encoded_bytes()).await?;
    let (ino, attr) = found.with_context(|| format!("there is no {name} in the volume"))?;
    let was = tier_of(&volume.settings, attr.tier).unwrap_or_default();
    eprintln!(
        "set storage tier of \"{name}\" from {}(storage-class: {};tag: {}) to {}(storage-class: {};tag: {})",
        attr.tier, was.storage_class, was.tag, args.tier, wanted.storage_class, wanted.tag
    );
    let mut pending = vec![(ino, attr.clone())];
    while let Some((dir, attr)) = pending.pop() {
        if args.recursive && attr.is_dir() {
            for entry in volume.meta.readdir(dir).await? {
                let Some(child) = entry.attr else { continue };
                match child.kind {
                    FileType::Directory => pending.push((entry.ino, child)),
                    _ => move_inode(volume, args, entry.ino, &child).await?,
                }
            }
        }
        move_inode(volume, args, dir, &attr).await?;
    }
    Ok(())
}

/// Blocks first, then what says where they are: killed in between, the next run does it again.
async fn move_inode(volume: &Volume, args: &SetArgs, ino: Ino, attr: &Attr) -> anyhow::Result<()> {
    if attr.tier == args.tier && !args.force {
        return Ok(());
    }
    if attr.kind == FileType::Regular {
        let mut attempt = 1;
        while let Err(error) = rewrite(volume, args.tier, ino, attr.length).await {
            let gone =
                error.downcast_ref::<shoal_object::ObjectError>().is_some_and(|e| e.kind() == ErrorKind::NotFound);
            ensure!(gone && attempt < ATTEMPTS, error.context(format!("inode {ino} cannot be moved")));
            attempt += 1;
        }
    }
    Ok(volume.meta.set_tier(ino, args.tier).await?)
}

/// Puts every block of a file again, as stored, in the class of `tier`.
async fn rewrite(volume: &Volume, tier: u8, ino: Ino, length: u64) -> anyhow::Result<()> {
    let mut keys = std::collections::BTreeSet::new();
    for chunk in 0..length.div_ceil(CHUNK_BYTES) as u32 {
        for record in volume.meta.chunk(ino, chunk).await?.into_iter().filter(|record| record.id != 0) {
            keys.extend(volume.layout.blocks(record.id, record.size).map(|block| block.object));
        }
    }
    let (from, to) = (&volume.objects, volume.tiers.of(tier));
    futures::stream::iter(keys.into_iter().map(anyhow::Ok))
        .try_for_each_concurrent(BLOCKS_AT_ONCE, |key| async move {
            let stored = from.get(&key, None, None).await?.collect(BLOCK_BYTES_MAX).await?;
            Ok(to.put(&key, stored).await?)
        })
        .await?;
    Ok(to.sync().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_listed_as_by_juicefs() {
        let mut settings = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
        let tier = TierSetting { id: 2, storage_class: "GLACIER".into(), tag: "k=v".into(), ..TierSetting::default() };
        settings.tiers.insert(2, tier);
        let want = "\
+------+--------------+-----+
| tier | storageClass | tag |
+------+--------------+-----+
|    0 |              |     |
|    2 | GLACIER      | k=v |
+------+--------------+-----+
";
        assert_eq!(table(&settings), want);
    }
}
