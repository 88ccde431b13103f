//! The store against raw io_uring on the same slab file in the same run. Not a test of anything: it prints.
//!
//! `cargo test --release -p shoal-store --test store speed -- --ignored --nocapture`
//!
//! The null variant is one thread with one ring, registered file and registered buffers, on the same file, at the same offsets' distribution:
//! what the device gives to a program that checks nothing and hands nothing over. CPU is the whole process's.

use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use shoal_runtime::clock;
use shoal_store::{IoChoice, Store, StoreConfig};
use shoal_types::BlockRange;

use super::common::{Rng, bare, block, key, open};

const BLOCK: usize = 4 << 20;
const BLOCKS: u64 = 200;
const ROUND: Duration = Duration::from_millis(700);
const ROUNDS: usize = 5;

/// One measurement: operations, seconds, CPU seconds, and the latencies in microseconds.
struct Run {
    ops: u64,
    /// Bytes the device delivered to this process, as the kernel counts them.
    device_bytes: u64,
    seconds: f64,
    cpu: f64,
    micros: Vec<f64>,
}

impl Run {
    fn rate(&self) -> f64 {
        self.ops as f64 / self.seconds
    }
    fn quantile(&mut self, q: f64) -> f64 {
        self.micros.sort_by(f64::total_cmp);
        self.micros[((self.micros.len() - 1) as f64 * q) as usize]
    }
}

