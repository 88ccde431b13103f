//! What is refused, and that a refusal leaves nothing behind.

use shoal_format::{Ino, Settings, SliceRecord};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, settings};
use crate::ops::ImportBatch;
use crate::record::{Counter, IdKind, SliceRef};

/// Everything a refused batch must leave as it was.
async fn fingerprint(case: &Case) -> impl PartialEq + std::fmt::Debug {
    let records = case.engine.records();
    let root = case.some(case.meta.getattr(Ino::ROOT).await);
    let names: Vec<_> = case.ok(case.meta.readdir(Ino::ROOT).await).into_iter().map(|entry| entry.name).collect();
    (
        root,
        names,
        case.ok(records.counter(Counter::UsedSpace).await),
        case.ok(records.counter(Counter::TotalInodes).await),
        case.ok(records.dir_usage(Ino::ROOT).await),
        case.ok(records.next_id(IdKind::Inode).await),
    )
}

impl Case {
    /// Whether the engine refuses a reference to a slice that nobody wrote.
    pub(super) async fn knows_slices(&self, id: u64, size: u32) -> bool {
        let nobody_wrote = SliceRef { id: id + 1, size, count: 1 };
        let txn = self.ok(self.engine.begin().await);
        !self.ok(txn.add_slice_refs(&[nobody_wrote]).await).is_empty()
    }
}

/// Imports a batch that must be refused with `kind`; gives the sentence.
async fn refused(case: &Case, batch: ImportBatch, kind: ErrorKind) -> String {
    let before = fingerprint(case).await;
    let error = case.meta.import(batch).await.expect_err("refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(fingerprint(case).await, before, "{error}");
    error.to_string()
}

pub(super) async fn taken_name_is_named_and_nothing_is_written(case: &Case) {
    case.init().await;
    let ids = case.ok(case.meta.alloc_inodes(401).await);
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f00200", ids.start, 0).build()).await);
    let many = ids.clone().skip(1).enumerate();
    let batch = many.fold(BatchBuilder::new(), |batch, (n, id)| batch.file(1, format!("f{n:05}").as_bytes(), id, 1));
    let text = refused(case, batch.build(), ErrorKind::Conflict).await;
    assert_eq!(text, "`f00200` exists already in directory 1");
    assert_eq!(case.ok(case.meta.getattr(Ino(ids.start + 1)).await), None);

    let twice = BatchBuilder::new().file(1, b"x\n", ids.start + 1, 0).link(1, b"x\n", ids.start);
    assert_eq!(refused(case, twice.build(), ErrorKind::Conflict).await, "`x\\n` exists already in directory 1");
}

pub(super) async fn taken_inode_and_slice_are_refused(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(3).await).start;
    let s = case.ok(case.meta.alloc_slices(1).await).start;
    let slice = [SliceRecord::whole(0, s, 10)];
    case.ok(case.meta.import(BatchBuilder::new().sliced(1, b"f", f, &slice).build()).await);
    let text = refused(case, BatchBuilder::new().file(1, b"g", f, 0).build(), ErrorKind::Conflict).await;
    assert_eq!(text, format!("inode {f} exists already"));
    // Not every engine has a record of a slice with one reference.
    if case.knows_slices(s, 10).await {
        let text = refused(case, BatchBuilder::new().sliced(1, b"g", f + 1, &slice).build(), ErrorKind::Conflict).await;
        assert_eq!(text, format!("slice {s} exists already"));
    }
    let twice = BatchBuilder::new().file(1, b"g", f + 1, 0).file(1, b"h", f + 1, 0);
    refused(case, twice.build(), ErrorKind::Invalid).await;
}

pub(super) async fn ids_nobody_took_are_refused(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(1).await).start;
    refused(case, BatchBuilder::new().file(1, b"f", f + 1, 0).build(), ErrorKind::Invalid).await;
    refused(case, BatchBuilder::new().file(1, b"f", 1, 0).build(), ErrorKind::Invalid).await;
    let slice = [SliceRecord::whole(0, 1, 10)];
    refused(case, BatchBuilder::new().sliced(1, b"f", f, &slice).build(), ErrorKind::Invalid).await;
}

pub(super) async fn missing_and_wrong_parents_are_refused(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(4).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"file", f, 0).build()).await);
    refused(case, BatchBuilder::new().file(4711, b"x", f + 1, 0).build(), ErrorKind::NotFound).await;
    refused(case, BatchBuilder::new().link(1, b"x", 4711).build(), ErrorKind::NotFound).await;
    refused(case, BatchBuilder::new().file(f, b"x", f + 1, 0).build(), ErrorKind::Invalid).await;
    refused(case, BatchBuilder::new().file(Ino::TRASH.0, b"x", f + 1, 0).build(), ErrorKind::Invalid).await;
    let below_a_file = BatchBuilder::new().file(1, b"x", f + 1, 0).file(f + 1, b"y", f + 2, 0);
    refused(case, below_a_file.build(), ErrorKind::Invalid).await;
    let circle = BatchBuilder::new().dir(f + 2, b"x", f + 1).dir(f + 1, b"y", f + 2);
    refused(case, circle.build(), ErrorKind::Invalid).await;
}

pub(super) async fn volume_limits_are_kept(case: &Case) {
    case.ok(case.meta.init(&Settings { capacity: 8192, inodes: 3, ..settings() }, false).await);
    let f = case.ok(case.meta.alloc_inodes(5).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"a", f, 4096).build()).await);
    let text = refused(case, BatchBuilder::new().file(1, b"b", f + 1, 4097).build(), ErrorKind::NoSpace).await;
    assert_eq!(text, "volume `conform` holds at most 8192 bytes");
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"b", f + 1, 4096).build()).await);
    case.ok(case.meta.update_settings(&Settings { inodes: 2, ..settings() }).await);
    let text = refused(case, BatchBuilder::new().file(1, b"c", f + 2, 0).build(), ErrorKind::NoSpace).await;
    assert_eq!(text, "volume `conform` holds at most 2 inodes");
}

pub(super) async fn volumes_that_oblige_writers_are_refused(case: &Case) {
    case.ok(case.meta.init(&Settings { min_client_version: "9.9.9".into(), ..settings() }, false).await);
    let f = case.ok(case.meta.alloc_inodes(1).await).start;
    let text = refused(case, BatchBuilder::new().file(1, b"a", f, 0).build(), ErrorKind::Denied).await;
    assert!(text.contains("conform"), "{text}");
    assert_eq!(case.meta.mkdir_p(b"/a", Default::default()).await.expect_err("refused").kind(), ErrorKind::Denied);
    case.some(case.meta.getattr(Ino::ROOT).await);
}
