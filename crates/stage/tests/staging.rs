//! Staging blocks on a real disk, in front of a store that fails on request.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails; clippy sees helpers of tests as no tests")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_format::BlockCodec;
use shoal_object::fault::FaultStore;
use shoal_object::{ObjectStore, Op};
use shoal_runtime::metrics::Registry;
use shoal_stage::{Admit, Hours, Stage, StageConfig, Staged, has_staged_blocks, staged_objects};
use shoal_testkit::{PATIENCE, TestDir, seeded_bytes, wait_until_async};
use shoal_types::ErrorKind;

const LONG: Duration = Duration::from_secs(3600);

struct Bed {
    dir: TestDir,
    store: Arc<FaultStore>,
}

impl Bed {
    fn new(name: &str) -> Bed {
        Bed { dir: TestDir::new(name), store: FaultStore::over_memory() }
    }

    fn config(&self) -> StageConfig {
        StageConfig {
            dir: self.dir.join("uuid"),
            prefix: "vol/".into(),
            admit: Admit::Blocks,
            too_long: None,
            upload_delay: Duration::ZERO,
            hours: Hours::ALL,
            writes_max: 10,
            uploads_max: 4,
            keep_free_permille: 0,
        }
    }

    async fn open(&self, config: StageConfig) -> Stage {
        Stage::open(config, self.store.clone(), BlockCodec::identity(), &Registry::new()).await.unwrap()
    }

    fn file(&self, key: &str) -> PathBuf {
        self.dir.join("uuid/rawstaging").join(key.strip_prefix("vol/").unwrap())
    }

    async fn object(&self, key: &str) -> Option<Bytes> {
        let mut body = self.store.get(key, None, None).await.ok()?;
        let mut all = Vec::new();
        while let Some(chunk) = body.next().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        Some(all.into())
    }
}

fn block(n: u64, len: usize) -> (String, Bytes) {
    (format!("vol/chunks/0/0/{n}_0_{len}"), Bytes::from(seeded_bytes(n, len)))
}

#[tokio::test]
async fn a_block_is_read_from_the_stage_until_it_is_stored() {
    let bed = Bed::new("read");
    let stage = bed.open(StageConfig { upload_delay: LONG, ..bed.config() }).await;
    let (key, plain) = block(1, 100_000);
    assert_eq!(stage.put(&key, plain.clone()).await, Staged::Yes);
    assert_eq!(std::fs::metadata(bed.file(&key)).unwrap().len(), 100_000 + 4 * 4, "as real clients lay it out");
    assert_eq!(stage.read(&key, 0..100_000).await, Some(plain.clone()));
    assert_eq!(stage.read(&key, 40_000..40_001).await, Some(plain.slice(40_000..40_001)));
    assert_eq!(stage.read("vol/chunks/0/0/2_0_5", 0..5).await, None);
    assert_eq!((stage.size(), bed.object(&key).await), ((1, 100_000), None), "it waits");
    stage.flush().await;
    assert_eq!(bed.object(&key).await, Some(plain));
    assert!(!stage.holds(&key) && stage.size() == (0, 0));
    wait_until_async("its file is gone", PATIENCE, async || !bed.file(&key).exists()).await;
}

