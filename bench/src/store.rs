//! `shoal-bench store`: the local tiers against raw io_uring on the same disk, and against a map of buffers.
//!
//! A read of 4 KiB moves a page of 16 KiB, whose checksum is checked: what that alone costs is the row against raw reads of 16 KiB.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_store::{Store, StoreConfig};
use shoal_testkit::{Rng, TestDir};
use shoal_types::{BlockId, BlockKey, BlockRange};
use tokio::runtime::Runtime;

use crate::cluster::{block_key, disk_bytes, disk_store, fill};
use crate::drive;
use crate::limits::uring::UringFile;
use crate::limits::{BLOCK, CHUNK, PAGE};
use crate::options::{RaceArgs, Rows};
use crate::placement::Placement;
use crate::race::Case;
use crate::report::{Goals, Report, Row};
use crate::sample::{Effort, Meter, Sample};

/// Bytes that one checksum of the store covers, by default.
const CHECKED: usize = 16 << 10;
/// Reads served from RAM between two looks at the clock: one costs a tenth of a microsecond, as much as the clock.
const RAM_BATCH: usize = 64;
/// Blocks in RAM for the rows of the RAM tier.
const RAM_BLOCKS: u64 = 16;

/// Measure a node's local tiers against raw io_uring on the same disk.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    race: RaceArgs,
}

/// Measures, prints the table and writes the JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    Report::new("store", rows(&args.race, Rows::All)?).publish(args.race.json())
}

/// Measures.
pub fn rows(args: &RaceArgs, rows: Rows) -> anyhow::Result<Vec<Row>> {
    let placement = Placement::new(args.place)?;
    let dir = TestDir::inside(&args.dir, "bench");
    let raw = RefCell::new(UringFile::prepare(dir.path(), args.bytes()).context("raw disk")?);
    let blocks = args.bytes() / BLOCK as u64;
    let open = |name: &str, config: fn(&Path, u64) -> StoreConfig, blocks: u64| {
        let config = config(&dir.mkdir(name), blocks * BLOCK as u64);
        placement.serving(|| OpenStore::open(config, blocks))
    };
    let read = open("read", |dir, bytes| disk_store(dir.to_owned(), disk_bytes(bytes)), blocks)?;
    let write = open("write", |dir, bytes| disk_store(dir.to_owned(), bytes.max(1 << 30)), 0)?;
    let ram = open("ram", |_, bytes| StoreConfig { memory: 4 * bytes, ..StoreConfig::default() }, RAM_BLOCKS)?;
    let null = NullStore::of(&ram.keys);

    let mut cases = Vec::new();
    for (size, bytes) in [("4 MiB", BLOCK), ("128 KiB", CHUNK), ("4 KiB", PAGE)] {
        for depth in [1, 32] {
            let name = format!("store read {size} depth {depth}");
            cases.push(
                Case::limit(name, raw_read(&raw, bytes, depth)).ours(Goals::rate(0.9), ours_read(&read, bytes, depth)),
            );
        }
    }
    for depth in [1, 32] {
        let name = format!("store read 4 KiB depth {depth} against 16 KiB raw");
        cases.push(
            Case::limit(name, in_ops_of(raw_read(&raw, CHECKED, depth)))
                .ours(Goals::NONE, ours_read(&read, PAGE, depth)),
        );
    }
    for depth in [1, 8] {
        let (raw, write) = (&raw, &write);
        let limit = move |effort: &Effort| raw.borrow_mut().write(effort, BLOCK, depth);
        let ours = move |effort: &Effort| write.insert(effort, depth);
        cases.push(Case::limit(format!("store write 4 MiB depth {depth}"), limit).ours(Goals::rate(0.85), ours));
    }
    let from_map = |effort: &Effort| Ok(from_ram(effort, &ram.keys, |key, range| null.read(key, range)));
    let from_store = |effort: &Effort| {
        Ok(from_ram(effort, &ram.keys, |key, range| ram.store.read_ram(key, range).map(|found| found.bytes)))
    };
    cases.push(Case::limit("store RAM hit 4 KiB against a locked map", from_map).ours(Goals::NONE, from_store));
    args.race(cases, rows)
}

fn raw_read<'a>(
    raw: &'a RefCell<UringFile>,
    bytes: usize,
    depth: usize,
) -> impl FnMut(&Effort) -> anyhow::Result<Sample> + 'a {
    move |effort| raw.borrow_mut().read(effort, bytes, depth)
}

