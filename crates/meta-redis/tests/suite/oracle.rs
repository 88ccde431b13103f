//! The real client judges: what one makes, the other reads, checks and changes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use shoal_format::{Attr, FileType, Ino, Settings, SliceRecord};
use shoal_meta::testing::sample::{BatchBuilder, attr, settings};
use shoal_meta::{Meta, MkdirP, OpenMode};
use shoal_meta_redis::open;
use shoal_testkit::{RedisServer, TestDir, skipped};

use crate::listing::{sorted, tree};

/// The real client, in a directory of its own.
struct JuiceFs {
    binary: PathBuf,
    dir: TestDir,
}

impl JuiceFs {
    fn find() -> Option<JuiceFs> {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/juicefs");
        let binary = std::env::var_os("SHOAL_JUICEFS").map_or(venv, PathBuf::from);
        if !binary.is_file() {
            skipped("the JuiceFS client is not installed: scripts/install-deps --test");
            return None;
        }
        Some(JuiceFs { binary, dir: TestDir::new("redis-oracle") })
    }

    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.binary);
        command.arg("--no-agent").args(words).current_dir(self.dir.join("")).stdin(Stdio::null());
        let output = command.env("HOME", self.dir.join("")).output().expect("juicefs runs");
        let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
        assert!(output.status.success(), "juicefs {words:?} failed:\n{text}");
        text
    }

    fn bucket(&self) -> String {
        format!("{}/", self.dir.join("bucket").display())
    }

    fn format(&self, url: &str) {
        self.run(&["format", url, "conform", "--storage", "file", "--bucket", &self.bucket()]);
    }

    fn dump(&self, url: &str) -> Value {
        self.run(&["dump", url, "dump.json", "--keep-secret-key"]);
        serde_json::from_slice(&std::fs::read(self.dir.join("dump.json")).expect("a dump")).expect("a dump is JSON")
    }

    fn put_object(&self, key: &str, bytes: &[u8]) {
        let path = self.dir.join("bucket").join("conform").join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The dump and our listing, of root and trash, must be equal.
async fn assert_dumped(mut dump: Value, meta: &Meta) {
    for (key, ino) in [("FSTree", Ino::ROOT), ("Trash", Ino::TRASH)] {
        let attr = meta.getattr(ino).await.unwrap().unwrap();
        assert_eq!(tree(meta, ino, &attr).await, sorted(dump[key].take()), "{key}");
    }
    let fs = meta.statfs().await.unwrap();
    assert_eq!(json!(fs.used_bytes), dump["Counters"]["usedSpace"]);
    assert_eq!(json!(fs.used_inodes), dump["Counters"]["usedInodes"]);
}

/// A volume of ours with every kind of inode, hard links, extended attributes, a file with data.
async fn filled(juicefs: &JuiceFs, url: &str) -> Meta {
    let meta = Meta::new(open(url, OpenMode::Create).await.unwrap());
    let settings = Settings { bucket: juicefs.bucket(), ..settings() };
    meta.init(&settings, false).await.unwrap();
    juicefs.put_object("juicefs_uuid", settings.uuid.as_bytes());
    let (target, _) = meta.mkdir_p(b"/data/set", MkdirP { mode: 0o2755, uid: 1, gid: 2 }).await.unwrap();
    let i = meta.alloc_inodes(20).await.unwrap().start;
    let s = meta.alloc_slices(2).await.unwrap().start;
    let data = vec![42u8; 100_000];
    juicefs.put_object(&format!("chunks/0/0/{s}_0_{}", data.len()), &data);
    let device = Attr { rdev: 259, uid: 4_000_000_000, ..attr(FileType::CharDevice, 0o600) };
    let batch = BatchBuilder::new()
        .dir(target.0, b"a", i)
        .dir(i, b"deep", i + 1)
        .file(i, b"zero", i + 3, 0)
        .xattr(b"user.origin", b"s3://bucket/key")
        .xattr(b"user.empty", b"")
        .sliced(i, b"data", i + 4, &[SliceRecord::whole(0, s, data.len() as u32)])
        .sliced(i, b"shares", i + 12, &[SliceRecord::whole(0, s, data.len() as u32)])
        .symlink(i, b"link", i + 5, b"deep/../zero")
        .entry(i + 1, b"fifo", i + 6, attr(FileType::Fifo, 0o600))
        .entry(i + 1, b"dev", i + 7, device)
        .entry(i + 1, b"sock", i + 8, attr(FileType::Socket, 0o600))
        .file(i + 1, b"sparse", i + 9, 200 << 20)
        .file(1, "größe und \u{1F980}".as_bytes(), i + 10, 5)
        .file(1, b"\xff\xfe 100%\"\\", i + 11, 0)
        .link(i + 1, b"again", i + 4)
        .link(i, b"data2", i + 4)
        .link(1, b"zero-link", i + 3);
    meta.import(batch.build()).await.unwrap();
    let late = meta.alloc_inodes(1).await.unwrap().start;
    meta.import(BatchBuilder::new().dir(i, b"late", late).link(late, b"x", i + 9).build()).await.unwrap();
    meta
}

/// Keys of a database with their types, without numbers.
fn schema(server: &RedisServer, url: &str) -> Vec<String> {
    let keys = server.tell(url, &["KEYS", "*"]);
    let mut all: Vec<String> = keys.lines().map(|key| format!("{key} {}", server.tell(url, &["TYPE", key]))).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_volume_has_the_keys_of_a_new_one_of_juicefs() {
    let (Some(juicefs), Some(server)) = (JuiceFs::find(), RedisServer::shared()) else { return };
    let (ours, theirs) = (server.fresh_url(), server.fresh_url());
    juicefs.format(&theirs);
    Meta::new(open(&ours, OpenMode::Create).await.unwrap()).init(&settings(), false).await.unwrap();
    let of_ours = schema(server, &ours);
    // Ours has statistics of its empty root from the start, theirs from the first entry on.
    let of_ours: Vec<_> = of_ours.into_iter().filter(|key| !key.starts_with("dir")).collect();
    assert_eq!(of_ours, schema(server, &theirs));
    let theirs = Meta::new(open(&theirs, OpenMode::ReadOnly).await.unwrap());
    let ours = Meta::new(open(&ours, OpenMode::ReadOnly).await.unwrap());
    for ino in [Ino::ROOT, Ino::TRASH] {
        let zeroed = async |meta: &Meta| {
            let found = meta.getattr(ino).await.unwrap().unwrap();
            Attr { atime: Default::default(), mtime: Default::default(), ctime: Default::default(), ..found }
        };
        assert_eq!(zeroed(&ours).await, zeroed(&theirs).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_made_by_us_passes_every_check_of_juicefs_and_grows_by_it() {
    let (Some(juicefs), Some(server)) = (JuiceFs::find(), RedisServer::shared()) else { return };
    let url = server.fresh_url();
    let meta = filled(&juicefs, &url).await;
    assert_dumped(juicefs.dump(&url), &meta).await;
    juicefs.run(&["fsck", &url]);
    let report = juicefs.run(&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat", "--repair"]);
    assert!(!report.contains("should be"), "{report}");
    let gc = juicefs.run(&["gc", &url, "--delete"]);
    assert!(gc.contains("0 leaked"), "{gc}");
    assert_dumped(juicefs.dump(&url), &meta).await;

    std::fs::create_dir_all(juicefs.dir.join("src/more")).unwrap();
    std::fs::write(juicefs.dir.join("src/more/file"), "from juicefs").unwrap();
    let mut sync = Command::new(&juicefs.binary);
    sync.args(["--no-agent", "sync", "--dirs", "src/", "jfs://VOL/data/"]).env("VOL", &url);
    let output = sync.current_dir(juicefs.dir.join("")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (ino, attr) = meta.resolve_path(b"/data/more/file").await.unwrap().unwrap();
    assert_eq!((attr.length, meta.chunk(ino, 0).await.unwrap().len()), (12, 1));
    // Its ids and ours come from the same counters and never meet.
    let ours = meta.alloc_inodes(1).await.unwrap().start;
    assert!(ours > ino.0);
    meta.import(BatchBuilder::new().file(attr.parent.0, b"ours", ours, 1).build()).await.unwrap();
    assert_dumped(juicefs.dump(&url), &meta).await;
    let report = juicefs.run(&["fsck", &url, "--path", "/", "--recursive", "--sync-dir-stat", "--repair"]);
    assert!(!report.contains("should be"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_loaded_by_juicefs_reads_the_same() {
    let (Some(juicefs), Some(server)) = (JuiceFs::find(), RedisServer::shared()) else { return };
    let (ours, theirs) = (server.fresh_url(), server.fresh_url());
    let meta = filled(&juicefs, &ours).await;
    let dump = juicefs.dump(&ours);
    juicefs.run(&["load", &theirs, "dump.json"]);
    let loaded = Meta::new(open(&theirs, OpenMode::ReadOnly).await.unwrap());
    assert_dumped(juicefs.dump(&theirs), &loaded).await;
    let attr = meta.getattr(Ino::ROOT).await.unwrap().unwrap();
    assert_eq!(tree(&meta, Ino::ROOT, &attr).await, sorted(dump["FSTree"].clone()));
    let hard = loaded.resolve_path(b"/data/set/a/data").await.unwrap().unwrap();
    assert_eq!((hard.1.nlink, hard.1.parent), (3, Ino::NONE));
}