fn cpu_seconds() -> f64 {
    // SAFETY: `usage` is a plain struct that getrusage fills.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Bytes this process caused to be read from devices (proc(5), `/proc/pid/io`).
fn device_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

/// Buffers of the raw variant, mapped once: in small pages the kernel splits a large transfer (at 254 segments on virtio).
struct Memory {
    start: *mut u8,
    bytes: usize,
}

impl Memory {
    /// Maps and touches `bytes`, and prints which part of them really is in huge pages: the kernel may have none to give.
    fn map(bytes: usize, advice: i32) -> Memory {
        const HUGE: usize = 2 << 20;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh mapping, a huge page longer than what is used of it; it lives as long as the process.
        let start = unsafe {
            let raw = libc::mmap(std::ptr::null_mut(), bytes + HUGE, access, flags, -1, 0);
            assert_ne!(raw, libc::MAP_FAILED);
            let start = raw.cast::<u8>().add((raw as usize).next_multiple_of(HUGE) - raw as usize);
            libc::madvise(start.cast(), bytes, advice);
            std::ptr::write_bytes(start, 1, bytes);
            start
        };
        println!("raw buffers: {}% of {} MiB in huge pages", huge_bytes(start as usize) * 100 / bytes, bytes >> 20);
        Memory { start, bytes }
    }
}

/// Bytes in huge pages of the mapping that starts at `start` (proc(5), smaps).
fn huge_bytes(start: usize) -> usize {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let from = smaps.find(&format!("{start:x}-")).expect("the mapping is listed");
    let line = smaps[from..].lines().find_map(|line| line.strip_prefix("AnonHugePages:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn measure(body: impl FnOnce(Instant) -> Vec<f64>) -> Run {
    let (cpu, bytes, start) = (cpu_seconds(), device_bytes(), clock::now());
    let micros = body(start + ROUND);
    let seconds = (clock::now() - start).as_secs_f64();
    Run { ops: micros.len() as u64, device_bytes: device_bytes() - bytes, seconds, cpu: cpu_seconds() - cpu, micros }
}

/// Raw io_uring, `depth` transfers of `len` bytes at random places of the blocks that start at `places`.
fn raw(slab: &Path, len: usize, depth: usize, places: &[u64], memory: &Memory, rng: &mut Rng) -> Run {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(slab).unwrap();
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .build(depth.next_power_of_two() as u32)
        .unwrap();
    ring.submitter().register_files(&[file.as_raw_fd()]).unwrap();
    assert!(len * depth <= memory.bytes);
    let memory = memory.start;
    let iovec = libc::iovec { iov_base: memory.cast(), iov_len: len * depth };
    // SAFETY: the memory outlives the ring's transfers: all of them are waited for.
    unsafe { ring.submitter().register_buffers(&[iovec]).unwrap() };
    measure(|until| {
        let mut started = vec![clock::now(); depth];
        let mut micros = Vec::with_capacity(1 << 20);
        let mut flying = 0;
        let mut idle: Vec<usize> = (0..depth).collect();
        loop {
            let now = clock::now();
            while now < until
                && let Some(slot) = idle.pop()
            {
                let offset = places[rng.below(BLOCKS) as usize] + rng.below((BLOCK / len) as u64) * len as u64;
                // SAFETY: slot < depth, so this is inside the memory.
                let at = unsafe { memory.add(slot * len) };
                let entry = opcode::ReadFixed::new(types::Fixed(0), at, len as u32, 0).offset(offset).build();
                // SAFETY: the memory stays until all transfers ended.
                unsafe { ring.submission().push(&entry.user_data(slot as u64)).unwrap() };
                started[slot] = now;
                flying += 1;
            }
            if flying == 0 {
                return micros;
            }
            ring.submit_and_wait(1).unwrap();
            let now = clock::now();
            for entry in ring.completion() {
                assert_eq!(entry.result(), len as i32);
                let slot = entry.user_data() as usize;
                micros.push((now - started[slot]).as_secs_f64() * 1e6);
                idle.push(slot);
                flying -= 1;
            }
        }
    })
}

/// The store, `depth` tasks that read `len` bytes at random places of random blocks.
fn through_store(runtime: &tokio::runtime::Runtime, store: &Store, len: usize, depth: usize, rng: &mut Rng) -> Run {
    let seeds: Vec<u64> = (0..depth).map(|_| rng.next()).collect();
    measure(|until| {
        runtime.block_on(async {
            let tasks: Vec<_> = seeds
                .into_iter()
                .map(|seed| {
                    let store = store.clone();
                    shoal_runtime::task::spawn("reader", async move {
                        let (mut micros, mut state) = (Vec::with_capacity(1 << 16), seed | 1);
                        loop {
                            state =
                                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                            let start = ((state >> 40) as usize % (BLOCK / len) * len) as u32;
                            let begin = clock::now();
                            if begin >= until {
                                return micros;
                            }
                            let key = key((state >> 20) % BLOCKS);
                            let found = store.read(&key, BlockRange::new(start, len as u32)).await.unwrap().unwrap();
                            assert_eq!(found.bytes.len(), len);
                            micros.push((clock::now() - begin).as_secs_f64() * 1e6);
                        }
                    })
                })
                .collect();
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.unwrap());
            }
            all
        })
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(name: &str, len: usize, runs: &mut [Run]) -> (f64, f64) {
    let rate = median(runs.iter().map(Run::rate).collect());
    let best = runs.iter().map(Run::rate).fold(0.0, f64::max);
    let cpu = runs.iter().map(|run| run.cpu / run.ops as f64 * 1e6).fold(f64::MAX, f64::min);
    let p50 = median(runs.iter_mut().map(|run| run.quantile(0.5)).collect());
    let p99 = median(runs.iter_mut().map(|run| run.quantile(0.99)).collect());
    let device = median(runs.iter().map(|run| run.device_bytes as f64 / run.ops as f64).collect());
    let mb = |rate: f64| rate * len as f64 / 1e6;
    println!(
        "  {name:12} {:7.0} MB/s (best {:7.0}) {rate:8.0} op/s  p50 {p50:8.1} us  p99 {p99:8.1} us  {cpu:7.2} CPU-us/op  {device:8.0} device bytes/op",
        mb(rate),
        mb(best)
    );
    (rate, p50)
}

fn runtime(workers: usize) -> tokio::runtime::Runtime {
    match workers {
        0 => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        n => tokio::runtime::Builder::new_multi_thread().worker_threads(n).enable_all().build().unwrap(),
    }
}

fn config(dir: &Path) -> StoreConfig {
    let io = if std::env::var("SHOAL_BENCH_PLAIN").is_ok() { IoChoice::Plain } else { IoChoice::Auto };
    let page_bytes = std::env::var("SHOAL_BENCH_PAGE").map_or(16 << 10, |page| page.parse().unwrap());
    StoreConfig { page_bytes, promote_bytes: 0, promote_hits: 0, ..bare(dir, 1 << 30, io) }
}

/// Offsets in the slab where the blocks' data starts: a reader of other places would meet unwritten ones, which cost no I/O.
fn places_of_blocks(slab: &Path) -> Vec<u64> {
    let bytes = std::fs::read(slab).unwrap();
    let mut by_start = std::collections::HashMap::new();
    for (n, sector) in bytes.chunks_exact(4096).enumerate() {
        by_start.insert(sector[..32].to_vec(), n as u64 * 4096);
    }
    (0..BLOCKS).map(|n| by_start[&block(n, 32)[..]]).collect()
}

/// Whether a case is wanted: `SHOAL_BENCH_CASE=4194304,32,0` picks one of length, depth and workers.
fn wanted(len: usize, depth: usize, workers: usize) -> bool {
    std::env::var("SHOAL_BENCH_CASE").map_or(true, |case| case == format!("{len},{depth},{workers}"))
}

#[test]
#[ignore = "measures, takes half a minute"]
fn reads_against_raw_io_uring() {
    let dir = tempfile::tempdir_in(std::env::var("SHOAL_BENCH_DIR").unwrap_or("/tmp".into())).unwrap();
    let mut rng = Rng::new("speed");
    let small_pages = Memory::map(32 * BLOCK, libc::MADV_NOHUGEPAGE);
    let huge_pages = Memory::map(32 * BLOCK, libc::MADV_HUGEPAGE);
    for workers in [0, 2] {
        let runtime = runtime(workers);
        let store = runtime.block_on(open(config(dir.path())));
        let before = clock::now();
        for n in 0..BLOCKS {
            runtime.block_on(store.insert(&key(n), block(n, BLOCK))).unwrap();
        }
        println!("workers {workers}: filled in {:?}; {:?}", clock::now() - before, store.stats());
        let slab = dir.path().join("shoal-cache.slab");
        let places = places_of_blocks(&slab);
        for (len, depth) in [(BLOCK, 1), (BLOCK, 32), (128 << 10, 1), (128 << 10, 32), (4096, 1), (4096, 32)] {
            let (mut small, mut null, mut ours) = (Vec::new(), Vec::new(), Vec::new());
            if !wanted(len, depth, workers) {
                continue;
            }
            for _ in 0..ROUNDS {
                small.push(raw(&slab, len, depth, &places, &small_pages, &mut rng));
                null.push(raw(&slab, len, depth, &places, &huge_pages, &mut rng));
                ours.push(through_store(&runtime, &store, len, depth, &mut rng));
            }
            println!("{} KiB, depth {depth}, {workers} workers", len >> 10);
            report("raw 4K pages", len, &mut small);
            let (raw_rate, raw_p50) = report("raw huge", len, &mut null);
            let (rate, p50) = report("store", len, &mut ours);
            println!("  ratio        {:.2} of the rate, p50 {:.2} x", rate / raw_rate, p50 / raw_p50);
        }
        runtime.block_on(store.close());
    }
}