fn ours_read(store: &OpenStore, bytes: usize, depth: usize) -> impl FnMut(&Effort) -> anyhow::Result<Sample> + '_ {
    move |effort| store.read(effort, bytes, depth)
}

/// Counts only a page of each operation, so that rates compare as operations.
fn in_ops_of(
    mut probe: impl FnMut(&Effort) -> anyhow::Result<Sample>,
) -> impl FnMut(&Effort) -> anyhow::Result<Sample> {
    move |effort| probe(effort).map(|sample| Sample { bytes: sample.ops * PAGE as u64, ..sample })
}

/// A store, and blocks in it.
struct OpenStore {
    store: Store,
    keys: Vec<BlockKey>,
    data: Bytes,
    rng: RefCell<Rng>,
    inserted: RefCell<u64>,
    runtime: Runtime,
}

impl OpenStore {
    fn open(config: StoreConfig, blocks: u64) -> anyhow::Result<OpenStore> {
        let runtime = drive::runtime()?;
        let (store, keys) = runtime.block_on(async {
            let store = Store::open(config, &Registry::new()).await?;
            let keys = fill(&store, blocks).await?;
            anyhow::Ok((store, keys))
        })?;
        let data = Bytes::from(shoal_testkit::seeded_bytes(10, BLOCK));
        Ok(OpenStore { store, keys, data, rng: RefCell::new(Rng::new(11)), inserted: RefCell::new(0), runtime })
    }

    /// Reads of `size` bytes at random multiples of it in random blocks.
    fn read(&self, effort: &Effort, size: usize, depth: usize) -> anyhow::Result<Sample> {
        self.runtime.block_on(drive::repeat(effort, depth, async |_| {
            let (key, range) = pick(&mut self.rng.borrow_mut(), &self.keys, size);
            let found = self.store.read(key, range).await?.context("the store lost a block")?;
            ensure!(found.bytes.len() == size, "{} bytes instead of {size}", found.bytes.len());
            Ok(size)
        }))
    }

    /// Inserts of new blocks.
    fn insert(&self, effort: &Effort, depth: usize) -> anyhow::Result<Sample> {
        self.runtime.block_on(drive::repeat(effort, depth, async |_| {
            let number = self.inserted.replace_with(|number| *number + 1);
            self.store.insert(&block_key("new", number), self.data.clone()).await?;
            Ok(BLOCK)
        }))
    }
}

impl Drop for OpenStore {
    fn drop(&mut self) {
        self.runtime.block_on(self.store.close());
    }
}

/// The RAM tier's null variant: what is left when nothing is evicted, counted or sharded.
struct NullStore {
    blocks: Mutex<HashMap<BlockId, Bytes>>,
}

impl NullStore {
    fn of(keys: &[BlockKey]) -> NullStore {
        let data = Bytes::from(shoal_testkit::seeded_bytes(12, BLOCK));
        NullStore { blocks: Mutex::new(keys.iter().map(|key| (key.id(), data.clone())).collect()) }
    }

    fn read(&self, key: &BlockKey, range: BlockRange) -> Option<Bytes> {
        let block = self.blocks.lock().get(&key.id())?.clone();
        Some(block.slice(range.start as usize..range.end as usize))
    }
}

/// Reads of a page in batches; nothing is copied, so the bytes only say how many there were.
fn from_ram(effort: &Effort, keys: &[BlockKey], read: impl Fn(&BlockKey, BlockRange) -> Option<Bytes>) -> Sample {
    let mut rng = Rng::new(13);
    let picks: Vec<_> = (0..RAM_BATCH).map(|_| pick(&mut rng, keys, PAGE)).collect();
    let mut meter = Meter::start(effort);
    while meter.goes_on(0) {
        let began = clock::now();
        let hits: usize = picks.iter().filter_map(|(key, range)| read(key, *range)).map(|bytes| bytes.len()).sum();
        meter.done(began, hits as u64);
    }
    meter.finish()
}

/// A random block and a random multiple of `size` in it.
pub fn pick<'a>(rng: &mut Rng, keys: &'a [BlockKey], size: usize) -> (&'a BlockKey, BlockRange) {
    let key = &keys[rng.below(keys.len() as u64) as usize];
    let start = rng.below((BLOCK / size) as u64) as usize * size;
    (key, BlockRange::new(start as u32, size as u32))
}
