//! Random operations on a simulated disk with random faults and crashes, against a model.
//!
//! Whatever happens: no wrong bytes, nobody waits for ever, the limit holds. And without faults what was acknowledged is served until enough
//! segments were written to have it evicted, over any number of restarts and crashes of the process.
//!
//! `SHOAL_TEST_SEED` runs another seed (`random`: a new one), `SHOAL_TORTURE_STEPS` runs longer. The same seed gives the same
//! operations, faults and crashes; how the store's own threads fall between them may differ. Processes that are really killed are
//! in `crash`.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_store::testing::{self, Crash, Disk, Odds};
use shoal_store::{Admission, DirConfig, GroupRule, IoChoice, Store, StoreConfig, StoreError};
use shoal_testkit::{PATIENCE, test_seed};
use shoal_types::{BlockRange, OriginId};

use super::common::{Rng, bare, block, check, files, key, memory_dir, quick};

/// Each of two directories: 32 and 20 segments.
const SEGMENT: u64 = 128 << 10;
const LIMITS: [u64; 2] = [33 * SEGMENT, 21 * SEGMENT];
/// The segments that must begin before a block may be evicted: all of the smaller directory, but for the open one, the spare one, and some
/// that are lost in crashes.
const KEPT_SEGMENTS: u64 = 14;
const STEPS: u64 = 350;
/// Nothing may take longer.
const BOUND: Duration = PATIENCE;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn len(n: u64) -> usize {
    let small = (n.wrapping_mul(0x9e37_79b9) >> 7) as usize;
    match n % 8 {
        0 => small % 3,
        1..=3 => small % 2000,
        4 => 3800 + small % 500,
        5 => 8000 + small % 400,
        6 => small % 30_000,
        _ => 30_000 + small % 60_000,
    }
}

fn bytes(n: u64) -> Bytes {
    block(n, len(n))
}

/// What the model knows of a stored block.
#[derive(Clone, Copy)]
struct Stored {
    /// Segments begun when it was acknowledged.
    begun: u64,
    /// Whether it must be there, until enough segments were begun.
    certain: bool,
}

struct Torture {
    rng: Rng,
    dirs: [tempfile::TempDir; 2],
    disks: [Disk; 2],
    registry: Registry,
    store: Store,
    stored: HashMap<u64, Stored>,
    next: u64,
    /// True while faults may have cost any block.
    faulty: bool,
    /// True once bytes of some block may have been damaged.
    damaged: bool,
    /// True once a crash may have left the head of a block whose bytes did not all arrive.
    torn: bool,
    /// True while a head in an unfinished segment may be damaged: a restart does not look behind it.
    flips: bool,
    /// Pinned segments stay, so that others leave earlier.
    pins: bool,
    counts: HashMap<&'static str, u64>,
}

fn config(rng: &mut Rng, dirs: &[tempfile::TempDir; 2]) -> StoreConfig {
    let dir = |n: usize| DirConfig { free_ratio: 0.0, ..DirConfig::new(dirs[n].path(), LIMITS[n]) };
    StoreConfig {
        dirs: vec![dir(0), dir(1)],
        segment_bytes: Some(SEGMENT),
        memory: [0, 300 << 10][rng.below(2) as usize],
        table_memory: [0, 64 << 10][rng.below(2) as usize],
        scrub_rate: [0, 64 << 20][rng.below(2) as usize],
        admission: Admission::All,
        // A miss must not be one of patience.
        read_patience: BOUND,
        ..quick(bare(Path::new("/"), 1, IoChoice::Plain))
    }
}

impl Torture {
    async fn new(seed: u64) -> Torture {
        let mut rng = Rng::seeded(seed);
        let dirs = [memory_dir(), memory_dir()];
        let disks = [Disk::new(rng.next()), Disk::new(rng.next())];
        let registry = Registry::new();
        let store = testing::open_simulated(config(&mut rng, &dirs), &registry, &disks).await.unwrap();
        let (stored, counts) = (HashMap::new(), HashMap::new());
        Torture {
            rng,
            dirs,
            disks,
            registry,
            store,
            stored,
            next: 0,
            faulty: false,
            damaged: false,
            torn: false,
            flips: false,
            pins: false,
            counts,
        }
    }

