//! Ids, bulk loads and their accounting.

use std::collections::HashSet;

use shoal_format::{CHUNK_BYTES, FileType, Ino, Settings, SliceRecord};
use shoal_runtime::task;

use super::Case;
use super::sample::{BatchBuilder, TIME, attr, settings};
use crate::ops::{ImportBatch, MkdirP};
use crate::record::{Counter, DirUsage};

pub(super) async fn ids_are_disjoint_under_concurrency(case: &Case) {
    case.init().await;
    let takers: Vec<_> = (1..=16u64)
        .map(|n| {
            let meta = case.meta.clone();
            task::spawn("take-ids", async move { (meta.alloc_inodes(n).await, meta.alloc_slices(n).await) })
        })
        .collect();
    let (mut inodes, mut slices) = (HashSet::new(), HashSet::new());
    for taker in takers {
        let (inode, slice) = case.ok(taker.await);
        assert!(case.ok(inode).all(|id| inodes.insert(id)), "an inode was given twice");
        assert!(case.ok(slice).all(|id| slices.insert(id)), "a slice was given twice");
    }
    let total = (1..=16).sum::<u64>();
    assert_eq!(inodes, (2..2 + total).collect());
    assert_eq!(slices, (1..1 + total).collect());
    for n in [0, u64::MAX] {
        assert!(case.meta.alloc_inodes(n).await.is_err());
    }
}

pub(super) async fn import_accounts_space_inodes_and_directories(case: &Case) {
    case.init().await;
    let before = case.some(case.meta.getattr(Ino::ROOT).await);
    let d = case.ok(case.meta.alloc_inodes(6).await).start;
    let batch = BatchBuilder::new()
        .dir(1, b"d", d)
        .dir(d, b"sub", d + 1)
        .file(d, b"empty", d + 2, 0)
        .file(d, b"big", d + 3, 100_006)
        .symlink(d, b"link", d + 4, b"target")
        .entry(1, b"fifo", d + 5, attr(FileType::Fifo, 0o600));
    case.ok(case.meta.import(batch.build()).await);

    let fs = case.ok(case.meta.statfs().await);
    assert_eq!((fs.used_bytes, fs.used_inodes), (5 * 4096 + 102_400, 6));
    let root = case.some(case.meta.getattr(Ino::ROOT).await);
    assert_eq!(root.nlink, 3);
    assert!(root.mtime >= before.mtime && root.ctime >= before.ctime && root.atime == before.atime);
    assert_eq!(case.some(case.meta.getattr(Ino(d)).await).nlink, 3);
    let usage = async |dir: u64| case.ok(case.engine.records().dir_usage(Ino(dir)).await);
    let expect = |length, space, inodes| Some(DirUsage { length, space, inodes });
    assert_eq!(usage(1).await, expect(0, 8192, 2));
    assert_eq!(usage(d).await, expect(100_006, 3 * 4096 + 102_400, 4));
    assert_eq!(usage(d + 1).await, expect(0, 0, 0));

    let more = case.ok(case.meta.alloc_inodes(2).await).start;
    let batch = BatchBuilder::new().file(d + 1, b"late", more, 5000).dir(d + 1, b"dir", more + 1);
    case.ok(case.meta.import(batch.build()).await);
    assert_eq!(usage(d + 1).await, expect(5000, 8192 + 4096, 2));
    assert_eq!(case.some(case.meta.getattr(Ino(d + 1)).await).nlink, 3);
    assert_eq!(case.ok(case.meta.statfs().await).used_inodes, 8);
}

pub(super) async fn directories_of_an_import_keep_their_times_in_later_batches(case: &Case) {
    case.init().await;
    let d = case.ok(case.meta.alloc_inodes(5).await).start;
    let batch = async |builder: BatchBuilder, first_inode| {
        case.ok(case.meta.import(ImportBatch { first_inode, ..builder.build() }).await);
        case.some(case.meta.getattr(Ino(d)).await)
    };
    batch(BatchBuilder::new().dir(1, b"d", d), Some(Ino(d))).await;
    let same = batch(BatchBuilder::new().dir(d, b"sub", d + 1).file(d, b"f", d + 2, 0), Some(Ino(d))).await;
    assert_eq!((same.mtime, same.ctime, same.nlink), (TIME, TIME, 3));
    // To another import it is a directory like any other.
    let other = batch(BatchBuilder::new().file(d, b"g", d + 3, 0), Some(Ino(d + 3))).await;
    assert!(other.mtime > TIME && other.ctime > TIME);
    let last = batch(BatchBuilder::new().file(d, b"h", d + 4, 0), None).await;
    assert!(last.mtime >= other.mtime);
}

