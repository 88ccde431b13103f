//! A reader that checks every byte it gets and notes how long it waited for it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, Rng, seeded_bytes, wait_until};

/// Most bytes of one read.
const READ_MAX: usize = 128 << 10;
/// A thread starts a read this often at most, so that several scenarios share two cores.
const PACE: Duration = Duration::from_millis(15);
/// Errors kept for the message of a failed scenario.
const ERRORS_SHOWN: usize = 10;

/// Files with known content.
#[derive(Clone)]
pub struct Files {
    files: Vec<(String, Arc<Vec<u8>>)>,
}

/// How the files of a reading thread are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// One file after the other, each from its start to its end.
    Sequential,
    /// Some bytes somewhere.
    Random,
}

/// Threads that read until they are stopped.
pub struct Reader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    files: Files,
    stop: AtomicBool,
    /// Reads done by each thread.
    done: Vec<AtomicU64>,
    found: Mutex<Found>,
}

/// What a reader met.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// How long each read took.
    pub pauses: Vec<Duration>,
    pub bytes: u64,
    /// Errors and wrong bytes: the first few in words, and how many.
    pub errors: Vec<String>,
    pub errors_count: u64,
}

impl Files {
    /// `large` files of `bytes` bytes each and `small` ones of up to 64 KiB in the directory `dir`, seeded with `seed`.
    pub fn new(dir: &str, seed: u64, large: usize, bytes: usize, small: usize) -> Files {
        let mut rng = Rng::new(seed);
        let mut files = Vec::new();
        for number in 0..large + small {
            let (kind, len) = if number < large { ("large", bytes) } else { ("small", 1 + rng.index(64 << 10)) };
            files.push((format!("{dir}/{kind}-{number}"), Arc::new(seeded_bytes(rng.next_u64(), len))));
        }
        Files { files }
    }

    /// Writes them below `root`.
    pub fn write(&self, root: &Path) {
        for (name, content) in &self.files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("in a directory")).expect("a directory of the source");
            std::fs::write(path, &**content).expect("a file of the source");
        }
    }

    /// These and `more`.
    pub fn and(&self, more: &Files) -> Files {
        Files { files: self.files.iter().chain(&more.files).cloned().collect() }
    }

    /// Reads everything once below `mount`, checking it.
    #[track_caller]
    pub fn read_all(&self, mount: &Path) {
        for (name, expected) in &self.files {
            let found = std::fs::read(mount.join(name)).unwrap_or_else(|error| panic!("cannot read {name}: {error}"));
            assert!(found == **expected, "{name} is not what was written");
        }
    }
}

impl Reader {
    /// Reads `files` in each of `mounts`: one thread from end to end, two at random.
    pub fn start(files: &Files, mounts: &[&Path]) -> Reader {
        let kinds = [Order::Sequential, Order::Random, Order::Random];
        let work: Vec<(PathBuf, Order)> =
            mounts.iter().flat_map(|mount| kinds.map(|order| (mount.to_path_buf(), order))).collect();
        let shared = Arc::new(Shared {
            files: files.clone(),
            stop: AtomicBool::new(false),
            done: work.iter().map(|_| AtomicU64::new(0)).collect(),
            found: Mutex::default(),
        });
        let threads = work.into_iter().enumerate().map(|(number, (mount, order))| {
            let shared = shared.clone();
            task::thread("reader", move || Thread::new(&shared, number, mount).read(order))
        });
        Reader { threads: threads.collect(), shared }
    }

    /// Waits until every thread has done `reads` more: then reads go on whatever is broken now.
    #[track_caller]
    pub fn goes_on(&self, reads: u64) {
        let before: Vec<u64> = self.shared.done.iter().map(|done| done.load(Ordering::Relaxed)).collect();
        wait_until("every reading thread goes on", PATIENCE, || {
            let more = self.shared.done.iter().zip(&before);
            more.into_iter().all(|(done, before)| done.load(Ordering::Relaxed) >= before + reads)
        });
    }

    /// Reads for `time`, and then still does.
    #[track_caller]
    pub fn goes_on_for(&self, time: Duration) {
        self.passes(time);
        self.goes_on(1);
    }

    /// Lets `time` pass, in which reads may have to wait.
    pub fn passes(&self, time: Duration) {
        let start = clock::now();
        wait_until("the time is over", time + PATIENCE, || start.elapsed() >= time);
    }

    /// Stops all threads; a read that does not return fails the test.
    #[track_caller]
    pub fn stop(self) -> Found {
        self.shared.stop.store(true, Ordering::Relaxed);
        wait_until("every read returns", PATIENCE, || self.threads.iter().all(JoinHandle::is_finished));
        self.threads.into_iter().for_each(|thread| thread.join().expect("a reading thread does not panic"));
        self.shared.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Found {
    /// The pause that `percent` of the reads stay below.
    pub fn pause(&self, percent: usize) -> Duration {
        let mut sorted = self.pauses.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(index).copied().unwrap_or_default()
    }

    /// Reads that took longer than `time`.
    pub fn longer_than(&self, time: Duration) -> usize {
        self.pauses.iter().filter(|pause| **pause > time).count()
    }
}

/// One reading thread.
struct Thread<'a> {
    shared: &'a Shared,
    number: usize,
    mount: PathBuf,
    rng: Rng,
    buffer: Vec<u8>,
}

impl Thread<'_> {
    fn new(shared: &Shared, number: usize, mount: PathBuf) -> Thread<'_> {
        Thread { shared, number, mount, rng: Rng::new(number as u64), buffer: vec![0; READ_MAX] }
    }

    fn read(mut self, order: Order) {
        let files = self.shared.files.files.clone();
        while !self.stopped() {
            let (name, content) = self.rng.pick(&files);
            match self.opened(name) {
                Ok(file) if order == Order::Sequential => {
                    let starts = (0..content.len()).step_by(READ_MAX);
                    starts.take_while(|_| !self.shared.stop.load(Ordering::Relaxed)).for_each(|at| {
                        self.read_piece(&file, name, content, at, READ_MAX);
                    });
                }
                Ok(file) => {
                    let (at, len) = (self.rng.index(content.len()), 1 + self.rng.index(READ_MAX));
                    self.read_piece(&file, name, content, at, len);
                }
                Err(error) => {
                    self.failed(format!("open {name}: {error}"));
                    std::thread::park_timeout(PACE);
                }
            }
        }
    }

    fn stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Past the kernel's pages, so that every read reaches the mount.
    fn opened(&mut self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(self.mount.join(name))
    }

    fn read_piece(&mut self, file: &File, name: &str, content: &[u8], at: usize, len: usize) {
        let end = (at + len).min(content.len());
        let start = clock::now();
        let read = file.read_exact_at(&mut self.buffer[..end - at], at as u64);
        let pause = start.elapsed();
        match read {
            Ok(()) if self.buffer[..end - at] == content[at..end] => {}
            Ok(()) => self.failed(format!("{name}: wrong bytes in {at}..{end}")),
            Err(error) => self.failed(format!("{name}: {at}..{end}: {error} after {pause:?}")),
        }
        let mut found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.pauses.push(pause);
        found.bytes += (end - at) as u64;
        drop(found);
        self.shared.done[self.number].fetch_add(1, Ordering::Relaxed);
        std::thread::park_timeout(PACE.saturating_sub(pause));
    }

    fn failed(&self, what: String) {
        let mut found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.errors_count += 1;
        if found.errors.len() < ERRORS_SHOWN {
            found.errors.push(what);
        }
    }
}
