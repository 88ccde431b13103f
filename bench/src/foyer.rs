//! foyer's disk engine beside the store and raw io_uring: why the NVMe tier is our own (DESIGN.md, D4).
//!
//! foyer is asked as its documentation has it: a hybrid cache with a small memory part, written on insertion, blocks of 64 MiB, the plain
//! I/O engine (its io_uring engine spins when idle, and frees buffers of dropped reads while the kernel writes to them).

use std::cell::RefCell;
use std::path::Path;

use ::foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    PsyncIoEngineConfig,
};
use anyhow::{Context, ensure};
use bytes::Bytes;
use shoal_testkit::{Rng, TestDir};
use tokio::runtime::Runtime;

use crate::cluster::{disk_bytes, disk_store};
use crate::drive;
use crate::limits::uring::UringFile;
use crate::limits::{BLOCK, PAGE};
use crate::options::{RaceArgs, Rows};
use crate::placement::{Place, Placement};
use crate::race::Case;
use crate::report::{Goals, Report, Row};
use crate::sample::{Effort, Sample};
use crate::store::{OpenStore, raw_read};

/// Blocks in foyer's memory part: few, so that reads go to its disk part.
const MEMORY_BLOCKS: usize = 4;
/// Bytes that foyer may have queued for its disk part: with its default of 16 MiB it drops most of a burst.
const QUEUE_BYTES: usize = 256 << 20;

/// Measure foyer's disk engine and the store against raw io_uring.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    race: RaceArgs,
}

/// Measures, prints the table and writes the JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    Report::new("foyer", rows(&args.race)?).publish(args.race.json())
}

/// Reads of whole blocks and of a page.
fn rows(args: &RaceArgs) -> anyhow::Result<Vec<Row>> {
    let placement = Placement::new(args.place.unwrap_or(Place::Free))?;
    let dir = TestDir::inside(&args.dir, "foyer");
    let raw = RefCell::new(UringFile::prepare(dir.path(), args.bytes()).context("raw disk")?);
    let blocks = args.bytes() / BLOCK as u64;
    let ours =
        placement.serving(|| OpenStore::open(disk_store(dir.mkdir("ours"), disk_bytes(args.bytes())), blocks))?;
    let theirs = placement.serving(|| Foyer::open(&dir.mkdir("theirs"), blocks))?;
    println!("foyer kept {} of {blocks} blocks that were inserted one after the other", theirs.kept.len());
    let mut cases = Vec::new();
    for (size, bytes, depth) in [("4 MiB", BLOCK, 1), ("4 MiB", BLOCK, 8), ("4 KiB", PAGE, 1), ("4 KiB", PAGE, 8)] {
        let (ours, theirs) = (&ours, &theirs);
        let of_ours = move |effort: &Effort| ours.read(effort, bytes, depth);
        let of_theirs = move |effort: &Effort| theirs.read(effort, bytes, depth);
        let limit = || raw_read(&raw, bytes, depth);
        cases.push(Case::limit(format!("store read {size} depth {depth}"), limit()).ours(Goals::NONE, of_ours));
        cases.push(Case::limit(format!("foyer read {size} depth {depth}"), limit()).ours(Goals::NONE, of_theirs));
    }
    args.race(cases, Rows::All)
}

/// A hybrid cache, and the blocks its disk part has kept.
struct Foyer {
    cache: HybridCache<u64, Bytes>,
    kept: Vec<u64>,
    rng: RefCell<Rng>,
    runtime: Runtime,
}

impl Foyer {
    fn open(dir: &Path, blocks: u64) -> anyhow::Result<Foyer> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (cache, kept) = runtime.block_on(async {
            let device = FsDeviceBuilder::new(dir)
                .with_capacity(disk_bytes(blocks * BLOCK as u64) as usize)
                .with_direct(true)
                .build()?;
            let engine = BlockEngineConfig::new(device)
                .with_block_size(64 << 20)
                .with_flushers(2)
                .with_buffer_pool_size(QUEUE_BYTES)
                .with_submit_queue_size_threshold(QUEUE_BYTES);
            let cache: HybridCache<u64, Bytes> = HybridCacheBuilder::new()
                .with_policy(HybridCachePolicy::WriteOnInsertion)
                .memory(MEMORY_BLOCKS * BLOCK)
                .with_shards(1)
                .with_weighter(|_: &u64, value: &Bytes| value.len())
                .storage()
                .with_io_engine_config(PsyncIoEngineConfig::new())
                .with_engine_config(engine)
                .build()
                .await?;
            let data = Bytes::from(shoal_testkit::seeded_bytes(8, BLOCK));
            for number in 0..blocks {
                cache.insert(number, data.clone());
                // Its queue takes what it has room for and drops the rest: wait for each.
                cache.storage().wait().await;
            }
            let mut kept = Vec::new();
            for number in 0..blocks {
                if cache.get(&number).await?.is_some() {
                    kept.push(number);
                }
            }
            anyhow::Ok((cache, kept))
        })?;
        ensure!(kept.len() > 2 * MEMORY_BLOCKS, "foyer kept {} of {blocks} blocks", kept.len());
        Ok(Foyer { cache, kept, rng: RefCell::new(Rng::new(15)), runtime })
    }

    /// Reads of `size` bytes of random blocks; it knows whole values only.
    fn read(&self, effort: &Effort, size: usize, depth: usize) -> anyhow::Result<Sample> {
        self.runtime.block_on(drive::repeat(effort, depth, async |_| {
            let key = self.kept[self.rng.borrow_mut().below(self.kept.len() as u64) as usize];
            let entry = self.cache.get(&key).await?.context("foyer lost a block")?;
            ensure!(entry.value().len() == BLOCK, "{} bytes instead of a block", entry.value().len());
            Ok(size)
        }))
    }
}

impl Drop for Foyer {
    fn drop(&mut self) {
        // What is left of it goes with its directory.
        let _ = self.runtime.block_on(self.cache.close());
    }
}
