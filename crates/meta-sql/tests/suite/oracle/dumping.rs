//! Dumps: ours are the real client's to the byte, and a volume moves from one database to another by either.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use shoal_meta::Meta;
use shoal_meta::dump::{DumpOptions, dump_json};
use shoal_meta::load::load_json;
use shoal_meta_sql::{OpenMode, open};
use shoal_testkit::{SqlKind, SqlServer};
use tokio::sync::mpsc;

use super::super::bed::Bed;
use super::client::{JuiceFs, bucket};
use super::from_juicefs::{assert_dumped, odd_tree};

async fn dumped(meta: &Meta) -> String {
    let (sender, mut parts) = mpsc::channel::<Bytes>(4);
    let names = AtomicU64::default();
    let options = DumpOptions { keep_secrets: true, ..DumpOptions::default() };
    let mut text = Vec::new();
    let collect = async {
        while let Some(part) = parts.recv().await {
            text.extend_from_slice(&part);
        }
    };
    let (done, ()) = tokio::join!(dump_json(meta, &options, sender, &names), collect);
    done.unwrap();
    String::from_utf8(text).unwrap()
}

/// A dump without the counters: a loaded volume has no sessions, and its ids begin elsewhere.
fn without_counters(text: &str) -> String {
    let (before, rest) = text.split_once("  \"Counters\"").expect("a dump has counters");
    format!("{before}{}", rest.split_once("},\n").expect("they end").1)
}

#[track_caller]
fn assert_same_text(ours: &str, theirs: &str, what: &str) {
    for (number, (our_line, their_line)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(our_line, their_line, "{what}: line {}", number + 1);
    }
    assert_eq!(ours.len(), theirs.len(), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_moves_from_sqlite_to_servers_and_back() {
    let test = "a_volume_moves_from_sqlite_to_servers_and_back";
    let Some(juicefs) = JuiceFs::find(test) else { return };
    let bed = Bed::new();
    let (empty, source) = (bed.url("empty.db"), bed.url("source.db"));
    juicefs.run(&bed, &["format", &empty, "moved", "--storage", "file", "--bucket", &bucket(&bed)]);
    let setting = juicefs.dump_of(&bed, &empty)["Setting"].take();
    // Columns for owners hold 31 bits on servers.
    std::fs::write(bed.path("odd.json"), odd_tree(setting, 2_000_000_000).to_string()).unwrap();
    juicefs.run(&bed, &["load", &source, "odd.json"]);
    juicefs.dump_of(&bed, &source);
    let theirs = std::fs::read_to_string(bed.path("dump.json")).unwrap();
    let meta = bed.open("source.db", OpenMode::ReadOnly).await;
    let ours = dumped(&meta).await;
    assert_same_text(&ours, &theirs, "SQLite");

    let mut urls = vec![bed.url("copy.db")];
    for kind in SqlKind::ALL {
        if let Some(server) = SqlServer::shared(kind) {
            urls.push(server.fresh_url());
        }
    }
    for url in urls {
        let copy = Meta::new(open(&url, OpenMode::Create).await.unwrap());
        let loaded = load_json(&copy, std::io::Cursor::new(theirs.clone()), &AtomicU64::default()).await;
        assert_eq!(loaded.unwrap(), meta.settings().await.unwrap());
        assert_dumped(juicefs.dump_of(&bed, &url), &copy).await;
        let theirs = std::fs::read_to_string(bed.path("dump.json")).unwrap();
        assert_same_text(&without_counters(&theirs), &without_counters(&ours), &url);
        assert_same_text(&dumped(&copy).await, &theirs, &url);
        // The objects of its slices are not there, which is none of a dump's business.
        let checked = juicefs.refuses(&bed, &["fsck", &url, "--path", "/", "--recursive"]);
        assert!(!checked.contains("should be") && checked.contains("objects are lost"), "{url}: {checked}");
        copy.close().await;
    }
}
