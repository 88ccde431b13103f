//! Rules on the contents of files: writing, cutting, filling, copying, taking away.

use shoal_format::{Attr, CHUNK_BYTES, FileType, Ino, Settings, SliceRecord, Time};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, attr, settings};
use crate::error::MetaError;
use crate::ops::{Compacted, Fallocate, FileRange, plan_compaction};
use crate::record::{ChunkSlices, Counter, DelayedSlices, DirUsage, SliceRef, align4k};
use crate::session::Session;

/// When every write of these cases was.
const WRITTEN: Time = Time { secs: 1_700_000_777, nanos: 5000 };

/// A session on a fresh volume, and an empty file in the root.
async fn with_file(case: &Case, settings: &Settings) -> (Session, Ino) {
    case.ok(case.meta.init(settings, false).await);
    let ino = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", ino, 0).build()).await);
    (case.join().await, Ino(ino))
}

fn chunk(ino: Ino, index: u32, records: &[SliceRecord]) -> ChunkSlices {
    ChunkSlices { ino, index, slices: records.to_vec() }
}

/// Writes a fresh slice; returns its id.
async fn write(case: &Case, session: &Session, ino: Ino, (index, pos): (u32, u32), len: u32) -> u64 {
    let id = case.ok(session.new_slice().await);
    let record = SliceRecord::whole(pos, id, len);
    case.ok(session.write(ino, &[chunk(ino, index, &[record])], WRITTEN).await);
    id
}

/// Use of the volume and of the root's children, as accounted.
async fn accounted(case: &Case, session: &Session) -> (i64, DirUsage) {
    case.ok(session.flush_accounts().await);
    let records = case.engine.records();
    let usage = case.some(records.dir_usage(Ino::ROOT).await);
    (case.ok(records.counter(Counter::UsedSpace).await), usage)
}

async fn attr_of(case: &Case, ino: Ino) -> Attr {
    case.some(case.meta.getattr(ino).await)
}

pub(super) async fn written_slices_show_and_count(case: &Case) {
    let (session, f) = with_file(case, &settings()).await;
    let a = write(case, &session, f, (0, 0), 5000).await;
    let b = write(case, &session, f, (1, 100), 10).await;
    let records = [SliceRecord::whole(0, a, 5000)];
    assert_eq!(case.ok(case.meta.chunk(f, 0).await), records);
    assert_eq!(case.ok(case.meta.chunk(f, 1).await), [SliceRecord::whole(100, b, 10)]);
    let length = CHUNK_BYTES + 110;
    let now = attr_of(case, f).await;
    assert_eq!((now.length, now.mtime), (length, WRITTEN));
    assert!(now.ctime > WRITTEN, "the inode changed when it was recorded");
    let space = align4k(length) as i64;
    let usage = DirUsage { length: length as i64, space, inodes: 1 };
    assert_eq!(accounted(case, &session).await, (space, usage));

    let many: Vec<SliceRecord> =
        [(0, 7, 10), (5, 8, 10), (0, 9, 3)].map(|(p, i, l)| SliceRecord::whole(p, i, l)).into();
    let written = case.ok(session.write(f, &[chunk(f, 3, &many), chunk(f, 0, &[])], WRITTEN).await);
    assert_eq!((written.before.length, written.after.length), (length, 3 * CHUNK_BYTES + 15));
    assert_eq!(case.ok(case.meta.chunk(f, 3).await), many, "in the order they were given");
    assert_eq!(attr_of(case, f).await, written.after);
    case.ok(session.close().await);
}

pub(super) async fn what_cannot_be_written_leaves_no_trace(case: &Case) {
    let capacity = Settings { capacity: 1 << 20, ..settings() };
    let (session, f) = with_file(case, &capacity).await;
    let id = write(case, &session, f, (0, 0), 1000).await;
    let before = (attr_of(case, f).await, accounted(case, &session).await);
    let fresh = case.ok(session.new_slice().await);
    let record = |pos, id, len| SliceRecord::whole(pos, id, len);
    let mut refused = vec![
        (Ino(9999), vec![record(0, fresh, 10)], ErrorKind::NotFound),
        (Ino::ROOT, vec![record(0, fresh, 10)], ErrorKind::Invalid),
        (f, vec![record(0, fresh, 10), record(1, id, 10)], ErrorKind::Conflict),
        (f, vec![record(0, fresh, 2 << 20)], ErrorKind::NoSpace),
    ];
    // Not every engine has a record of a slice with one reference.
    if !case.knows_slices(fresh, 10).await {
        refused.retain(|(_, _, kind)| *kind != ErrorKind::Conflict);
    }
    for (ino, records, kind) in refused {
        let error = session.write(ino, &[chunk(ino, 0, &records)], WRITTEN).await.expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(matches!(error, MetaError::Taken { .. }), kind == ErrorKind::Conflict);
    }
    assert_eq!((attr_of(case, f).await, accounted(case, &session).await), before);
    assert_eq!(case.ok(case.meta.chunk(f, 0).await), [record(0, id, 1000)]);
    let written = session.write(f, &[chunk(f, 0, &[record(0, fresh, 10)])], WRITTEN).await;
    case.ok(written);
    case.ok(session.close().await);
}