pub(super) async fn hard_links_count_names_and_lose_their_parent(case: &Case) {
    case.init().await;
    let d = case.ok(case.meta.alloc_inodes(3).await).start;
    let file = d + 2;
    let batch = BatchBuilder::new()
        .dir(1, b"a", d)
        .dir(1, b"b", d + 1)
        .file(d, b"one", file, 5000)
        .link(d, b"two", file)
        .link(d + 1, b"three", file);
    case.ok(case.meta.import(batch.build()).await);
    let attr = case.some(case.meta.getattr(Ino(file)).await);
    assert_eq!((attr.nlink, attr.parent), (3, Ino::NONE));
    let parents = case.ok(case.engine.records().parents(Ino(file)).await);
    assert_eq!(parents.iter().map(|p| (p.parent.0, p.count)).collect::<Vec<_>>(), [(d, 2), (d + 1, 1)]);
    for (dir, name) in [(d, "one"), (d, "two"), (d + 1, "three")] {
        assert_eq!(case.some(case.meta.lookup(Ino(dir), name.as_bytes()).await), (Ino(file), attr.clone()));
    }
    // The volume counts the inode once, directories count each name (spec section 16.2).
    let fs = case.ok(case.meta.statfs().await);
    assert_eq!((fs.used_bytes, fs.used_inodes), (2 * 4096 + 8192, 3));
    let usage = case.ok(case.engine.records().dir_usage(Ino(d)).await);
    assert_eq!(usage, Some(DirUsage { length: 10_000, space: 16_384, inodes: 2 }));
}

pub(super) async fn existing_file_gets_a_second_name(case: &Case) {
    case.init().await;
    let d = case.ok(case.meta.alloc_inodes(3).await).start;
    let batch = BatchBuilder::new().dir(1, b"d", d).file(1, b"f", d + 1, 100);
    case.ok(case.meta.import(batch.build()).await);
    case.ok(case.meta.import(BatchBuilder::new().link(d, b"again", d + 1).build()).await);
    let attr = case.some(case.meta.getattr(Ino(d + 1)).await);
    assert_eq!((attr.nlink, attr.parent), (2, Ino::NONE));
    let parents = case.ok(case.engine.records().parents(Ino(d + 1)).await);
    assert_eq!(parents.iter().map(|p| (p.parent.0, p.count)).collect::<Vec<_>>(), [(1, 1), (d, 1)]);
    let usage = case.ok(case.engine.records().dir_usage(Ino(d)).await);
    assert_eq!(usage, Some(DirUsage { length: 100, space: 4096, inodes: 1 }));
    assert_eq!(case.ok(case.meta.statfs().await).used_inodes, 2);
    assert!(case.meta.import(BatchBuilder::new().link(1, b"no", d).build()).await.is_err(), "a directory");
}

pub(super) async fn chunk_lists_and_references_are_stored(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(2).await).start;
    let s = case.ok(case.meta.alloc_slices(3).await).start;
    let first = [SliceRecord::whole(0, s, 4 << 20), SliceRecord::hole(5 << 20, 100)];
    let shared = [SliceRecord { pos: 7, id: s, size: 4 << 20, off: 9, len: 11 }];
    let mut batch = BatchBuilder::new().sliced(1, b"f", f, &first).sliced(1, b"g", f + 1, &shared).build();
    let last = SliceRecord::whole(0, s + 1, 1);
    batch.entries[0].chunks.push((3, vec![last]));
    batch.entries[0].attr.length = 3 * CHUNK_BYTES + 1;
    case.ok(case.meta.import(batch).await);
    assert_eq!(case.ok(case.meta.chunk(Ino(f), 0).await), first);
    assert_eq!(case.ok(case.meta.chunk(Ino(f), 1).await), []);
    assert_eq!(case.ok(case.meta.chunk(Ino(f), 3).await), [last]);
    assert_eq!(case.ok(case.meta.chunk(Ino(f + 1), 0).await), shared);
    let indexes = async |range| {
        let chunks = case.ok(case.meta.chunks(Ino(f), range).await);
        chunks.into_iter().map(|chunk| (chunk.index, chunk.slices.len())).collect::<Vec<_>>()
    };
    assert_eq!(indexes(0..u32::MAX).await, [(0, 2), (3, 1)]);
    assert_eq!(indexes(1..3).await, []);
    assert_eq!(indexes(3..4).await, [(3, 1)]);
    assert_eq!(case.some(case.meta.getattr(Ino(f)).await).length, 3 * CHUNK_BYTES + 1);
}

