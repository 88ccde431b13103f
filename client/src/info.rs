//! `shoal info`: what a file is made of, and where its blocks are cached.

use anyhow::Context;
use shoal_cache::Block;
use shoal_format::{Attr, CHUNK_BYTES, FileType, Ino, SliceRecord};
use shoal_runtime::metrics::Registry;
use shoal_types::{BlockKey, ByteSize};
use shoal_vfs::{Vfs, VfsOptions};
use shoal_volume::{AttachOptions, Attached};
use tokio::runtime::Handle;

use crate::options::TargetArgs;
use crate::table::Table;
use crate::target::{self, shown};

/// RAM of a client that reads nothing.
const MEMORY: u64 = 64 << 20;

/// Flags of `info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: TargetArgs,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let registry = Registry::new();
    let target = target::open(&args.target, &registry).await?;
    let options = AttachOptions {
        ring: target.ring.clone(),
        memory: MEMORY,
        peer_timeout: std::time::Duration::from_secs(5),
        vfs: VfsOptions { max_readahead: 0 },
    };
    let attached = target.volume.attach(&options, Handle::current(), &registry).await?;
    for path in &target.paths {
        show(&attached, path).await?;
    }
    Ok(())
}

async fn show(attached: &Attached, path: &[u8]) -> anyhow::Result<()> {
    let vfs = &attached.vfs;
    let found = vfs.meta().resolve_path(path).await?;
    let (ino, attr) = found.with_context(|| format!("no such path in the volume: {}", shown(path)))?;
    println!("{} :", shown(path));
    println!("  inode: {ino}");
    match attr.kind {
        FileType::Regular => show_file(attached, ino, &attr).await,
        FileType::Directory => show_dir(vfs, ino, attr).await,
        _ => {
            println!("  length: {}", attr.length);
            Ok(())
        }
    }
}

async fn show_dir(vfs: &Vfs, ino: Ino, attr: Attr) -> anyhow::Result<()> {
    let report = vfs.walk(ino, attr, async |_| Ok(())).await?;
    println!("  files: {}", report.files);
    println!("   dirs: {}", report.dirs);
    println!("  bytes: {} ({})", report.bytes, ByteSize(report.bytes));
    Ok(())
}

async fn show_file(attached: &Attached, ino: Ino, attr: &Attr) -> anyhow::Result<()> {
    println!("  length: {} ({})", attr.length, ByteSize(attr.length));
    let mut slices = Table::new(&["  CHUNK", "SLICE", "SIZE", "POS", "OFF", "LEN"]);
    for chunk in 0..attr.length.div_ceil(CHUNK_BYTES) as u32 {
        for record in attached.vfs.meta().chunk(ino, chunk).await? {
            slices.row(slice_cells(chunk, &record));
        }
    }
    print!("{}", slices.render());
    let blocks = attached.vfs.file_blocks(ino, attr).await?;
    print!("{}", objects(attached, &blocks).await.render());
    Ok(())
}

fn slice_cells(chunk: u32, record: &SliceRecord) -> Vec<String> {
    let slice = if record.id == 0 { "hole".to_owned() } else { record.id.to_string() };
    let mut cells = vec![format!("  {chunk}"), slice];
    cells.extend([record.size, record.pos, record.off, record.len].map(|number| number.to_string()));
    cells
}

/// One line an object: its key, its plain size, and which nodes hold it in which tier. The owner is named first.
async fn objects(attached: &Attached, blocks: &[Block]) -> Table {
    let mut table = Table::new(&["  OBJECT", "SIZE", "OWNER", "CACHED"]);
    let keys: Vec<BlockKey> = blocks.iter().map(|block| block.key.clone()).collect();
    let located = match attached.ring {
        Some(_) => attached.cache.locate(&keys).await,
        None => Vec::new(),
    };
    for (index, block) in blocks.iter().enumerate() {
        let owner = attached.ring.as_ref().and_then(|ring| ring.views.current().owners(&block.key, 1).first().cloned());
        let cached: Vec<String> = located
            .iter()
            .filter_map(|(member, tiers)| {
                tiers.get(index).copied().flatten().map(|tier| format!("{}:{tier}", member.name))
            })
            .collect();
        table.row(vec![
            format!("  {}", block.key.object()),
            block.plain_len.to_string(),
            owner.map_or_else(|| "-".to_owned(), |member| member.name.clone()),
            if cached.is_empty() { "-".to_owned() } else { cached.join(",") },
        ]);
    }
    table
}
