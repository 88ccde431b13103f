//! What records of files' contents promise: lists, references, slices that wait.

use shoal_format::{CHUNK_BYTES, Ino, SliceRecord};

use super::Case;
use crate::engine::{DeletedFile, Txn};
use crate::record::{ChunkSlices, DelayedSlices, SliceRef};

fn slice(id: u64, count: u32) -> SliceRef {
    SliceRef { id, size: 100, count }
}

fn records(ids: impl IntoIterator<Item = u64>) -> Vec<SliceRecord> {
    ids.into_iter().map(|id| SliceRecord::whole(id as u32, id, 100)).collect()
}

async fn begin(case: &Case) -> Box<dyn Txn> {
    case.ok(case.engine.begin().await)
}

fn list(index: u32, ids: impl IntoIterator<Item = u64>) -> ChunkSlices {
    ChunkSlices { ino: Ino(9), index, slices: records(ids) }
}

pub(super) async fn lists_are_replaced_only_where_they_begin_as_read(case: &Case) {
    case.init().await;
    let txn = begin(case).await;
    case.ok(txn.append_slices(&[list(3, 1..=4)]).await);
    let merged = records([9]);
    assert!(!case.ok(txn.replace_slices(Ino(9), 3, &records(2..=3), &merged).await), "not the beginning");
    assert!(!case.ok(txn.replace_slices(Ino(9), 3, &records(1..=5), &merged).await), "longer than the list");
    assert!(!case.ok(txn.replace_slices(Ino(9), 4, &records([1]), &merged).await), "no list");
    assert_eq!(case.ok(txn.slices(Ino(9), 3).await), records(1..=4));
    assert_eq!(case.ok(txn.slice_count(Ino(9), 3).await), 4);
    assert_eq!(case.ok(txn.slice_count(Ino(9), 4).await), 0);
    assert!(case.ok(txn.replace_slices(Ino(9), 3, &records(1..=3), &merged).await));
    case.ok(txn.commit().await);
    assert_eq!(case.ok(case.meta.chunk(Ino(9), 3).await), records([9, 4]));
    let txn = begin(case).await;
    case.ok(txn.append_slices(&[list(3, [5])]).await);
    case.ok(txn.commit().await);
    assert_eq!(case.ok(case.meta.chunk(Ino(9), 3).await), records([9, 4, 5]), "a replaced list still grows");
    assert_eq!(case.ok(case.meta.slice_count(Ino(9), 3).await), 3);
}

pub(super) async fn lists_are_taken_in_parts(case: &Case) {
    case.init().await;
    let other = ChunkSlices { ino: Ino(10), index: 1, slices: records([700]) };
    // The file was longer once.
    let file = DeletedFile { ino: Ino(9), length: 5 * CHUNK_BYTES + 1, removed: 1 };
    let all: Vec<ChunkSlices> =
        [1, 5].into_iter().chain(50..150).map(|index| list(index, [u64::from(index)])).collect();
    let txn = begin(case).await;
    case.ok(txn.append_slices(&all).await);
    case.ok(txn.append_slices(&[list(1, [2]), other.clone()]).await);
    case.ok(txn.commit().await);
    let mut taken = Vec::new();
    loop {
        let txn = begin(case).await;
        assert_eq!(case.ok(txn.take_chunks(&DeletedFile { ino: Ino(11), ..file }, 9).await), []);
        let parts = [case.ok(txn.take_chunks(&file, 16).await), case.ok(txn.take_chunks(&file, 1).await)];
        case.ok(txn.commit().await);
        assert!(parts[0].len() <= 16 && parts[1].len() <= 1);
        if parts[0].is_empty() {
            break;
        }
        taken.extend(parts.into_iter().flatten());
    }
    taken.sort_by_key(|list| list.index);
    assert_eq!(taken[0].slices, records([1, 2]));
    assert_eq!(taken[1..], all[1..]);
    assert_eq!(case.ok(case.meta.chunks(Ino(9), 0..u32::MAX).await), []);
    assert_eq!(case.ok(case.meta.chunks(Ino(10), 0..2).await), [other]);
}

pub(super) async fn references_are_counted_down_to_death(case: &Case) {
    case.init().await;
    let txn = begin(case).await;
    case.ok(txn.insert_slice_refs(&[slice(1, 1), slice(2, 3)]).await);
    let unknown = case.ok(txn.add_slice_refs(&[slice(1, 2), slice(3, 1)]).await);
    assert!(unknown.is_empty() || unknown == [slice(3, 1)], "the last is not known where all are: {unknown:?}");
    assert_eq!(case.ok(txn.drop_slice_refs(&[slice(1, 2), slice(2, 1)]).await), [], "one and two are left");
    assert_eq!(case.ok(txn.dead_slices(10).await), []);
    assert_eq!(case.ok(txn.drop_slice_refs(&[slice(1, 1), slice(2, 2)]).await), [slice(1, 0), slice(2, 0)]);
    case.ok(txn.commit().await);

    let txn = begin(case).await;
    assert_eq!(case.ok(txn.dead_slices(1).await).len(), 1);
    assert_eq!(case.ok(txn.dead_slices(10).await), [slice(1, 0), slice(2, 0)]);
    assert_eq!(case.ok(txn.add_slice_refs(&[slice(2, 1)]).await), [slice(2, 1)], "the dead are not brought back");
    case.ok(txn.insert_slice_refs(&[slice(4, 1)]).await);
    case.ok(txn.forget_slices(&[slice(1, 0), slice(4, 0)]).await);
    assert_eq!(case.ok(txn.dead_slices(10).await), [slice(2, 0)]);
    assert_eq!(case.ok(txn.add_slice_refs(&[slice(4, 1)]).await), [], "the living are not forgotten");
}

pub(super) async fn delayed_slices_wait_for_their_time(case: &Case) {
    case.init().await;
    let record = |id, at| DelayedSlices { id, at, slices: vec![(id + 1, 200), (id + 2, u32::MAX)] };
    let txn = begin(case).await;
    for (id, at) in [(30, 1_700_000_300), (10, 1_700_000_100), (20, 1_700_000_200)] {
        case.ok(txn.insert_delayed(&record(id, at)).await);
    }
    case.ok(txn.commit().await);
    let txn = begin(case).await;
    let early = case.ok(txn.delayed_before(1_700_000_300, 10).await);
    assert_eq!(early, [record(10, 1_700_000_100), record(20, 1_700_000_200)]);
    assert_eq!(case.ok(txn.delayed_before(1_700_000_300, 1).await), early[..1]);
    assert!(case.ok(txn.remove_delayed(&early[0]).await));
    assert!(!case.ok(txn.remove_delayed(&early[0]).await), "only one client drops its references");
    assert_eq!(case.ok(txn.delayed_before(i64::MAX, 10).await).len(), 2);
}
