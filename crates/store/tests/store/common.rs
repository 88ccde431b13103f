//! What the tests share: blocks whose bytes follow from their number, and stores in temporary directories.

use std::path::Path;

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_store::{DirConfig, IoChoice, Store, StoreConfig};
use shoal_types::{BlockKey, BlockRange, OriginId};

/// A small generator with a printed seed, so that a failure can be run again.
pub struct Rng(u64);

impl Rng {
    /// Seeded from `SHOAL_TEST_SEED` or at random; prints the seed.
    pub fn new(test: &str) -> Rng {
        let given = std::env::var("SHOAL_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(shoal_runtime::rng::random_u64);
        eprintln!("{test}: SHOAL_TEST_SEED={seed}");
        Rng(seed | 1)
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

/// A store of one directory without RAM tier, so that every read goes to the device.
pub fn bare(dir: &Path, bytes: u64, io: IoChoice) -> StoreConfig {
    let dirs = vec![DirConfig { path: dir.to_owned(), bytes }];
    StoreConfig { memory: 0, dirs, io, page_bytes: 4096, ..StoreConfig::default() }
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