    /// Counts what happened, and says so to who reads the output of a failure.
    fn count(&mut self, what: &'static str) {
        if !matches!(what, "hits" | "misses") {
            eprintln!("{what} at block {}, segment {}", self.next, self.begun());
        }
        *self.counts.entry(what).or_default() += 1;
    }

    fn begun(&self) -> u64 {
        self.registry.counter("shoal_store_segments_total", "").get()
    }

    fn is_certain(&self, stored: Stored) -> bool {
        let kept = if self.pins { KEPT_SEGMENTS / 2 - 2 } else { KEPT_SEGMENTS };
        !self.faulty && stored.certain && self.begun() - stored.begun < kept
    }

    /// Stores some blocks at once; most are new, some are stored again.
    async fn insert(&mut self) {
        let begun = self.begun();
        // Sometimes the machine dies meanwhile; with slow disks, so that several writes are under way.
        let crash = (self.rng.below(8) == 0).then(|| match self.rng.below(4) {
            0 => Crash::Power,
            _ => Crash::Process,
        });
        if crash.is_some() {
            self.disks.iter().for_each(|disk| disk.set_odds(Odds { delay: 2000, ..Odds::default() }));
        }
        let mut inserts = Vec::new();
        for _ in 0..1 + self.rng.below(if crash.is_some() { 24 } else { 8 }) {
            let again = self.rng.below(4) == 0 && self.next > 0;
            let n = if again {
                self.rng.below(self.next)
            } else {
                self.next += 1;
                self.next - 1
            };
            // What is there is not written again, and may be damaged already.
            let anew = self.store.contains(&key(n)).is_none();
            let store = self.store.clone();
            let insert = async move { (n, again, anew, clock::timeout(BOUND, store.insert(&key(n), bytes(n))).await) };
            inserts.push(task::spawn("insert", insert));
            if crash.is_some() {
                clock::sleep(Duration::from_micros(self.rng.below(400))).await;
            }
        }
        if let Some(crash) = crash {
            clock::sleep(Duration::from_micros(self.rng.below(6000))).await;
            for disk in &self.disks {
                disk.crash(crash);
                disk.set_odds(Odds::default());
            }
        }
        for insert in inserts {
            let (n, again, anew, result) = insert.await.unwrap();
            match result.expect("no insert hangs") {
                // After the crash nothing is acknowledged: the disks refuse everything.
                Ok(()) if anew => {
                    // A damaged copy may lie in the other directory, and a restart may come upon that one.
                    let certain = !(again && self.damaged);
                    self.stored.insert(n, Stored { begun, certain });
                }
                Ok(()) => {}
                Err(error) => assert!(self.faulty || crash.is_some(), "insert of {n} failed without a fault: {error}"),
            }
        }
        if let Some(crash) = crash {
            self.restart(Some(crash)).await;
        }
    }

    async fn read(&mut self) {
        for _ in 0..1 + self.rng.below(8) {
            if self.next == 0 {
                return;
            }
            let back = self.rng.below(self.next.min(400));
            let n = self.next - 1 - back;
            let whole = bytes(n);
            let range = match self.rng.below(3) {
                0 => BlockRange::WHOLE,
                _ => BlockRange::new(self.rng.below(len(n) as u64 + 2) as u32, self.rng.below(9000) as u32),
            };
            let found = self.look(n, &whole, range).await;
            self.expect(n, found, "read");
            self.count(if found { "hits" } else { "misses" });
        }
    }

    /// Whether the block is there; its bytes are right then.
    async fn look(&self, n: u64, whole: &Bytes, range: BlockRange) -> bool {
        let read = async || {
            // Wrong bytes panic in there.
            clock::timeout(BOUND, check(&self.store, n, whole, range)).await.expect("no read hangs")
        };
        let outages = self.outages();
        let found = read().await;
        if found || self.faulty || self.outages() == outages {
            return found;
        }
        self.until_in_service().await;
        read().await
    }

