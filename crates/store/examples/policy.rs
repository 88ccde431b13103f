//! How many reads hit, and how much is written, under the store's admission and eviction and under others', on traces with and without scans.
//!
//! `cargo run --release -p shoal-store --example policy [SEED]`
//!
//! The store is the real one, without its RAM tier; the others are models of as many blocks as the store came to hold. All blocks are of one size.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_store::{Admission, DirConfig, Store, StoreConfig};
use shoal_types::{BlockKey, BlockRange, OriginId};

/// With its head a block takes a sector.
const BLOCK: usize = 3900;
const SEGMENT: u64 = 128 << 10;
/// 64 segments, of which one is open and one spare.
const LIMIT: u64 = 64 * SEGMENT + (64 << 10);
/// Blocks that fit.
const CAPACITY: usize = 62 * 30;

/// A phase of a trace, and the blocks that are read in it.
type Trace = Vec<(&'static str, Vec<u64>)>;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn shuffle(&mut self, blocks: &mut [u64]) {
        for at in (1..blocks.len()).rev() {
            blocks.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
    }
}

/// Reads of ten times as many blocks as fit, the n-th most popular one with a frequency of n^-a.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(a: f64) -> Zipf {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=10 * CAPACITY)
            .map(|n| {
                sum += (n as f64).powf(-a);
                sum
            })
            .collect();
        sums.iter_mut().for_each(|at| *at /= sum);
        Zipf(sums)
    }

    fn reads(&self, times: usize, rng: &mut Rng) -> Vec<u64> {
        let mut read = |_| {
            let at = rng.unit();
            self.0.partition_point(|&sum| sum < at) as u64
        };
        (0..times * CAPACITY).map(&mut read).collect()
    }
}

/// A working set, a scan of three times the cache beside it, and the working set again.
fn beside_a_scan(rng: &mut Rng) -> Trace {
    let zipf = Zipf::new(0.9);
    let (before, beside, after) = (zipf.reads(20, rng), zipf.reads(2, rng), zipf.reads(2, rng));
    let mut trace = vec![("before", before)];
    // The scan is read too, and never hits: it is cut in pieces so that only the working set's reads are counted.
    for (n, piece) in beside.chunks(CAPACITY / 20).enumerate() {
        let scan = (0..3 * CAPACITY as u64 / 40).map(|at| (1 << 40) + n as u64 * 1_000_000 + at);
        trace.push(("scan", scan.collect()));
        trace.push(("beside", piece.to_vec()));
    }
    trace.push(("after", after));
    trace
}

/// A data set of `size` times the cache, read again and again.
fn epochs(size: f64, shuffled: bool, rng: &mut Rng) -> Trace {
    let mut blocks: Vec<u64> = (0..(CAPACITY as f64 * size) as u64).collect();
    let names = ["1st", "2nd", "3rd", "4th", "later", "later", "later"];
    let epoch = |name| {
        if shuffled {
            rng.shuffle(&mut blocks);
        }
        (name, blocks.clone())
    };
    names.map(epoch).to_vec()
}

fn traces(rng: &mut Rng) -> Vec<(&'static str, Trace)> {
    let zipf = |a, rng: &mut Rng| {
        let zipf = Zipf::new(a);
        vec![("first", zipf.reads(20, rng)), ("then", zipf.reads(20, rng))]
    };
    let mut new_set = vec![("zipf", Zipf::new(0.9).reads(20, rng))];
    new_set.extend(
        epochs(0.8, false, rng)
            .into_iter()
            .map(|(name, blocks)| (name, blocks.into_iter().map(|n| n | 1 << 41).collect())),
    );
    vec![
        ("Zipf 0.7 over 10x the cache", zipf(0.7, rng)),
        ("Zipf 0.9 over 10x the cache", zipf(0.9, rng)),
        ("Zipf 1.1 over 10x the cache", zipf(1.1, rng)),
        ("Zipf 0.9, beside a scan of 3x the cache", beside_a_scan(rng)),
        ("epochs over 0.8x the cache", epochs(0.8, true, rng)),
        ("epochs over 1.5x the cache, shuffled", epochs(1.5, true, rng)),
        ("epochs over 1.5x the cache, in order", epochs(1.5, false, rng)),
        ("epochs over 4x the cache, shuffled", epochs(4.0, true, rng)),
        ("a new data set of 0.8x the cache in a full cache", new_set),
    ]
}

/// Hits and reads of each phase, and what was written.
#[derive(Default)]
struct Tally {
    phases: BTreeMap<&'static str, (u64, u64)>,
    written: u64,
}

impl Tally {
    fn count(&mut self, phase: &'static str, hit: bool) {
        let (hits, reads) = self.phases.entry(phase).or_default();
        *hits += u64::from(hit);
        *reads += 1;
    }

    fn print(&self, who: &str, trace: &Trace) {
        let mut seen = HashSet::new();
        let shown = trace.iter().filter(|(phase, _)| *phase != "scan" && seen.insert(*phase));
        let hits = shown.map(|(phase, _)| {
            let (hits, reads) = self.phases[phase];
            format!("{phase} {:5.1} %", 100.0 * hits as f64 / reads as f64)
        });
        let reads: u64 = self.phases.values().map(|(_, reads)| reads).sum();
        let hits: Vec<_> = hits.collect();
        println!("  {who:24} {}   {:.2} writes a read", hits.join("  "), self.written as f64 / reads as f64);
    }
}

