//! What a transaction promises.

use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, SliceRecord, Time};
use shoal_runtime::task;

use super::Case;
use super::sample::{BatchBuilder, attr};
use crate::engine::Foreseen;
use crate::record::{ChunkSlices, Counter, DirTouch, IdKind, Xattr};

pub(super) async fn own_writes_are_seen_inside_and_nothing_outside(case: &Case) {
    case.init().await;
    let file = attr(FileType::Regular, 0o600);
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.insert_attrs(&[(Ino(50), file.clone())]).await);
    case.ok(txn.add_counter(Counter::UsedSpace, 4096).await);
    assert_eq!(case.ok(txn.attr(Ino(50)).await), Some(file.clone()));
    assert_eq!(case.ok(txn.counter(Counter::UsedSpace).await), 4096);
    assert_eq!(case.ok(case.meta.getattr(Ino(50)).await), None);
    case.ok(txn.commit().await);
    assert_eq!(case.ok(case.meta.getattr(Ino(50)).await), Some(file));
}

pub(super) async fn dropped_transaction_leaves_nothing(case: &Case) {
    case.init().await;
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.take_ids(IdKind::Inode, 100).await);
    case.ok(txn.insert_attrs(&[(Ino(50), attr(FileType::Regular, 0o600))]).await);
    drop(txn);
    assert_eq!(case.ok(case.meta.alloc_inodes(1).await), 2..3);
    assert_eq!(case.ok(case.meta.getattr(Ino(50)).await), None);
}

pub(super) async fn what_was_foreseen_is_not_older_than_what_was_written_since(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", f, 7).build()).await);
    let txn = case.ok(case.engine.begin().await);
    let [name, none] = [&b"f"[..], b"g"].map(|name| Foreseen::Entry(Ino::ROOT, name));
    let (locked, count) = (Foreseen::LockedEntry(Ino::ROOT, b"f"), Foreseen::SliceCount(Ino(f), 0));
    let absent = Foreseen::LockedEntry(Ino::ROOT, b"g");
    case.ok(txn
        .foresee(&[Foreseen::Held(Ino::ROOT), name, locked, absent, count, Foreseen::Locked(Ino(9999)), none])
        .await);
    assert!(case.ok(txn.attrs_held(&[Ino::ROOT]).await)[0].as_ref().is_some_and(Attr::is_dir));
    let entry = case.ok(txn.entry(Ino::ROOT, b"f").await);
    assert_eq!(entry.map(|entry| entry.dentry.ino), Some(Ino(f)));
    let attr = case.ok(txn.attrs_locked(&[Ino(f)]).await).pop().flatten().expect("the file's attributes");
    assert_eq!(attr.length, 7);
    let before = case.ok(txn.slice_count(Ino(f), 0).await);
    assert_eq!(case.ok(txn.attrs_locked(&[Ino(9999)]).await), [None]);
    assert_eq!(case.ok(txn.entry(Ino::ROOT, b"g").await), None);

    case.ok(txn.foresee(&[count, Foreseen::Locked(Ino(f)), none, name]).await);
    let slices = vec![SliceRecord { pos: 0, id: 900, size: 1, off: 0, len: 1 }];
    case.ok(txn.append_slices(&[ChunkSlices { ino: Ino(f), index: 0, slices }]).await);
    assert_eq!(case.ok(txn.slice_count(Ino(f), 0).await), before + 1);
    case.ok(txn.foresee(&[Foreseen::Locked(Ino(f)), none]).await);
    let grown = Attr { length: 8, ..attr };
    case.ok(txn.update_attrs(&[(Ino(f), grown.clone())]).await);
    assert_eq!(case.ok(txn.attrs_locked(&[Ino(f)]).await), [Some(grown)]);
    case.ok(txn.commit().await);
}

