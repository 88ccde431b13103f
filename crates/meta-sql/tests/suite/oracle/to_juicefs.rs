//! Volumes made by us, judged by the real client.

use shoal_format::{Attr, FileType, Ino, Settings, SliceRecord};
use shoal_meta::testing::sample::{BatchBuilder, attr, settings};
use shoal_meta::{Meta, MkdirP};
use shoal_meta_sql::{OpenMode, open};

use super::super::bed::Bed;
use super::client::{JuiceFs, Mount, bucket};
use super::from_juicefs::assert_same;

/// A volume of ours in `vol.db`, with its bucket and the object every bucket has.
async fn volume(bed: &Bed) -> Meta {
    let meta = Meta::new(open(&bed.url("vol.db"), OpenMode::Create).await.unwrap());
    let settings = Settings { bucket: bucket(bed), ..settings() };
    meta.init(&settings, false).await.unwrap();
    put_object(bed, "juicefs_uuid", settings.uuid.as_bytes());
    meta
}

pub fn put_object(bed: &Bed, key: &str, bytes: &[u8]) {
    let path = bed.path("bucket").join("conform").join(key);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Every kind of inode, hard links, extended attributes, a file with data.
pub async fn fill(bed: &Bed, meta: &Meta) {
    let how = MkdirP { mode: 0o2755, uid: 1, gid: 2 };
    let (target, _) = meta.mkdir_p(b"/data/set", how).await.unwrap();
    let i = meta.alloc_inodes(20).await.unwrap().start;
    let s = meta.alloc_slices(2).await.unwrap().start;
    let data = vec![42u8; 100_000];
    put_object(bed, &format!("chunks/0/0/{s}_0_{}", data.len()), &data);
    let device = Attr { rdev: 259, ..attr(FileType::CharDevice, 0o600) };
    let batch = BatchBuilder::new()
        .dir(target.0, b"a", i)
        .dir(i, b"deep", i + 1)
        .dir(i + 1, b"empty", i + 2)
        .file(i, b"zero", i + 3, 0)
        .xattr(b"user.origin", b"s3://bucket/key")
        .xattr(b"user.empty", b"")
        .sliced(i, b"data", i + 4, &[SliceRecord::whole(0, s, data.len() as u32)])
        .symlink(i, b"link", i + 5, b"deep/../zero")
        .entry(i + 1, b"fifo", i + 6, attr(FileType::Fifo, 0o600))
        .entry(i + 1, b"dev", i + 7, device)
        .entry(i + 1, b"sock", i + 8, attr(FileType::Socket, 0o600))
        .file(i + 1, b"sparse", i + 9, 200 << 20)
        .file(1, "größe und \u{1F980}".as_bytes(), i + 10, 5)
        .file(1, b"\xff\xfe 100%\"\\", i + 11, 0)
        .link(i + 2, b"again", i + 4)
        .link(i, b"data2", i + 4)
        .link(1, b"zero-link", i + 3);
    meta.import(batch.build()).await.unwrap();
    // Names for a file of an earlier batch, and one more directory in a known one.
    let late = meta.alloc_inodes(1).await.unwrap().start;
    meta.import(BatchBuilder::new().dir(i, b"late", late).link(late, b"x", i + 9).build()).await.unwrap();
}

/// Rows of a query on `vol.db`, as text.
fn rows(bed: &Bed, name: &str, query: &'static str) -> Vec<String> {
    let connection = bed.other_program(name);
    let mut statement = connection.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

const SCHEMA: &str = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY sql";
const DIR_STATS: &str =
    "SELECT inode||' '||data_length||' '||used_space||' '||used_inodes FROM jfs_dir_stats ORDER BY inode";
const COUNTERS: &str =
    "SELECT name||' '||value FROM jfs_counter WHERE name IN ('usedSpace','totalInodes') ORDER BY name";
const QUOTAS: &str = "SELECT inode||' '||max_space||' '||max_inodes||' '||used_space||' '||used_inodes FROM jfs_dir_quota ORDER BY inode";
const REFS: &str = "SELECT chunkid||' '||size||' '||refs FROM jfs_chunk_ref ORDER BY chunkid";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_and_first_rows_are_those_of_juicefs() {
    let Some(juicefs) = JuiceFs::find("schema_and_first_rows_are_those_of_juicefs") else { return };
    let bed = Bed::new();
    bed.volume("ours.db").await.close().await;
    juicefs.format(&bed, "conform", &[]);
    for query in [
        SCHEMA,
        "SELECT name||' '||value FROM jfs_counter ORDER BY name",
        "SELECT inode||' '||type||' '||flags||' '||mode||' '||uid||' '||gid||' '||nlink||' '||length||' '||rdev||' '||parent\
         ||' '||access_acl_id||' '||default_acl_id||' '||tier_id FROM jfs_node ORDER BY inode",
        // Ours has statistics of its empty root from the start, theirs from the first entry on.
        "SELECT (SELECT count(*) FROM jfs_dir_stats WHERE inode<>1)||' '||(SELECT count(*) FROM jfs_edge)",
        "PRAGMA journal_mode",
    ] {
        assert_eq!(rows(&bed, "ours.db", query), rows(&bed, "vol.db", query), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volume_made_by_us_passes_every_check_of_juicefs() {
    let Some(juicefs) = JuiceFs::find("volume_made_by_us_passes_every_check_of_juicefs") else { return };
    let bed = Bed::new();
    let meta = volume(&bed).await;
    fill(&bed, &meta).await;
    assert_same(&juicefs, &bed, &meta).await;

    let url = bed.url("vol.db");
    let status = juicefs.run(&bed, &["status", &url]);
    assert!(status.contains("\"Name\": \"conform\""), "{status}");
    juicefs.run(&bed, &["fsck", &url]);
    let before = [rows(&bed, "vol.db", DIR_STATS), rows(&bed, "vol.db", COUNTERS)];
    assert_eq!(before[0].len(), 7, "root and six directories: {before:?}");
    let report = juicefs.run(&bed, &["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat", "--repair"]);
    assert!(!report.contains("should be"), "{report}");
    let gc = juicefs.run(&bed, &["gc", &url, "--delete"]);
    assert!(gc.contains("0 leaked"), "{gc}");
    let after = [rows(&bed, "vol.db", DIR_STATS), rows(&bed, "vol.db", COUNTERS)];
    assert_eq!(after, before, "juicefs corrected what we counted");
    assert_eq!(rows(&bed, "vol.db", REFS), ["1 100000 1"]);
    assert_same(&juicefs, &bed, &meta).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn juicefs_reads_and_changes_a_volume_made_by_us() {
    let Some(juicefs) = JuiceFs::find("juicefs_reads_and_changes_a_volume_made_by_us") else { return };
    let bed = Bed::new();
    let meta = volume(&bed).await;
    fill(&bed, &meta).await;
    juicefs.run(
        &bed,
        &[
            "sync",
            "--dirs",
            "--exclude",
            "fifo",
            "--exclude",
            "sock",
            "--exclude",
            "dev",
            "jfs://VOL/data/set/a/",
            "out/",
        ],
    );
    assert_eq!(std::fs::read(bed.path("out/data")).unwrap(), vec![42u8; 100_000]);
    assert_eq!(std::fs::read(bed.path("out/data2")).unwrap().len(), 100_000);
    assert_eq!(std::fs::metadata(bed.path("out/deep/sparse")).unwrap().len(), 200 << 20);

    std::fs::create_dir_all(bed.path("src/more")).unwrap();
    std::fs::write(bed.path("src/more/file"), "from juicefs").unwrap();
    juicefs.run(&bed, &["sync", "--dirs", "src/", "jfs://VOL/data/"]);
    let (ino, attr) = meta.resolve_path(b"/data/more/file").await.unwrap().unwrap();
    assert_eq!(attr.length, 12);
    assert_eq!(meta.chunk(ino, 0).await.unwrap().len(), 1);
    // Its ids and ours come from the same counters and never meet.
    let ours = meta.alloc_inodes(1).await.unwrap().start;
    assert!(ours > ino.0);
    meta.import(BatchBuilder::new().file(attr.parent.0, b"ours", ours, 1).build()).await.unwrap();
    assert_same(&juicefs, &bed, &meta).await;
    juicefs.run(&bed, &["fsck", &bed.url("vol.db")]);
    let before = rows(&bed, "vol.db", DIR_STATS);
    juicefs.run(&bed, &["fsck", &bed.url("vol.db"), "--path", "/", "--recursive", "--sync-dir-stat", "--repair"]);
    assert_eq!(rows(&bed, "vol.db", DIR_STATS), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_set_by_juicefs_are_charged_as_it_counts_them() {
    let Some(juicefs) = JuiceFs::find("quotas_set_by_juicefs_are_charged_as_it_counts_them") else { return };
    let bed = Bed::new();
    let meta = volume(&bed).await;
    meta.mkdir_p(b"/data/set", MkdirP::default()).await.unwrap();
    let url = bed.url("vol.db");
    juicefs.run(&bed, &["quota", "set", &url, "--path", "/data", "--inodes", "40"]);
    juicefs.run(&bed, &["quota", "set", &url, "--path", "/data/set", "--capacity", "1"]);
    fill(&bed, &meta).await;
    let quotas = rows(&bed, "vol.db", QUOTAS);
    assert!(quotas.iter().all(|row| !row.ends_with(" 0 0")), "{quotas:?}");
    for path in ["/data", "/data/set"] {
        let report = juicefs.run(&bed, &["quota", "check", &url, "--path", path]);
        assert!(report.contains("is consistent"), "{report}");
    }
    let (set, _) = meta.resolve_path(b"/data/set").await.unwrap().unwrap();
    let ids = meta.alloc_inodes(40).await.unwrap();
    let many = ids.fold(BatchBuilder::new(), |batch, id| batch.file(set.0, id.to_string().as_bytes(), id, 0));
    let error = meta.import(many.build()).await.unwrap_err();
    assert!(error.to_string().starts_with("the quota of 40 inodes on directory"), "{error}");
    assert_eq!(rows(&bed, "vol.db", QUOTAS), quotas);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_mount_of_our_volume_reads_and_writes_beside_us() {
    use std::os::unix::fs::MetadataExt;
    let test = "live_mount_of_our_volume_reads_and_writes_beside_us";
    let Some(juicefs) = JuiceFs::find(test) else { return };
    let bed = Bed::new();
    let meta = volume(&bed).await;
    fill(&bed, &meta).await;
    let Some(mount) = Mount::new(test, &juicefs, &bed) else { return };
    let at = |name: &str| bed.path("mnt").join(name);
    assert_eq!(std::fs::read(at("data/set/a/data2")).unwrap(), vec![42u8; 100_000]);
    assert_eq!(std::fs::metadata(at("data/set/a/data")).unwrap().nlink(), 3);
    assert_eq!(std::fs::read_link(at("data/set/a/link")).unwrap().to_str(), Some("deep/../zero"));

    let (dir, _) = meta.mkdir_p(b"/live", MkdirP::default()).await.unwrap();
    for round in 0..10 {
        let ino = meta.alloc_inodes(1).await.unwrap().start;
        let ours = format!("ours-{round}");
        meta.import(BatchBuilder::new().file(dir.0, ours.as_bytes(), ino, 0).build()).await.unwrap();
        let theirs = format!("theirs-{round}");
        std::fs::write(at("live").join(&theirs), "theirs").unwrap();
        assert_eq!(std::fs::metadata(at("live").join(&ours)).unwrap().ino(), ino);
        assert_eq!(meta.lookup(dir, theirs.as_bytes()).await.unwrap().unwrap().1.length, 6);
    }
    drop(mount);
    assert_same(&juicefs, &bed, &meta).await;
    juicefs.run(&bed, &["fsck", &bed.url("vol.db")]);
    let before = rows(&bed, "vol.db", DIR_STATS);
    juicefs.run(&bed, &["fsck", &bed.url("vol.db"), "--path", "/", "--recursive", "--sync-dir-stat", "--repair"]);
    assert_eq!(rows(&bed, "vol.db", DIR_STATS), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_changed_by_either_side_are_read_by_the_other() {
    let Some(juicefs) = JuiceFs::find("settings_changed_by_either_side_are_read_by_the_other") else { return };
    let bed = Bed::new();
    let meta = volume(&bed).await;
    juicefs.run(&bed, &["config", &bed.url("vol.db"), "--trash-days", "9", "--capacity", "3", "--yes"]);
    let changed = meta.settings().await.unwrap();
    assert_eq!((changed.trash_days, changed.capacity), (9, 3 << 30));
    meta.update_settings(&Settings { trash_days: 4, ..changed }).await.unwrap();
    let status = juicefs.run(&bed, &["status", &bed.url("vol.db")]);
    assert!(status.contains("\"TrashDays\": 4"), "{status}");
    let refused = juicefs.refuses(&bed, &["format", &bed.url("vol.db"), "another", "--bucket", &bucket(&bed)]);
    assert!(refused.contains("conform") || refused.contains("another"), "{refused}");
    assert_eq!(meta.resolve_path(b"/").await.unwrap().unwrap().0, Ino::ROOT);
}