    /// Times a directory left service. On a busy machine one may seem to hang that does not; it comes back with its blocks.
    fn outages(&self) -> u64 {
        let text = self.registry.gather_text();
        let outs = text
            .lines()
            .filter(|line| line.starts_with("shoal_store_dir_transitions_total") && line.contains("\"out\""));
        let out = self.store.stats().dirs.iter().filter(|dir| !dir.in_service).count() as u64;
        outs.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>() + out
    }

    async fn until_in_service(&self) {
        let deadline = clock::now() + BOUND;
        while !self.store.stats().dirs.iter().all(|dir| dir.in_service) {
            assert!(clock::now() < deadline, "a disk that works again is back in service");
            clock::sleep(Duration::from_millis(5)).await;
        }
    }

    fn expect(&self, n: u64, found: bool, when: &str) {
        if let Some(&stored) = self.stored.get(&n) {
            let begun = self.begun();
            assert!(
                found || !self.is_certain(stored),
                "{when}: block {n} of {} was acknowledged at segment {}, now {begun}",
                len(n),
                stored.begun
            );
        } else {
            assert!(!found || n < self.next, "{when}: block {n} was never stored");
        }
    }

    /// Reads everything.
    async fn check_all(&mut self, when: &str) {
        for n in self.next.saturating_sub(500)..self.next {
            let found = self.look(n, &bytes(n), BlockRange::WHOLE).await;
            self.expect(n, found, when);
        }
    }

    async fn scan(&mut self) {
        let outages = self.outages();
        let mut listed = self.listing().await;
        if !self.faulty && self.outages() != outages {
            self.until_in_service().await;
            listed = self.listing().await;
        }
        // A listing may leave out what is damaged, never what is certain.
        for (&n, &stored) in &self.stored {
            assert!(listed.contains(&n) || !self.is_certain(stored), "block {n} is not listed");
        }
        self.count("scans");
    }

    async fn listing(&self) -> HashSet<u64> {
        let (mut cursor, mut listed) = (None, HashSet::new());
        loop {
            let (some, next) =
                clock::timeout(BOUND, self.store.scan(cursor, 100)).await.expect("no scan hangs").unwrap();
            for stored in some {
                let n: u64 = stored.key.object().split(['/', '_']).nth(4).unwrap().parse().unwrap();
                assert!(n < self.next && stored.len as usize == len(n) && stored.key == key(n), "{}", stored.key);
                listed.insert(n);
            }
            cursor = next;
            if cursor.is_none() {
                return listed;
            }
        }
    }

    async fn set_rules(&mut self) {
        let prefix = format!("vol/chunks/0/0/{}", self.rng.below(10));
        let rule = GroupRule { origin: OriginId([7; 16]), prefix, pin: true, ttl: None };
        let rules = if self.rng.below(2) == 0 { vec![rule] } else { Vec::new() };
        // Segments that stayed leave only little by little.
        self.pins |= !rules.is_empty();
        self.store.set_rules(rules).await.unwrap();
        self.count("rules");
    }

