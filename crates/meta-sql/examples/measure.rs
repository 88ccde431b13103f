//! How fast metadata in SQLite is on this machine: bulk load, lookups, listings.
//!
//! `cargo run --release -p shoal-meta-sql --example measure -- [files] [directory]`

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, Settings, SliceRecord};
use shoal_meta::{ImportBatch, ImportEntry, Meta, MkdirP};
use shoal_meta_sql::{OpenMode, open};
use shoal_runtime::{clock, task};

const BATCH: u64 = 10_000;
const LOOKUPS: u64 = 50_000;
const LISTINGS: u32 = 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let files: u64 = args.next().map_or(Ok(50_000), |text| text.parse())?;
    let scratch = tempfile::TempDir::new()?;
    let dir = args.next().map_or(scratch.path().to_owned(), PathBuf::from);
    let url = format!("sqlite3://{}", dir.join("measure.db").display());
    let meta = Meta::new(open(&url, OpenMode::Create).await?);
    meta.init(&Settings::new("measure", "3a8892bf-10f1-473c-bdf0-b8ed81207873"), false).await?;

    let (dir, _) = meta.mkdir_p(b"/data", MkdirP::default()).await?;
    let start = clock::now();
    for first in (0..files).step_by(BATCH as usize) {
        import(&meta, dir, first..files.min(first + BATCH)).await?;
    }
    report("import", files, clock::now() - start);

    for tasks in [1, 2, 8] {
        let start = clock::now();
        let workers: Vec<_> =
            (0..tasks).map(|n| task::spawn("lookups", lookups(meta.clone(), dir, files, n))).collect();
        for worker in workers {
            worker.await??;
        }
        report(&format!("lookup, {tasks} at once"), LOOKUPS * tasks, clock::now() - start);
    }
    let mut best = Duration::MAX;
    for _ in 0..LISTINGS {
        let start = clock::now();
        assert_eq!(meta.readdir(dir).await?.len() as u64, files);
        best = best.min(clock::now() - start);
    }
    report(&format!("readdir with attributes, best of {LISTINGS}"), files, best);
    Ok(())
}

async fn import(meta: &Meta, dir: Ino, numbers: std::ops::Range<u64>) -> Result<(), shoal_meta::MetaError> {
    let count = numbers.end - numbers.start;
    let inodes = meta.alloc_inodes(count).await?;
    let slices = meta.alloc_slices(count).await?;
    let entries = numbers.zip(inodes).zip(slices).map(|((number, ino), slice)| ImportEntry {
        parent: dir,
        name: Bytes::from(name(number)),
        ino: Ino(ino),
        attr: Attr { length: 1000, ..Attr::new(FileType::Regular, 0o644, dir, Default::default()) },
        symlink: None,
        xattrs: Vec::new(),
        chunks: vec![(0, vec![SliceRecord::whole(0, slice, 1000)])],
    });
    meta.import(ImportBatch { entries: entries.collect(), links: Vec::new(), first_inode: None }).await
}

async fn lookups(meta: Meta, dir: Ino, files: u64, seed: u64) -> Result<(), shoal_meta::MetaError> {
    for n in 0..LOOKUPS {
        let number = (n * 7919 + seed * 104_729) % files;
        assert!(meta.lookup(dir, name(number).as_bytes()).await?.is_some());
    }
    Ok(())
}

fn name(number: u64) -> String {
    format!("sample-{number:08}.jpg")
}

fn report(what: &str, count: u64, took: Duration) {
    let each = took.as_secs_f64() / count as f64;
    println!("{what}: {count} in {:.2} s, {:.0}/s, {:.1} us each", took.as_secs_f64(), 1.0 / each, each * 1e6);
}
