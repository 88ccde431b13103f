//! `shoal-bench store`: the local tiers against raw io_uring on the same disk, and against a map of buffers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_store::{Admission, Store, StoreConfig};
use shoal_testkit::{Rng, TestDir};
use shoal_types::{BlockId, BlockKey, BlockRange};
use tokio::runtime::Runtime;

use crate::cluster::{block_key, disk_bytes, disk_store, fill};
use crate::drive;
use crate::limits::uring::UringFile;
use crate::limits::{BLOCK, CHUNK, PAGE};
use crate::options::{RaceArgs, Rows};
use crate::placement::{Place, Placement};
use crate::race::Case;
use crate::report::{Goals, Report, Row};
use crate::restart;
use crate::sample::{Effort, Meter, Sample};

/// Bytes a device may move for each byte of warm random reads of 4 KiB.
const AMPLIFICATION_MAX: f64 = 1.3;
/// Reads served from RAM between two looks at the clock: one costs a tenth of a microsecond, as much as the clock.
const RAM_BATCH: usize = 64;
/// Blocks in RAM for the rows of the RAM tier.
const RAM_BLOCKS: u64 = 16;

/// Measure a node's local tiers against raw io_uring on the same disk.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    race: RaceArgs,
    /// Measure the restart of a directory of so many small blocks instead; filling it takes some 10 s a million.
    #[arg(long, value_name = "BLOCKS")]
    restart: Option<u64>,
}

/// Measures, prints the table and writes the JSON.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let rows = match args.restart {
        Some(blocks) => restart::rows(&args.race, blocks)?,
        None => rows(&args.race, Rows::All)?,
    };
    Report::new("store", rows).publish(args.race.json())
}

/// Measures.
pub fn rows(args: &RaceArgs, rows: Rows) -> anyhow::Result<Vec<Row>> {
    let placement = Placement::new(args.place.unwrap_or(Place::Free))?;
    let dir = TestDir::inside(&args.dir, "bench");
    let raw = RefCell::new(UringFile::prepare(dir.path(), args.bytes()).context("raw disk")?);
    let blocks = args.bytes() / BLOCK as u64;
    let open = |name: &str, config: fn(&Path, u64) -> StoreConfig, blocks: u64| {
        let config = config(&dir.mkdir(name), blocks * BLOCK as u64);
        placement.serving(|| OpenStore::open(config, blocks))
    };
    let read = open("read", |dir, bytes| disk_store(dir.to_owned(), disk_bytes(bytes)), blocks)?;
    let write = open(
        "write",
        |dir, bytes| StoreConfig {
            // Else a full directory turns new blocks away, and the row would time refusals.
            admission: Admission::All,
            ..disk_store(dir.to_owned(), bytes.max(1 << 30))
        },
        0,
    )?;
    // As the limit's file, every byte was written before: file systems take longer for the first time.
    write.insert(&Effort::ops(args.bytes().max(1 << 30) / BLOCK as u64 + 32), 8)?;
    let ram = open("ram", |_, bytes| StoreConfig { memory: 4 * bytes, ..StoreConfig::default() }, RAM_BLOCKS)?;
    let null = NullStore::of(&ram.keys);
    let moved = RefCell::new(None);

    let mut cases = Vec::new();
    for (size, bytes) in [("4 MiB", BLOCK), ("128 KiB", CHUNK), ("4 KiB", PAGE)] {
        for depth in [1, 32] {
            let name = format!("store read {size} depth {depth}");
            cases.push(
                Case::limit(name, raw_read(&raw, bytes, depth)).ours(Goals::rate(0.9), ours_read(&read, bytes, depth)),
            );
            let raw = &raw;
            let hashed = move |effort: &Effort| raw.borrow_mut().read_hashed(effort, bytes, depth);
            let name = format!("raw read {size} depth {depth}: hashed / not looked at");
            cases.push(Case::limit(name, raw_read(raw, bytes, depth)).ours(Goals::NONE, hashed));
        }
    }
    let device_bytes = |effort: &Effort| {
        let before = device_read_bytes()?;
        let asked = read.read(effort, PAGE, 32)?;
        let device = Sample { bytes: device_read_bytes()? - before, ..asked.clone() };
        *moved.borrow_mut() = Some(asked);
        Ok(device)
    };
    let asked_bytes = |_: &Effort| moved.take().context("the limit of a case is measured first");
    let name = "store read 4 KiB: bytes asked / bytes of the device";
    cases.push(Case::limit(name, device_bytes).ours(Goals::rate(1.0 / AMPLIFICATION_MAX), asked_bytes));
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

pub(crate) fn raw_read<'a>(
    raw: &'a RefCell<UringFile>,
    bytes: usize,
    depth: usize,
) -> impl FnMut(&Effort) -> anyhow::Result<Sample> + 'a {
    move |effort| raw.borrow_mut().read(effort, bytes, depth)
}

fn ours_read(store: &OpenStore, bytes: usize, depth: usize) -> impl FnMut(&Effort) -> anyhow::Result<Sample> + '_ {
    move |effort| store.read(effort, bytes, depth)
}

/// Bytes that devices have read for this process so far (proc(5), `/proc/pid/io`).
fn device_read_bytes() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/io").context("no I/O counts of this process")?;
    let bytes =
        text.lines().find_map(|line| line.strip_prefix("read_bytes: ")).context("no read_bytes in /proc/self/io")?;
    Ok(bytes.parse()?)
}

/// A store, and blocks in it.
pub(crate) struct OpenStore {
    store: Store,
    keys: Vec<BlockKey>,
    data: Bytes,
    rng: RefCell<Rng>,
    inserted: RefCell<u64>,
    runtime: Runtime,
}

impl OpenStore {
    pub(crate) fn open(config: StoreConfig, blocks: u64) -> anyhow::Result<OpenStore> {
        let runtime = drive::runtime()?;
        let (store, keys) = runtime.block_on(async {
            let store = Store::open(config, &Registry::new()).await?;
            let keys = fill(&store, blocks).await?;
            anyhow::Ok((store, keys))
        })?;
        // As a fill does it: what came in pieces is gathered by the store.
        let came = shoal_testkit::seeded_bytes(10, BLOCK);
        let data = store.gather(&came.chunks(CHUNK).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        Ok(OpenStore { store, keys, data, rng: RefCell::new(Rng::new(11)), inserted: RefCell::new(0), runtime })
    }

    /// Reads of `size` bytes at random multiples of it in random blocks.
    pub(crate) fn read(&self, effort: &Effort, size: usize, depth: usize) -> anyhow::Result<Sample> {
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
            let key = block_key("new", number);
            self.store.insert(&key, self.data.clone()).await?;
            ensure!(self.store.contains(&key).is_some(), "a block that was inserted is not in the store");
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