#[tokio::test]
async fn what_a_dead_process_left_is_stored_by_the_next() {
    let bed = Bed::new("left");
    let blocks: Vec<_> = (0..20).map(|n| block(n, 1000 + n as usize * 9000)).collect();
    {
        let stage = bed.open(StageConfig { upload_delay: LONG, ..bed.config() }).await;
        for (key, plain) in &blocks {
            assert_eq!(stage.put(key, plain.clone()).await, Staged::Yes);
        }
        // A second process may not stage here meanwhile.
        let error = Stage::open(bed.config(), bed.store.clone(), BlockCodec::identity(), &Registry::new()).await;
        assert_eq!(error.expect_err("the directory is taken").kind(), ErrorKind::Conflict);
    }
    let unfinished = bed.file("vol/chunks/0/0/7_0_5.tmp");
    std::fs::write(&unfinished, b"torn").unwrap();
    std::fs::write(bed.file("vol/chunks/0/0/note"), b"not ours").unwrap();
    // The task that stores lives as long as its runtime, and with it the lock: a copy of the directory stands for the next process.
    let config = StageConfig { dir: bed.dir.join("next"), admit: Admit::Nothing, ..bed.config() };
    copy(&bed.dir.join("uuid"), &config.dir);
    assert!(has_staged_blocks(&config.dir) && !has_staged_blocks(&bed.dir.join("none")));
    let stage = bed.open(config.clone()).await;
    stage.flush().await;
    for (key, plain) in &blocks {
        assert_eq!(bed.object(key).await.as_ref(), Some(plain), "{key}");
    }
    assert!(config.dir.join("rawstaging/chunks/0/0/note").exists(), "what is no block is left alone");
    assert!(!config.dir.join("rawstaging/chunks/0/0/7_0_5.tmp").exists());
    let (key, plain) = block(99, 10);
    assert_eq!(stage.put(&key, plain).await, Staged::No, "it only stores what was left");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_costs_time_only() {
    let bed = Bed::new("fails");
    bed.store.fail_next(Op::Put, 9, ErrorKind::Unavailable);
    let stage = bed.open(bed.config()).await;
    let blocks: Vec<_> = (0..5).map(|n| block(n, 5000)).collect();
    for (key, plain) in &blocks {
        assert_eq!(stage.put(key, plain.clone()).await, Staged::Yes);
    }
    stage.flush().await;
    for (key, plain) in &blocks {
        assert_eq!(bed.object(key).await.as_ref(), Some(plain));
    }
    assert_eq!(bed.store.counts().puts, 14);
}

#[tokio::test]
async fn a_damaged_block_is_not_stored_and_kept() {
    let bed = Bed::new("damaged");
    let stage = bed.open(StageConfig { upload_delay: LONG, ..bed.config() }).await;
    let (key, plain) = block(1, 50_000);
    stage.put(&key, plain.clone()).await;
    let mut bytes = std::fs::read(bed.file(&key)).unwrap();
    bytes[33_000] ^= 1;
    std::fs::write(bed.file(&key), bytes).unwrap();
    assert_eq!(stage.read(&key, 0..100).await, Some(plain.slice(0..100)), "the other segment is intact");
    assert_eq!(stage.read(&key, 33_000..33_001).await, None);
    stage.flush().await;
    assert_eq!((bed.object(&key).await, bed.file(&key).exists()), (None, true));
}

#[tokio::test]
async fn what_is_deleted_before_it_is_stored_is_never_stored() {
    let bed = Bed::new("deleted");
    let stage = bed.open(StageConfig { upload_delay: LONG, ..bed.config() }).await;
    let objects = staged_objects(bed.store.clone(), stage.clone());
    let (key, plain) = block(1, 1000);
    stage.put(&key, plain).await;
    objects.delete(&key).await.unwrap();
    stage.flush().await;
    assert_eq!((bed.object(&key).await, bed.file(&key).exists()), (None, false));
    assert_eq!(stage.size(), (0, 0));
}

#[tokio::test]
async fn only_blocks_below_the_bound_are_staged() {
    let bed = Bed::new("bound");
    let stage = bed.open(StageConfig { too_long: Some(1000), upload_delay: LONG, ..bed.config() }).await;
    for (n, len, staged) in [(1, 999, Staged::Yes), (2, 1000, Staged::No), (3, 5000, Staged::No)] {
        let (key, plain) = block(n, len);
        assert_eq!(stage.put(&key, plain).await, staged, "{len} bytes");
    }
    assert_eq!(stage.size(), (1, 999));
}

#[tokio::test]
async fn a_full_or_failing_disk_declines() {
    let bed = Bed::new("full");
    let stage = bed.open(StageConfig { keep_free_permille: 1001, ..bed.config() }).await;
    let (key, plain) = block(1, 1000);
    assert_eq!(stage.put(&key, plain.clone()).await, Staged::No, "no disk is that free");
    let none = StageConfig { dir: bed.dir.join("none"), writes_max: 0, ..bed.config() };
    assert_eq!(bed.open(none).await.put(&key, plain.clone()).await, Staged::No, "no turn is free");
    let broken = StageConfig { dir: bed.dir.join("broken"), ..bed.config() };
    let stage = bed.open(broken.clone()).await;
    std::fs::write(broken.dir.join("rawstaging/chunks"), b"in the way").unwrap();
    assert_eq!(stage.put(&key, plain.clone()).await, Staged::No);
    std::fs::remove_file(broken.dir.join("rawstaging/chunks")).unwrap();
    assert_eq!(stage.put(&key, plain).await, Staged::No, "a disk that failed is left alone for a while");
}