pub(super) async fn thousands_of_files_in_one_batch(case: &Case) {
    const FILES: u64 = 3000;
    case.init().await;
    let ids = case.ok(case.meta.alloc_inodes(FILES + 1).await);
    let slices = case.ok(case.meta.alloc_slices(FILES).await);
    let dir = ids.start;
    let mut batch = BatchBuilder::new().dir(1, b"many", dir);
    for (id, slice) in ids.skip(1).zip(slices) {
        batch = batch.sliced(dir, format!("f{id:05}").as_bytes(), id, &[SliceRecord::whole(0, slice, 10)]);
    }
    case.ok(case.meta.import(batch.build()).await);
    let listed = case.ok(case.meta.readdir(Ino(dir)).await);
    assert_eq!(listed.len() as u64, FILES);
    assert!(listed.is_sorted_by(|a, b| a.name < b.name));
    let usage = case.ok(case.engine.records().dir_usage(Ino(dir)).await);
    let (length, space) = (10 * FILES as i64, 4096 * FILES as i64);
    assert_eq!(usage, Some(DirUsage { length, space, inodes: FILES as i64 }));
    assert_eq!(case.ok(case.engine.records().counter(Counter::TotalInodes).await), FILES as i64 + 1);
}

pub(super) async fn unknown_directory_usage_is_counted_from_the_listing(case: &Case) {
    // A volume without statistics, then with: the first change after that finds no record and counts.
    case.ok(case.meta.init(&Settings { dir_stats: false, ..settings() }, false).await);
    let f = case.ok(case.meta.alloc_inodes(2).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"old", f, 9000).build()).await);
    assert_eq!(case.ok(case.engine.records().dir_usage(Ino::ROOT).await), None);
    case.ok(case.meta.update_settings(&settings()).await);
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"new", f + 1, 1).build()).await);
    let usage = case.ok(case.engine.records().dir_usage(Ino::ROOT).await);
    assert_eq!(usage, Some(DirUsage { length: 9001, space: 12_288 + 4096, inodes: 2 }));
}

pub(super) async fn mkdir_p_creates_what_is_missing_once(case: &Case) {
    case.init().await;
    let how = MkdirP { mode: 0o2750, uid: 7, gid: 8 };
    let (ino, attr) = case.ok(case.meta.mkdir_p(b"/a/b/c", how).await);
    assert_eq!((attr.kind, attr.mode, attr.uid, attr.gid), (FileType::Directory, 0o2750, 7, 8));
    assert_eq!(case.ok(case.meta.mkdir_p(b"a//b/./c/", MkdirP::default()).await), (ino, attr));
    assert_eq!(case.ok(case.meta.statfs().await).used_inodes, 3);
    // Below a set-group-id directory group and bit are inherited.
    let (deep, attr) = case.ok(case.meta.mkdir_p(b"/a/b/c/d", MkdirP { mode: 0o700, uid: 1, gid: 1 }).await);
    assert_eq!((attr.mode, attr.uid, attr.gid, attr.parent), (0o2700, 1, 8, ino));
    let a = case.some(case.meta.resolve_path(b"a").await);
    assert_eq!(a.1.nlink, 3);
    assert_eq!(case.ok(case.meta.mkdir_p(b"/", how).await).0, Ino::ROOT);

    let f = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(deep.0, b"file", f, 0).build()).await);
    for path in [&b"/a/b/c/d/file/x"[..], b"/a/b/c/d/file", b"/.trash/x", b"/.stats/x", b"/a/../b", b"/.stats"] {
        assert!(case.meta.mkdir_p(path, how).await.is_err(), "{}", path.escape_ascii());
    }
    let text = case.meta.mkdir_p(b"/a/b/c/d/file/x", how).await.expect_err("a file").to_string();
    assert_eq!(text, "`/a/b/c/d/file` is not a directory");
}
