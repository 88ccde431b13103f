//! What an operator meets when a directory cannot be used.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use shoal_runtime::metrics::Registry;
use shoal_store::{DirConfig, IoChoice, Store, StoreConfig, StoreError};
use shoal_types::ErrorKind;

use super::common::{bare, block, check_whole, files, key, open};

async fn refused(config: StoreConfig) -> StoreError {
    match Store::open(config, &Registry::new()).await {
        Ok(_) => panic!("the store opened"),
        Err(error) => error,
    }
}

fn config(dir: &Path, bytes: u64) -> StoreConfig {
    bare(dir, bytes, IoChoice::Plain)
}

#[tokio::test]
async fn each_refusal_is_a_sentence_that_names_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let missing = dir.path().join("missing");
    let newer = dir.path().join("newer");
    std::fs::create_dir(&newer).unwrap();
    std::fs::write(newer.join("shoal-cache.json"), "{\"format\": 9}").unwrap();
    let cases = [
        (config(&missing, 8 << 20), ErrorKind::NotFound, "does not exist: create it"),
        (config(&file, 8 << 20), ErrorKind::Invalid, "is not a directory"),
        (config(&file.join("below"), 8 << 20), ErrorKind::Invalid, "is not a directory"),
        (config(dir.path(), 100 << 10), ErrorKind::Invalid, "is given 100K, the least is 1M"),
        (config(dir.path(), 1 << 50), ErrorKind::NoSpace, "free, 1P were asked: lower the size or free space"),
        (config(&newer, 8 << 20), ErrorKind::Invalid, "format 9"),
    ];
    for (config, kind, says) in cases {
        let path = config.dirs[0].path.display().to_string();
        let error = refused(config).await;
        let text = error.to_string();
        assert!(error.kind() == kind && text.contains(says) && text.contains(&path), "{kind}: {text}");
    }
    assert!(!dir.path().join("shoal-cache.slab").exists());
}

#[tokio::test]
async fn a_directory_in_use_is_a_conflict_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(config(dir.path(), 8 << 20)).await;
    let error = refused(config(dir.path(), 8 << 20)).await;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("in use by another process"), "{error}");
    store.close().await;
    let id = store.node_id();
    let again = open(config(dir.path(), 8 << 20)).await;
    assert_eq!(again.node_id(), id, "the node's identity lives in its first directory");
    again.close().await;
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(dir.path().join("probe"), b"").is_ok() {
        eprintln!("SKIPPED: this user may write everywhere");
        return;
    }
    let error = refused(config(dir.path(), 8 << 20)).await;
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[tokio::test]
async fn files_of_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), b"mine").unwrap();
    let store = open(config(dir.path(), 8 << 20)).await;
    store.insert(&key(1), block(1, 10_000)).await.unwrap();
    store.close().await;
    assert_eq!(std::fs::read(dir.path().join("notes.txt")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_changed_size_keeps_what_still_fits() {
    let dir = tempfile::tempdir().unwrap();
    let cut = |bytes| StoreConfig { segment_bytes: Some(1 << 20), ..config(dir.path(), bytes) };
    let store = open(cut(16 << 20)).await;
    for n in 0..14 {
        store.insert(&key(n), block(n, 900_000)).await.unwrap();
    }
    store.close().await;
    // Seven segments of the sixteen are left, then all but the spare one are back but empty, then four.
    for (bytes, left) in [(8 << 20, 7), (24 << 20, 6), (5 << 20, 4)] {
        let store = open(cut(bytes)).await;
        let (length, allocated) = files(dir.path());
        assert!(length <= bytes && allocated <= bytes, "{length} {allocated} {bytes}");
        assert_eq!(store.stats().blocks, left, "in {bytes}");
        let mut found = 0;
        for n in (0..14).chain(100..104) {
            found += u64::from(check_whole(&store, n, &block(n, 900_000)).await);
        }
        assert_eq!(found, left);
        for n in 100..104 {
            store.insert(&key(n), block(n, 900_000)).await.unwrap();
            assert!(check_whole(&store, n, &block(n, 900_000)).await);
        }
        store.close().await;
    }
    // Too small for four segments of that size: starts empty, and works.
    let store = open(config(dir.path(), 2 << 20)).await;
    assert_eq!(store.stats().blocks, 0);
    store.insert(&key(1), block(1, 10_000)).await.unwrap();
    assert!(check_whole(&store, 1, &block(1, 10_000)).await && files(dir.path()).1 <= 2 << 20);
    store.close().await;
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let base = || config(dir.path(), 8 << 20);
    let twice = vec![DirConfig::new(dir.path(), 8 << 20); 2];
    for (config, says) in [
        (StoreConfig { page_bytes: 5000, ..base() }, "page size"),
        (StoreConfig { read_depth: 0, ..base() }, "read depth 0"),
        (StoreConfig { dirs: twice, ..base() }, "configured twice"),
        (StoreConfig { segment_bytes: Some(4 << 20), ..base() }, "cannot be cut"),
    ] {
        let error = refused(config).await;
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(says), "{error}");
    }
}
