//! What the tests share: blocks whose bytes follow from their number, and stores in temporary directories.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_store::{Admission, DirConfig, IoChoice, Store, StoreConfig};
use shoal_testkit::{PATIENCE, test_seed};
use shoal_types::{BlockKey, BlockRange, OriginId};

/// A small generator.
pub struct Rng(u64);

impl Rng {
    /// With the seed of a test, see [`test_seed`].
    pub fn new(test: &str) -> Rng {
        Rng(test_seed(test) | 1)
    }

    /// From a given seed.
    pub fn seeded(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number (xorshift64*).
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn key(n: u64) -> BlockKey {
    BlockKey::whole(OriginId([7; 16]), &format!("vol/chunks/0/0/{n}_0_4194304"))
}

/// The bytes of block `n`: no page of any block equals another.
pub fn block(n: u64, len: usize) -> Bytes {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Every way of doing I/O that works here.
pub fn ways() -> Vec<IoChoice> {
    vec![IoChoice::Plain, IoChoice::Auto]
}

/// A store of one directory without RAM tier, so that every read goes to the device, that lets every block in. The device may be
/// as slow as it likes.
pub fn bare(dir: &Path, bytes: u64, io: IoChoice) -> StoreConfig {
    let dirs = vec![DirConfig { free_ratio: 0.0, ..DirConfig::new(dir, bytes) }];
    StoreConfig {
        memory: 0,
        dirs,
        io,
        page_bytes: 4096,
        admission: Admission::All,
        scrub_rate: 0,
        read_patience: PATIENCE,
        hang_after: PATIENCE,
        ..StoreConfig::default()
    }
}

pub async fn open(config: StoreConfig) -> Store {
    Store::open(config, &Registry::new()).await.expect("the test's directory is fine")
}

/// Reads `range` of block `n` and checks it if it is there; says whether it was.
pub async fn check(store: &Store, n: u64, whole: &Bytes, range: BlockRange) -> bool {
    let Some(found) = store.read(&key(n), range).await.expect("reads do not fail") else { return false };
    let want = range.clamp(whole.len() as u32);
    assert_eq!(found.block_len as usize, whole.len(), "block {n}");
    let same = found.bytes == whole.slice(want.start as usize..want.end as usize);
    assert!(same, "wrong bytes of block {n}, range {range} of {}", whole.len());
    true
}

pub async fn check_whole(store: &Store, n: u64, whole: &Bytes) -> bool {
    check(store, n, whole, BlockRange::WHOLE).await
}

/// Bytes of all files in `dir`, by length and by what they take on the file system.
pub fn files(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let mut sums = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let meta = entry.unwrap().metadata().unwrap();
        sums.0 += meta.len();
        sums.1 += meta.blocks() * 512;
    }
    sums
}

/// A directory in memory where that is possible: for tests that take a device for hung, which must not meet a slow one.
pub fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Short patience with devices, so that tests of outages are short; on a busy machine a device may well take half a second.
pub fn quick(config: StoreConfig) -> StoreConfig {
    let ms = Duration::from_millis;
    StoreConfig { read_patience: ms(1000), hang_after: ms(1500), probe_every: ms(40), ..config }
}

/// Waits until `is_so`, and fails after a generous while.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !is_so() {
        assert!(clock::now() < deadline, "not so after minutes: {what}");
        clock::sleep(Duration::from_millis(5)).await;
    }
}

/// A small file system of its own for a test, unmounted when dropped.
pub struct Mounted {
    dir: tempfile::TempDir,
    /// The file that an ext4 lies in.
    _image: Option<tempfile::NamedTempFile>,
}

impl Mounted {
    /// In memory; `None`, said aloud, where nobody may mount.
    pub fn tmpfs(options: &str) -> Option<Mounted> {
        Mounted::mount(None, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// An ext4 of `bytes` in a file; `None`, said aloud, where nobody may mount.
    pub fn ext4(bytes: u64) -> Option<Mounted> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(bytes).unwrap();
        let path = image.path().to_str().unwrap().to_owned();
        let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", &path]).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("SKIPPED: mkfs.ext4 does not work here");
            return None;
        }
        Mounted::mount(Some(image), &["-o", "loop", &path])
    }

    fn mount(image: Option<tempfile::NamedTempFile>, what: &[&str]) -> Option<Mounted> {
        let dir = tempfile::tempdir().unwrap();
        match Command::new("mount").args(what).arg(dir.path()).output() {
            Ok(output) if output.status.success() => Some(Mounted { dir, _image: image }),
            _ => {
                eprintln!("SKIPPED: mounting needs root");
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).output();
    }
}
