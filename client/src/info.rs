//! `shoal info`: what a file or directory is made of, and where its blocks are cached. Flags and output are JuiceFS's, with two columns
//! more: a block's owner in the ring, and the nodes that hold it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::Context;
use shoal_cache::Block;
use shoal_format::{Attr, CHUNK_BYTES, FileType, Ino, Layout, PieceSource, SliceRecord, resolve};
use shoal_meta::{Counting, Meta, Reach, show_name};
use shoal_runtime::metrics::Registry;
use shoal_types::BlockKey;
use shoal_vfs::VfsOptions;
use shoal_volume::{AttachOptions, Attached, RingReads};
use tokio::runtime::Handle;

use crate::options::{RingArgs, TargetArgs};
use crate::sizes::exact;
use crate::table::Table;
use crate::target::{self, shown};

/// RAM of a client that reads nothing.
const MEMORY: u64 = 64 << 20;

/// Flags of `info`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files and directories in a mount, or in the volume with --meta; inode numbers with --inode
    #[arg(required = true, value_name = "PATH|INODE")]
    paths: Vec<PathBuf>,
    /// Metadata URL of the volume, when it is not mounted here
    #[arg(long, value_name = "META-URL")]
    meta: Option<String>,
    #[command(flatten)]
    ring: RingArgs,
    /// Take numbers of inodes; without --meta, of the volume that is mounted where this directory is
    #[arg(long, short)]
    inode: bool,
    /// Count everything below directories
    #[arg(long, short)]
    recursive: bool,
    /// Count every inode instead of trusting directories' statistics
    #[arg(long)]
    strict: bool,
    /// Show slices as they are recorded instead of the objects they are made of
    #[arg(long)]
    raw: bool,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let registry = Registry::new();
    let paths = if args.inode && args.meta.is_none() { vec![PathBuf::from(".")] } else { args.paths.clone() };
    let target_args = TargetArgs { paths, meta: args.meta.clone(), ring: args.ring.clone() };
    let target = target::open(&target_args, &registry).await?;
    let options = AttachOptions {
        ring: target.ring.clone(),
        memory: MEMORY,
        peer_timeout: std::time::Duration::from_secs(5),
        reads: RingReads::default(),
        vfs: VfsOptions { max_readahead: 0, ..VfsOptions::default() },
        writes: None,
    };
    let attached = target.volume.attach(&options, Handle::current(), &registry).await?;
    let shower = Shower { args: &args, attached: &attached, layout: &target.volume.layout };
    if args.inode {
        for text in &args.paths {
            let number = text.to_str().and_then(|text| text.parse().ok());
            let ino = Ino(number.with_context(|| format!("`{}` is no number of an inode", text.display()))?);
            let attr = target.volume.meta.getattr(ino).await?;
            shower.show(&ino.to_string(), ino, &attr.with_context(|| format!("no inode {ino} in the volume"))?).await?;
        }
        return Ok(());
    }
    for (named, path) in args.paths.iter().zip(&target.paths) {
        let found = target.volume.meta.resolve_path(path).await?;
        let (ino, attr) = found.with_context(|| format!("no such path in the volume: {}", shown(path)))?;
        shower.show(&named.display().to_string(), ino, &attr).await?;
    }
    Ok(())
}

struct Shower<'a> {
    args: &'a Args,
    attached: &'a Attached,
    layout: &'a Layout,
}