pub(super) async fn a_file_is_cut_and_grown_by_holes(case: &Case) {
    let (session, f) = with_file(case, &settings()).await;
    let id = write(case, &session, f, (0, 0), 10 << 20).await;
    case.ok(session.truncate(f, 3_000_000).await);
    assert_eq!(accounted(case, &session).await.0, align4k(3_000_000) as i64);
    let written = case.ok(session.truncate(f, 70_000_000).await);
    assert_eq!((written.before.length, written.after.length), (3_000_000, 70_000_000));
    assert_eq!(attr_of(case, f).await, written.after);
    // Seen of a real client: spec section 24.7.
    let first = [
        SliceRecord::whole(0, id, 10 << 20),
        SliceRecord::hole(3_000_000, 7_485_760),
        SliceRecord::hole(3_000_000, 64_108_864),
    ];
    assert_eq!(case.ok(case.meta.chunk(f, 0).await), first);
    assert_eq!(case.ok(case.meta.chunk(f, 1).await), [SliceRecord::hole(0, 2_891_136)]);
    let usage = DirUsage { length: 70_000_000, space: align4k(70_000_000) as i64, inodes: 1 };
    assert_eq!(accounted(case, &session).await.1, usage);
    case.ok(session.truncate(f, 70_000_000).await);
    assert_eq!(case.ok(case.meta.chunk(f, 0).await), first, "the same length adds no record");
    let error = session.truncate(f, u64::MAX).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(session.truncate(Ino::ROOT, 0).await.expect_err("a directory").kind(), ErrorKind::Invalid);
    case.ok(session.close().await);
}

pub(super) async fn ranges_are_punched_zeroed_and_extended(case: &Case) {
    let (session, f) = with_file(case, &settings()).await;
    let id = write(case, &session, f, (0, 0), 1000).await;
    let mut list = vec![SliceRecord::whole(0, id, 1000)];
    for (what, offset, len, length, hole) in [
        (Fallocate::Keep, 0, 5000, 1000, None),
        (Fallocate::Extend, 100, 200, 1000, None),
        (Fallocate::Punch, 100, 200, 1000, Some((100, 200))),
        (Fallocate::Punch, 900, 5000, 1000, Some((900, 100))),
        (Fallocate::ZeroKeep, 950, 5000, 1000, Some((950, 50))),
        (Fallocate::Zero, 800, 1200, 2000, Some((800, 200))),
        (Fallocate::Extend, 100, 4900, 5000, None),
    ] {
        let written = case.ok(session.fallocate(f, what, offset, len).await);
        list.extend(hole.map(|(pos, len)| SliceRecord::hole(pos, len)));
        assert_eq!(written.after.length, length, "{what:?}");
        assert_eq!(case.ok(case.meta.chunk(f, 0).await), list, "{what:?}");
    }
    assert_eq!(accounted(case, &session).await.1.length, 5000);
    case.ok(session.truncate(f, CHUNK_BYTES + 50).await);
    case.ok(session.fallocate(f, Fallocate::Punch, CHUNK_BYTES - 10, 30).await);
    let last = |list: Vec<SliceRecord>| list.last().copied();
    assert_eq!(last(case.ok(case.meta.chunk(f, 0).await)), Some(SliceRecord::hole(CHUNK_BYTES as u32 - 10, 10)));
    assert_eq!(last(case.ok(case.meta.chunk(f, 1).await)), Some(SliceRecord::hole(0, 20)));
    assert_eq!(session.fallocate(f, Fallocate::Punch, 5, 0).await.expect_err("empty").kind(), ErrorKind::Invalid);
    case.ok(session.close().await);
}