async fn run_store(admission: Admission, trace: &Trace) -> Tally {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let registry = Registry::new();
    let config = StoreConfig {
        memory: 0,
        dirs: vec![DirConfig { free_ratio: 0.0, ..DirConfig::new(dir.path(), LIMIT) }],
        segment_bytes: Some(SEGMENT),
        scrub_rate: 0,
        admission,
        ..StoreConfig::default()
    };
    let store = Store::open(config, &registry).await.expect("the store opens");
    let bytes = Bytes::from(vec![7; BLOCK]);
    let mut tally = Tally::default();
    for (phase, blocks) in trace {
        for n in blocks {
            let key = BlockKey::whole(OriginId([7; 16]), &format!("{n}"));
            let hit = store.read(&key, BlockRange::WHOLE).await.expect("reads do not fail").is_some();
            if !hit {
                store.insert(&key, bytes.clone()).await.expect("the device works");
            }
            tally.count(phase, hit);
        }
    }
    tally.written = registry.counter("shoal_store_nvme_written_bytes_total", "").get() / 4096;
    store.close().await;
    tally
}

/// A cache of blocks of one size.
trait Model {
    /// Whether the block is there.
    fn read(&mut self, block: u64) -> bool;
    /// Puts a block that is not.
    fn put(&mut self, block: u64);
}

fn run_model(mut model: impl Model, trace: &Trace) -> Tally {
    let mut tally = Tally::default();
    for (phase, blocks) in trace {
        for &block in blocks {
            let hit = model.read(block);
            if !hit {
                model.put(block);
                tally.written += 1;
            }
            tally.count(phase, hit);
        }
    }
    tally
}

#[derive(Default)]
struct Fifo {
    queue: VecDeque<u64>,
    there: HashSet<u64>,
}

impl Model for Fifo {
    fn read(&mut self, block: u64) -> bool {
        self.there.contains(&block)
    }

    fn put(&mut self, block: u64) {
        self.there.insert(block);
        self.queue.push_back(block);
        if self.queue.len() > CAPACITY {
            let oldest = self.queue.pop_front();
            oldest.map(|oldest| self.there.remove(&oldest));
        }
    }
}

#[derive(Default)]
struct Lru {
    used: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    now: u64,
}

impl Model for Lru {
    fn read(&mut self, block: u64) -> bool {
        self.now += 1;
        let Some(used) = self.used.get_mut(&block) else { return false };
        self.order.remove(used);
        *used = self.now;
        self.order.insert(self.now, block);
        true
    }

    fn put(&mut self, block: u64) {
        self.now += 1;
        self.used.insert(block, self.now);
        self.order.insert(self.now, block);
        if self.used.len() > CAPACITY
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
    }
}

/// Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023: a tenth for newcomers, who move on when read twice.
#[derive(Default)]
struct S3Fifo {
    small: VecDeque<u64>,
    main: VecDeque<u64>,
    ghost: VecDeque<u64>,
    ghosts: HashSet<u64>,
    uses: HashMap<u64, u8>,
}

impl S3Fifo {
    fn evict(&mut self) {
        while self.small.len() >= CAPACITY / 10 {
            let Some(block) = self.small.pop_front() else { break };
            if self.uses[&block] > 1 {
                self.uses.insert(block, 0);
                self.main.push_back(block);
                continue;
            }
            self.uses.remove(&block);
            self.ghosts.insert(block);
            self.ghost.push_back(block);
            if self.ghost.len() > CAPACITY * 9 / 10 {
                let oldest = self.ghost.pop_front();
                oldest.map(|oldest| self.ghosts.remove(&oldest));
            }
            return;
        }
        while let Some(block) = self.main.pop_front() {
            match self.uses[&block] {
                0 => {
                    self.uses.remove(&block);
                    return;
                }
                uses => {
                    self.uses.insert(block, uses - 1);
                    self.main.push_back(block);
                }
            }
        }
    }
}

impl Model for S3Fifo {
    fn read(&mut self, block: u64) -> bool {
        self.uses.get_mut(&block).map(|uses| *uses = (*uses + 1).min(3)).is_some()
    }

    fn put(&mut self, block: u64) {
        while self.uses.len() >= CAPACITY {
            self.evict();
        }
        self.uses.insert(block, 0);
        match self.ghosts.remove(&block) {
            true => self.main.push_back(block),
            false => self.small.push_back(block),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(12_345u64);
    println!("seed {seed}, {CAPACITY} blocks");
    for (name, trace) in traces(&mut Rng(seed | 1)) {
        println!("{name}");
        run_model(Fifo::default(), &trace).print("model: FIFO", &trace);
        run_model(Lru::default(), &trace).print("model: LRU", &trace);
        run_model(S3Fifo::default(), &trace).print("model: S3-FIFO", &trace);
        run_store(Admission::All, &trace).await.print("store, all", &trace);
        run_store(Admission::SecondMiss, &trace).await.print("store, second miss", &trace);
    }
}