impl Shower<'_> {
    async fn show(&self, named: &str, ino: Ino, attr: &Attr) -> anyhow::Result<()> {
        let meta = self.attached.vfs.meta();
        let reach = if self.args.recursive { Reach::Tree } else { Reach::Children };
        let counting = if self.args.strict { Counting::Inodes } else { Counting::Statistics };
        let total = meta.summary(ino, attr, reach, counting).await?;
        println!("{named} :\n  inode: {ino}\n  files: {}\n   dirs: {}", total.files, total.dirs);
        println!(" length: {}\n   size: {}", exact(total.length), exact(total.size));
        print_paths(meta, ino, attr).await?;
        println!("   tier: {}", attr.tier);
        if attr.kind != FileType::Regular {
            return Ok(());
        }
        match self.args.raw {
            true => self.show_slices(ino, attr).await,
            false => self.show_objects(ino, attr).await,
        }
    }

    async fn show_slices(&self, ino: Ino, attr: &Attr) -> anyhow::Result<()> {
        let mut table = Table::new(&["chunkIndex", "sliceId", "size", "offset", "length", "pos"]);
        for (chunk, record) in records(self.attached.vfs.meta(), ino, attr).await? {
            let SliceRecord { pos, id, size, off, len } = record;
            let numbers = [u64::from(size), u64::from(off), u64::from(len), u64::from(pos)];
            let mut cells = vec![chunk.to_string(), id.to_string()];
            cells.extend(numbers.map(|number| number.to_string()));
            table.row(cells);
        }
        print!(" chunks:\n{}", table.framed(usize::MAX));
        Ok(())
    }

    /// One line for each stretch of the file that an object holds: which nodes have the object in which tier. Its owner is named first.
    async fn show_objects(&self, ino: Ino, attr: &Attr) -> anyhow::Result<()> {
        let places = self.places(&self.attached.vfs.file_blocks(ino, attr).await?).await;
        let mut table = Table::new(&["chunkIndex", "objectName", "size", "offset", "length", "pos", "owner", "cached"]);
        let mut chunks: BTreeMap<u32, Vec<SliceRecord>> = BTreeMap::new();
        for (chunk, record) in records(self.attached.vfs.meta(), ino, attr).await? {
            chunks.entry(chunk).or_default().push(record);
        }
        for (chunk, records) in chunks {
            for piece in resolve(&records) {
                let PieceSource::Slice { id, size, off } = piece.source else { continue };
                let mut pos = piece.pos;
                for part in self.layout.reads(id, size, off, piece.len)? {
                    let unknown = ("-".to_owned(), "-".to_owned());
                    let (owner, cached) = places.get(&part.block.object).cloned().unwrap_or(unknown);
                    let numbers = [part.block.len, part.start, part.len, pos].map(|number| number.to_string());
                    let mut cells = vec![chunk.to_string(), part.block.object];
                    cells.extend(numbers.into_iter().chain([owner, cached]));
                    table.row(cells);
                    pos += part.len;
                }
            }
        }
        print!(" objects:\n{}", table.framed(1));
        Ok(())
    }

    /// Owner of each block's object, and who has it.
    async fn places(&self, blocks: &[Block]) -> HashMap<String, (String, String)> {
        let Some(ring) = &self.attached.ring else { return HashMap::new() };
        let keys: Vec<BlockKey> = blocks.iter().map(|block| block.key.clone()).collect();
        let located = self.attached.cache.locate(&keys).await;
        let place = |(index, key): (usize, &BlockKey)| {
            let owner = ring.views.current().owners(key, 1).first().cloned();
            let cached: Vec<String> = located
                .iter()
                .filter_map(|(member, tiers)| {
                    tiers.get(index).copied().flatten().map(|tier| format!("{}:{tier}", member.name))
                })
                .collect();
            let owner = owner.map_or_else(|| "-".to_owned(), |member| member.name.clone());
            let cached = if cached.is_empty() { "-".to_owned() } else { cached.join(",") };
            (key.object().to_owned(), (owner, cached))
        };
        keys.iter().enumerate().map(place).collect()
    }
}

/// Slice records of a file's chunks up to its length, with the number of their chunk.
async fn records(meta: &Meta, ino: Ino, attr: &Attr) -> anyhow::Result<Vec<(u32, SliceRecord)>> {
    let lists = meta.chunks(ino, 0..attr.length.div_ceil(CHUNK_BYTES) as u32).await?;
    let each = lists.into_iter().flat_map(|list| list.slices.into_iter().map(move |record| (list.index, record)));
    Ok(each.collect())
}

async fn print_paths(meta: &Meta, ino: Ino, attr: &Attr) -> anyhow::Result<()> {
    let paths = meta.paths(ino, attr).await?;
    match &paths[..] {
        [path] => println!("   path: {}", show_name(path)),
        paths => {
            println!("  paths:");
            paths.iter().for_each(|path| println!("\t{}", show_name(path)));
        }
    }
    Ok(())
}
