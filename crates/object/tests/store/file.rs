//! Storage `file`: layout on disk, atomic puts, and what is said when the directory is missing.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use shoal_object::{Location, ObjectOptions, ObjectStore, create, open, probe};
use shoal_runtime::metrics::Registry;
use shoal_testkit::TestDir;
use shoal_types::ErrorKind;

fn location(bucket: String) -> Location {
    Location { storage: "file".into(), bucket, ..Location::default() }
}

fn store_at(bucket: String) -> Arc<dyn ObjectStore> {
    open(&location(bucket), &ObjectOptions::default(), &Registry::new()).unwrap()
}

#[tokio::test]
async fn objects_are_files_under_their_keys_and_nothing_else_remains() {
    let dir = TestDir::new("object-layout");
    let store = store_at(format!("{}/", dir.path().display()));
    store.put("vol/chunks/0/0/1_0_3", Bytes::from_static(b"abc")).await.unwrap();
    let leaf = dir.path().join("vol/chunks/0/0");
    assert_eq!(fs::read(leaf.join("1_0_3")).unwrap(), b"abc");
    assert_eq!(fs::read_dir(&leaf).unwrap().count(), 1, "no temporary file stays");
}

#[tokio::test]
async fn a_failed_put_leaves_the_old_object_and_no_temporary_file() {
    let dir = TestDir::new("object-failed-put");
    let store = store_at(format!("{}/", dir.path().display()));
    // A directory in the place of the object: the rename fails after all bytes were written.
    fs::create_dir_all(dir.path().join("vol/taken/inside")).unwrap();
    let error = store.put("vol/taken", Bytes::from_static(b"abc")).await.unwrap_err();
    assert!(error.to_string().contains("vol/taken"), "{error}");
    let names: Vec<_> = fs::read_dir(dir.path().join("vol")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["taken"]);
}

#[tokio::test]
async fn temporary_files_of_a_crashed_put_are_not_objects() {
    let dir = TestDir::new("object-temp");
    let store = store_at(format!("{}/", dir.path().display()));
    fs::create_dir_all(dir.path().join("vol")).unwrap();
    fs::write(dir.path().join("vol/.jfs.1_0_3.tmp.123"), b"ab").unwrap();
    store.put("vol/1_0_3", Bytes::from_static(b"abc")).await.unwrap();
    let listed = store.list("", None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["vol/1_0_3"]);
    assert_eq!(store.get("vol/.jfs.1_0_3.tmp.123", None, None).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_open_body_survives_replacement_and_removal_of_its_object() {
    let dir = TestDir::new("object-open-body");
    let store = store_at(format!("{}/", dir.path().display()));
    let old = Bytes::from(vec![1u8; 9 << 20]);
    store.put("k", old.clone()).await.unwrap();
    let mut body = store.get("k", None, None).await.unwrap();
    let first = body.next().await.unwrap().unwrap();
    store.put("k", Bytes::from_static(b"new")).await.unwrap();
    store.delete("k").await.unwrap();
    let mut rest = first.len();
    while let Some(chunk) = body.next().await.unwrap() {
        assert!(chunk.iter().all(|byte| *byte == 1));
        rest += chunk.len();
    }
    assert_eq!(rest, old.len());
}

#[tokio::test]
async fn a_file_cut_short_while_it_is_read_is_an_error() {
    let dir = TestDir::new("object-cut");
    let store = store_at(format!("{}/", dir.path().display()));
    store.put("k", Bytes::from(vec![1u8; 9 << 20])).await.unwrap();
    let body = store.get("k", None, None).await.unwrap();
    fs::OpenOptions::new().write(true).open(dir.path().join("k")).unwrap().set_len(5 << 20).unwrap();
    // No second attempt helps: the ETag is another one now.
    assert_eq!(body.collect(16 << 20).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_missing_directory_is_named_and_never_made_by_a_put() {
    let dir = TestDir::new("object-missing");
    let bucket = format!("{}/not/mounted/", dir.path().display());
    let store = store_at(bucket.clone());
    let results = [
        probe(store.as_ref()).await.unwrap_err(),
        store.put("a/b", Bytes::new()).await.unwrap_err(),
        store.put("a", Bytes::new()).await.unwrap_err(),
        store.get("a", None, None).await.unwrap_err(),
        store.head("a").await.unwrap_err(),
    ];
    for error in results {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("directory {bucket} does not exist"));
    }
    create(&location(bucket)).await.unwrap();
    probe(store.as_ref()).await.unwrap();
    store.put("a/b", Bytes::new()).await.unwrap();
}