pub(super) async fn lists_grow_in_order(case: &Case) {
    case.init().await;
    // Bytes of every kind, so that a list stored as text would show.
    let records: Vec<SliceRecord> = (0..5)
        .map(|n| SliceRecord { pos: n, id: u64::MAX >> n, size: 0x00FF_0080, off: 0, len: n << 24 | 1 })
        .collect();
    for record in &records {
        let txn = case.ok(case.engine.begin().await);
        let part = ChunkSlices { ino: Ino(9), index: 7, slices: vec![*record] };
        case.ok(txn.append_slices(&[part]).await);
        let value = Bytes::copy_from_slice(&record.encode());
        case.ok(txn.put_xattrs(&[Xattr { ino: Ino(9), name: "user.last".into(), value }]).await);
        case.ok(txn.commit().await);
    }
    assert_eq!(case.ok(case.meta.chunk(Ino(9), 7).await), records);
    let last = case.some(case.meta.getxattr(Ino(9), b"user.last").await);
    assert_eq!(last[..], records[4].encode());
}

pub(super) async fn many_attributes_come_in_order(case: &Case) {
    case.init().await;
    let ids = case.ok(case.meta.alloc_inodes(200).await);
    let batch = ids.clone().fold(BatchBuilder::new(), |batch, id| batch.file(1, id.to_string().as_bytes(), id, id));
    case.ok(case.meta.import(batch.build()).await);
    let asked: Vec<Ino> = ids.rev().chain([9999, 1, 1]).map(Ino).collect();
    let found = case.ok(case.meta.getattrs(&asked).await);
    assert_eq!(found.len(), asked.len());
    for (ino, attr) in asked.iter().zip(found) {
        assert_eq!(attr.map(|attr| attr.length), (ino.0 != 9999).then_some(if ino.0 == 1 { 4096 } else { ino.0 }));
    }
    assert_eq!(case.ok(case.meta.getattrs(&[]).await), []);
}

pub(super) async fn touching_directories_adds_to_what_is_there(case: &Case) {
    case.init().await;
    let d = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().dir(1, b"d", d).build()).await);
    let before = case.some(case.meta.getattr(Ino(d)).await);
    let (mtime, ctime) = (Time { secs: 5, nanos: 123_456_789 }, Time { secs: -6, nanos: 1 });
    let touch = |ino, nlink| DirTouch { ino, nlink, mtime, ctime };
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.touch_dirs(&[touch(Ino::ROOT, 0), touch(Ino(d), 3), touch(Ino(d), -1)]).await);
    assert_eq!(case.ok(txn.attrs_locked(&[Ino(d), Ino(999)]).await)[0].as_ref().map(|attr| attr.nlink), Some(4));
    case.ok(txn.commit().await);
    assert_eq!(case.some(case.meta.getattr(Ino(d)).await), Attr { nlink: 4, mtime, ctime, ..before });
    assert_eq!(case.some(case.meta.getattr(Ino::ROOT).await).mtime, mtime);
    let txn = case.ok(case.engine.begin().await);
    let touched = txn.touch_dirs(&[touch(Ino::ROOT, 1), touch(Ino(999), 1)]).await;
    let error = touched.and(txn.write_now().await).expect_err("no such directory");
    assert_eq!(error.to_string(), "inode 999 does not exist");
}

pub(super) async fn writers_take_turns(case: &Case) {
    const WRITERS: u64 = 8;
    case.init().await;
    let ids = case.ok(case.meta.alloc_inodes(WRITERS).await);
    let writers: Vec<_> = ids
        .map(|id| {
            let meta = case.meta.clone();
            let batch = BatchBuilder::new().dir(1, id.to_string().as_bytes(), id).build();
            task::spawn("import", async move { meta.import(batch).await })
        })
        .collect();
    for writer in writers {
        case.ok(case.ok(writer.await));
    }
    // Every increment of the root's link count survived the others.
    assert_eq!(u64::from(case.some(case.meta.getattr(Ino::ROOT).await).nlink), 2 + WRITERS);
    assert_eq!(case.ok(case.meta.statfs().await).used_inodes, WRITERS);
}