    /// Closes and opens the store, or opens it after a crash.
    async fn restart(&mut self, crash: Option<Crash>) {
        let before = self.store.stats();
        let calm = crash.is_none() && !self.faulty;
        clock::timeout(BOUND, self.store.close()).await.expect("close ends");
        self.count(match crash {
            None => "restarts",
            Some(Crash::Process) => "crashes",
            Some(Crash::Power) => "power losses",
        });
        let config = config(&mut self.rng, &self.dirs);
        let deadline = clock::now() + BOUND;
        self.store = loop {
            let open = testing::open_simulated(config.clone(), &self.registry, &self.disks);
            match clock::timeout(BOUND, open).await.expect("opening ends") {
                Ok(store) => break store,
                // The last writes of a dead disk are on their way.
                Err(StoreError::InUse { .. }) if crash.is_some() && clock::now() < deadline => {
                    clock::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("the store does not open: {error}"),
            }
        };
        if calm {
            let after = self.store.stats();
            // Where damage to its bytes had a block dropped, its head is found again; a damaged head hides blocks.
            let same = (after.blocks, after.nvme_used) == (before.blocks, before.nvme_used);
            let more = after.blocks >= before.blocks && after.nvme_used >= before.nvme_used;
            assert!(self.damaged || same || self.torn && more, "a restart loses nothing: {before:?} {after:?}");
        }
        self.torn |= crash.is_some();
        if crash == Some(Crash::Power) || self.faulty || std::mem::take(&mut self.flips) {
            self.damaged = true;
            self.stored.values_mut().for_each(|stored| stored.certain = false);
        }
        self.faulty = false;
        self.check_all("after a restart").await;
    }

    /// A time of troubles, and what is left after it.
    async fn troubles(&mut self) {
        (self.faulty, self.damaged) = (true, true);
        let mut roll = |most| if self.rng.below(2) == 0 { 0 } else { 1 + self.rng.below(most) as u32 };
        let odds = Odds {
            read_errors: roll(200),
            short_reads: roll(100),
            read_flips: roll(300),
            write_errors: roll(300),
            no_space: roll(200),
            write_flips: roll(300),
            delay: 0,
        };
        self.flips |= odds.write_flips > 0;
        let some = match self.rng.below(3) {
            0 => vec![0],
            1 => vec![1],
            _ => vec![0, 1],
        };
        let hangs = self.rng.below(5) == 0;
        for &n in &some {
            self.disks[n].set_odds(odds);
            if hangs {
                self.disks[n].hang();
            }
        }
        for _ in 0..1 + self.rng.below(6) {
            match self.rng.below(3) {
                0 => Box::pin(self.insert_in_troubles()).await,
                1 => self.read().await,
                _ => self.scan().await,
            }
            self.check_limit();
        }
        for disk in &self.disks {
            disk.set_odds(Odds::default());
            disk.release();
        }
        self.until_in_service().await;
        self.count(if hangs { "hangs" } else { "faults" });
        // Who is certain from now on was stored after the troubles.
        self.stored.values_mut().for_each(|stored| stored.certain = false);
        self.faulty = false;
    }

    async fn insert_in_troubles(&mut self) {
        for _ in 0..1 + self.rng.below(6) {
            let n = self.next;
            self.next += 1;
            // The outcome is not certain either way.
            let _ = clock::timeout(BOUND, self.store.insert(&key(n), bytes(n))).await.expect("no insert hangs");
        }
    }

    fn check_limit(&self) {
        let stats = self.store.stats();
        assert!(stats.ram_used <= stats.ram_limit, "{stats:?}");
        for (dir, limit) in stats.dirs.iter().zip(LIMITS) {
            let (length, allocated) = files(&dir.path);
            assert!(length <= limit && allocated <= limit && dir.used <= limit, "{length} {allocated} {dir:?}");
        }
    }

    async fn step(&mut self) {
        match self.rng.below(100) {
            0..=54 => self.insert().await,
            55..=84 => self.read().await,
            85..=87 => self.scan().await,
            88..=89 => self.set_rules().await,
            90..=93 => self.restart(None).await,
            94..=95 => {
                let crash = if self.rng.below(4) == 0 { Crash::Power } else { Crash::Process };
                self.disks.iter().for_each(|disk| disk.crash(crash));
                self.restart(Some(crash)).await;
            }
            _ => self.troubles().await,
        }
        self.check_limit();
    }
}

#[tokio::test]
async fn nothing_that_can_happen_makes_the_store_lie_hang_or_forget() {
    let steps = env("SHOAL_TORTURE_STEPS").unwrap_or(STEPS);
    let mut torture = Torture::new(test_seed("torture")).await;
    for _ in 0..steps {
        torture.step().await;
    }
    torture.check_all("in the end").await;
    let evictions = torture.store.stats().evictions;
    let mut counts: Vec<_> = torture.counts.iter().collect();
    counts.sort();
    eprintln!(
        "{} blocks, {} segments, {evictions} evictions since the last start, {counts:?}",
        torture.next,
        torture.begun()
    );
    torture.store.close().await;
}
