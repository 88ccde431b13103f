//! What a node's restart costs: reopening a directory of many small blocks against reading the same pages, and the memory of its index.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_store::{Store, StoreConfig};
use shoal_testkit::TestDir;

use crate::buffer::Aligned;
use crate::cluster::{block_key, disk_store};
use crate::drive;
use crate::limits::PAGE;
use crate::options::{RaceArgs, Rows};
use crate::race::Case;
use crate::report::{Goals, Row};
use crate::sample::{Effort, Meter, Sample};

/// Bytes of a block here.
const BLOCK_BYTES: usize = 512;
/// Bytes its record takes at most: head, key, data, rounded up.
const RECORD_BYTES: u64 = 768;
/// Bytes of a record in the list at the end of its segment.
const LISTED_BYTES: u64 = 32;
/// Bytes of a block's id in the list of its segment in RAM, which the store's count of its index leaves out.
const ID_BYTES: u64 = 16;
/// Most bytes of RAM for each block.
const INDEX_BYTES_MAX: u64 = 64;
/// Longest restart for each block.
const RESTART_MAX: Duration = Duration::from_micros(1);

/// Fills a directory with `blocks` blocks and reopens it.
pub fn rows(args: &RaceArgs, blocks: u64) -> anyhow::Result<Vec<Row>> {
    let dir = TestDir::inside(&args.dir, "restart");
    let config = disk_store(dir.path().to_owned(), blocks * RECORD_BYTES + (1 << 30));
    fill(&config, blocks)?;
    let footers = Footers::of(dir.path(), blocks)?;
    let index_bytes = RefCell::new(0);
    let reopen = |_: &Effort| {
        let (sample, index) = reopen(&config, blocks, footers.bytes())?;
        *index_bytes.borrow_mut() = index + ID_BYTES * blocks;
        Ok(sample)
    };
    let allowed = |_: &Effort| Ok(counted(footers.bytes(), blocks, RESTART_MAX * blocks as u32));
    let taken = |_: &Effort| Ok(counted(*index_bytes.borrow(), blocks, Duration::from_secs(1)));
    let granted = |_: &Effort| Ok(counted(INDEX_BYTES_MAX * blocks, blocks, Duration::from_secs(1)));
    let cases = vec![
        Case::limit("store restart: raw reads of its pages", |_: &Effort| footers.read()).ours(Goals::NONE, reopen),
        Case::limit("store restart: a million blocks a second", allowed).ours(Goals::rate(1.0), reopen),
        Case::limit("store restart: 64 / bytes of RAM a block", taken).ours(Goals::rate(1.0), granted),
    ];
    args.race(cases, Rows::All)
}

fn fill(config: &StoreConfig, blocks: u64) -> anyhow::Result<()> {
    let data = Bytes::from(shoal_testkit::seeded_bytes(14, BLOCK_BYTES));
    drive::runtime()?.block_on(async {
        let store = Store::open(config.clone(), &Registry::new()).await?;
        drive::repeat(&Effort::ops(blocks), drive::DEPTH_MAX, async |number| {
            store.insert(&block_key("small", number), data.clone()).await?;
            Ok(BLOCK_BYTES)
        })
        .await?;
        store.close().await;
        Ok(())
    })
}

/// One restart, from nothing to readable; and the memory of the index.
fn reopen(config: &StoreConfig, blocks: u64, bytes: u64) -> anyhow::Result<(Sample, u64)> {
    drive::runtime()?.block_on(async {
        let mut meter = Meter::start(&Effort::ops(1));
        let began = clock::now();
        let store = Store::open(config.clone(), &Registry::new()).await?;
        meter.done(began, bytes);
        let sample = Sample { ops: blocks, ..meter.finish() };
        let stats = store.stats();
        store.close().await;
        ensure!(stats.blocks == blocks, "{} of {blocks} blocks came back", stats.blocks);
        Ok((sample, stats.index_bytes))
    })
}

/// A sample that was not timed: what is allowed.
fn counted(bytes: u64, ops: u64, wall: Duration) -> Sample {
    Sample { bytes, ops, wall, cpu_s: 0.0, latencies: vec![wall] }
}

/// The pages of a slab that a restart reads: the first of each segment, and the list at its end.
struct Footers {
    file: std::fs::File,
    segment_bytes: u64,
    segments: u64,
    footer_bytes: u64,
}

impl Footers {
    fn of(dir: &Path, blocks: u64) -> anyhow::Result<Footers> {
        let text = std::fs::read_to_string(dir.join("shoal-cache.json")).context("no descriptor")?;
        let json: serde_json::Value = serde_json::from_str(&text)?;
        let segment_bytes = json["segment_bytes"].as_u64().context("a descriptor without segment size")?;
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_DIRECT).open(dir.join("shoal-cache.slab"))?;
        let segments = file.metadata()?.len() / segment_bytes;
        let used = (blocks * RECORD_BYTES).div_ceil(segment_bytes).clamp(1, segments);
        let footer_bytes = (blocks / used * LISTED_BYTES).next_multiple_of(PAGE as u64).min(segment_bytes / 2);
        Ok(Footers { file, segment_bytes, segments, footer_bytes })
    }

    fn bytes(&self) -> u64 {
        self.segments * (PAGE as u64 + self.footer_bytes)
    }

    fn read(&self) -> anyhow::Result<Sample> {
        let mut target = Aligned::zeroed(self.footer_bytes as usize);
        let mut meter = Meter::start(&Effort::ops(1));
        let began = clock::now();
        for segment in 0..self.segments {
            let start = segment * self.segment_bytes;
            self.file.read_exact_at(&mut target[..PAGE], start)?;
            self.file.read_exact_at(&mut target, start + self.segment_bytes - self.footer_bytes)?;
        }
        meter.done(began, self.bytes());
        Ok(meter.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_directory_comes_back_and_its_index_is_within_bounds() {
        let dir = TestDir::new("restart");
        let args = RaceArgs {
            dir: dir.path().to_owned(),
            size: shoal_types::ByteSize(32 << 20),
            rounds: 1,
            time_ms: 1,
            place: None,
            only: None,
            json: None,
        };
        let rows = rows(&args, 500).unwrap();
        assert_eq!(rows.len(), 3);
    }
}