pub(super) async fn copied_ranges_share_slices(case: &Case) {
    let (session, f) = with_file(case, &settings()).await;
    let g = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"g", g, 0).build()).await);
    let g = Ino(g);
    let id = write(case, &session, f, (0, 100), 1000).await;
    let at = |ino, offset| FileRange { ino, offset };
    let (copied, written) = case.ok(session.copy_range(at(f, 50), at(g, CHUNK_BYTES - 200), 5000).await);
    assert_eq!((copied, written.after.length), (1050, CHUNK_BYTES + 850));
    let edge = CHUNK_BYTES as u32 - 200;
    let piece = |pos, off, len| SliceRecord { pos, id, size: 1000, off, len };
    let first = [SliceRecord::hole(edge, 50), piece(edge + 50, 0, 150)];
    assert_eq!(case.ok(case.meta.chunk(g, 0).await), first);
    assert_eq!(case.ok(case.meta.chunk(g, 1).await), [piece(0, 150, 850)]);

    assert_eq!(case.ok(session.copy_range(at(f, 1100), at(g, 0), 10).await).0, 0, "nothing behind the end");
    let error = session.copy_range(at(f, 0), at(f, 10), 20).await.expect_err("onto itself");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    case.ok(session.copy_range(at(f, 0), at(f, 5000), 200).await);
    let slice = |count| SliceRef { id, size: 1000, count };
    let txn = case.ok(case.engine.begin().await);
    // Its own record, two in the other file, one in its own.
    assert_eq!(case.ok(txn.drop_slice_refs(&[slice(3)]).await), []);
    assert_eq!(case.ok(txn.drop_slice_refs(&[slice(1)]).await), [slice(0)]);
    drop(txn);
    case.ok(session.close().await);
}

pub(super) async fn files_that_must_not_change_do_not(case: &Case) {
    case.ok(case.meta.init(&settings(), false).await);
    let ids = case.ok(case.meta.alloc_inodes(2).await);
    let flagged = |flags| Attr { flags, length: 10, ..attr(FileType::Regular, 0o644) };
    let batch =
        BatchBuilder::new().entry(1, b"still", ids.start, flagged(1)).entry(1, b"log", ids.start + 1, flagged(2));
    case.ok(case.meta.import(batch.build()).await);
    let session = case.join().await;
    for ino in ids.map(Ino) {
        let refused = [
            session.truncate(ino, 5).await.expect_err("truncate"),
            session.fallocate(ino, Fallocate::Punch, 0, 5).await.expect_err("fallocate"),
            session.copy_range(FileRange { ino, offset: 0 }, FileRange { ino, offset: 50 }, 5).await.expect_err("copy"),
        ];
        assert!(refused.iter().all(|error| error.kind() == ErrorKind::Denied), "{refused:?}");
        assert_eq!(attr_of(case, ino).await.length, 10);
    }
    case.ok(session.close().await);
}

pub(super) async fn many_records_become_one(case: &Case) {
    for trash_days in [0, 1] {
        let settings = Settings { trash_days, ..settings() };
        let (session, f) = if trash_days == 0 {
            with_file(case, &settings).await
        } else {
            case.ok(case.meta.update_settings(&settings).await);
            let ino = case.ok(case.meta.alloc_inodes(1).await).start;
            case.ok(case.meta.import(BatchBuilder::new().file(1, b"g", ino, 0).build()).await);
            (case.join().await, Ino(ino))
        };
        let mut ids = Vec::new();
        for n in 0..6 {
            ids.push(write(case, &session, f, (0, n * 10), 15).await);
        }
        let plan = plan_compaction(&case.ok(case.meta.chunk(f, 0).await)).expect("six records");
        let late = write(case, &session, f, (0, 3), 2).await;
        let new = case.ok(session.new_slice().await);
        let done = case.ok(session.compact(f, 0, &plan, new).await);
        let records = [SliceRecord::whole(0, new, 65), SliceRecord::whole(3, late, 2)];
        assert_eq!(case.ok(case.meta.chunk(f, 0).await), records);
        let txn = case.ok(case.engine.begin().await);
        let dead: Vec<SliceRef> = ids.iter().map(|id| SliceRef { id: *id, size: 15, count: 0 }).collect();
        if trash_days == 0 {
            assert_eq!(done, Compacted::Done(dead.clone()));
            assert_eq!(case.ok(txn.dead_slices(10).await), dead);
            case.ok(txn.forget_slices(&dead).await);
        } else {
            assert_eq!(done, Compacted::Done(Vec::new()));
            let waiting = case.ok(txn.delayed_before(i64::MAX, 10).await);
            let slices = ids.iter().map(|id| (*id, 15)).collect();
            assert_eq!(waiting, [DelayedSlices { id: new, at: waiting[0].at, slices }]);
            assert_eq!(case.ok(txn.dead_slices(10).await), []);
        }
        case.ok(txn.commit().await);

        // The same plan again is too late, and changes nothing.
        let other = case.ok(session.new_slice().await);
        assert_eq!(case.ok(session.compact(f, 0, &plan, other).await), Compacted::TooLate);
        assert_eq!(case.ok(case.meta.chunk(f, 0).await), records);
        case.ok(session.write(f, &[chunk(f, 1, &[SliceRecord::whole(0, other, 1)])], WRITTEN).await);
        case.ok(session.close().await);
    }
}
