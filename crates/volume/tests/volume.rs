//! Volumes made, loaded and opened in one process: local objects, SQLite metadata.

#![allow(clippy::unwrap_used, reason = "a test may unwrap anywhere")]
use std::path::Path;

use shoal_format::{Attr, Ino};
use shoal_runtime::metrics::Registry;
use shoal_runtime::shutdown::Shutdown;
use shoal_testkit::{TestDir, seeded_bytes};
use shoal_types::ErrorKind;
use shoal_volume::import::{ImportOptions, ImportReport, Progress, import};
use shoal_volume::{Access, FormatOptions, OpenOptions, Volume, VolumeError, format};

async fn new_volume(dir: &TestDir) -> Volume {
    let url = format!("sqlite3://{}", dir.join("v.db").display());
    let options = FormatOptions::new("vol", "file", dir.join("objects").to_str().unwrap());
    format(&url, &options, None, &Registry::new()).await.unwrap();
    Volume::open(&url, &OpenOptions::new(Access::Write), &Registry::new()).await.unwrap()
}

async fn load(volume: &Volume, source: &Path, skip_existing: bool) -> Result<ImportReport, VolumeError> {
    let options = ImportOptions { skip_existing, ..ImportOptions::default() };
    import(volume, source, "/", &options, &Progress::silent(), &Shutdown::new()).await
}

async fn found(volume: &Volume, path: &str) -> (Ino, Attr) {
    volume.meta.resolve_path(path.as_bytes()).await.unwrap().unwrap_or_else(|| panic!("{path} is missing"))
}

#[tokio::test]
async fn an_import_goes_on_where_one_was_stopped() {
    let dir = TestDir::new("resume");
    let source = dir.mkdir("source/sub").parent().unwrap().to_owned();
    std::fs::write(source.join("a"), seeded_bytes(1, 100_000)).unwrap();
    std::fs::write(source.join("sub/b"), seeded_bytes(2, 10)).unwrap();
    let volume = new_volume(&dir).await;
    let first = load(&volume, &source, false).await.unwrap();
    assert_eq!((first.files, first.dirs, first.skipped), (2, 1, 0));
    let a = found(&volume, "/a").await;

    std::fs::write(source.join("sub/c"), seeded_bytes(3, 20)).unwrap();
    std::fs::hard_link(source.join("a"), source.join("sub/a-too")).unwrap();
    let refused = load(&volume, &source, false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let second = load(&volume, &source, true).await.unwrap();
    assert_eq!((second.files, second.dirs, second.links, second.skipped), (1, 0, 1, 2));
    assert_eq!(found(&volume, "/sub/c").await.1.length, 20);
    let (ino, attr) = found(&volume, "/sub/a-too").await;
    assert_eq!((ino, attr.nlink), (a.0, 2), "a further name of what was there");

    let third = load(&volume, &source, true).await.unwrap();
    assert_eq!((third.files, third.links, third.objects, third.skipped), (0, 0, 0, 4));
}

#[tokio::test]
async fn what_differs_from_its_namesake_is_refused_by_name() {
    let dir = TestDir::new("differs");
    let source = dir.mkdir("source");
    std::fs::write(source.join("a"), "one").unwrap();
    let volume = new_volume(&dir).await;
    load(&volume, &source, false).await.unwrap();
    std::fs::write(source.join("a"), "two, longer").unwrap();
    let refused = load(&volume, &source, true).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains('a'), "{refused}");
    assert_eq!(found(&volume, "/a").await.1.length, 3, "the volume is as it was");
}

#[tokio::test]
async fn a_stopped_import_says_how_far_it_came_and_leaves_a_whole_volume() {
    let dir = TestDir::new("stopped");
    let source = dir.mkdir("source");
    std::fs::write(source.join("a"), "one").unwrap();
    let volume = new_volume(&dir).await;
    let shutdown = Shutdown::new();
    shutdown.trigger();
    let stopped = import(&volume, &source, "/", &ImportOptions::default(), &Progress::silent(), &shutdown).await;
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(load(&volume, &source, true).await.unwrap().files, 1);
}
