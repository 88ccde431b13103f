//! A volume is dumped by one engine and loaded by another.

use std::io::Cursor;
use std::sync::atomic::AtomicU64;

use bytes::{Bytes, BytesMut};
use shoal_format::{AclEntry, AclRule, CHUNK_BYTES, FileType, Ino, SliceRecord, Time};
use shoal_types::ErrorKind;
use tokio::sync::mpsc;

use super::Case;
use super::sample::{BatchBuilder, attr, client, settings};
use crate::dump::{DumpOptions, dump_binary, dump_json};
use crate::engine::{DeletedFile, Engine};
use crate::load::{load_binary, load_json, segments};
use crate::mem::MemEngine;
use crate::meta::Meta;
use crate::ops::Caller;
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::SliceRef;
use crate::session::Session;

async fn dumped(meta: &Meta, options: &DumpOptions) -> String {
    let (sender, mut parts) = mpsc::channel::<Bytes>(4);
    let mut text = BytesMut::new();
    let names = AtomicU64::default();
    let collect = async {
        while let Some(part) = parts.recv().await {
            text.extend_from_slice(&part);
        }
    };
    let (done, ()) = futures::join!(dump_json(meta, options, sender, &names), collect);
    done.expect("a volume in memory can be dumped");
    String::from_utf8(text.to_vec()).expect("a dump is text")
}

async fn dumped_binary(meta: &Meta) -> Vec<u8> {
    let (sender, mut parts) = mpsc::channel::<Bytes>(4);
    let mut all = Vec::new();
    let names = AtomicU64::default();
    let collect = async {
        while let Some(part) = parts.recv().await {
            all.extend_from_slice(&part);
        }
    };
    let (done, ()) = futures::join!(dump_binary(meta, true, sender, &names), collect);
    done.expect("a volume can be dumped");
    all
}

/// A volume in memory with records of every kind.
async fn volume() -> Meta {
    let engine = MemEngine::new();
    let meta = Meta::new(engine.clone());
    meta.init(&settings(), false).await.expect("memory does not fail");
    let f = meta.alloc_inodes(400).await.expect("memory does not fail").start;
    let s = meta.alloc_slices(20).await.expect("memory does not fail").start;
    let rule =
        AclRule { owner: Some(6), mask: Some(7), named_users: vec![AclEntry { id: 7, perm: 5 }], ..AclRule::default() };
    engine.set_acl(3, rule.clone());
    engine.set_acl(9, AclRule { other: Some(1), ..rule });
    engine.set_quota(Quota { max_space: 1 << 30, ..Quota::unlimited(QuotaKey::Dir(Ino(f))) });
    engine.set_quota(Quota { max_inodes: 900, ..Quota::unlimited(QuotaKey::User(7)) });
    engine.set_quota(Quota { max_space: 2 << 30, ..Quota::unlimited(QuotaKey::Group(8)) });
    let (mut with_acl, mut dir) = (attr(FileType::Regular, 0o674), attr(FileType::Directory, 0o2755));
    with_acl.access_acl = 3;
    with_acl.tier = 2;
    (dir.access_acl, dir.default_acl) = (9, 3);
    let mut device = attr(FileType::BlockDevice, 0o600);
    device.rdev = 0x0801;
    device.mtime = Time { secs: -5, nanos: 1000 };
    let shared = SliceRecord { pos: 7, id: s, size: 4 << 20, off: 9, len: 11 };
    let batch = BatchBuilder::new()
        .entry(1, b"d", f, dir)
        .dir(f, b"empty", f + 1)
        .sliced(f, b"file", f + 2, &[SliceRecord::whole(0, s, 4 << 20), SliceRecord::hole(5 << 20, 100)])
        .xattr(b"user.k", b"v\x00\xff%\"")
        .xattr(b"user.a", b"")
        .link(1, b"second\xff name", f + 2)
        .link(1, b"beside it", f + 2)
        .link(f + 1, b"third", f + 2)
        .sliced(f, b"shares", f + 3, &[shared, shared])
        .symlink(f, b"link", f + 4, b"a b\xff<>")
        .entry(f, b"device", f + 5, device)
        .entry(f, b"fifo", f + 6, attr(FileType::Fifo, 0o644))
        .entry(f, b"acl", f + 7, with_acl)
        .dir(1, b"wide", f + 8);
    let batch = (0..300).fold(batch, |batch, n| batch.file(f + 8, format!("{n}").as_bytes(), f + 20 + n, n * 100));
    let mut batch = batch.build();
    let long = batch.entries.iter_mut().find(|entry| entry.ino.0 == f + 3).expect("it was just made");
    long.chunks.push((2, vec![SliceRecord::whole(5, s + 1, 100)]));
    long.attr.length = 2 * CHUNK_BYTES + 105;
    meta.import(batch).await.expect("memory does not fail");
    let session = Session::open(meta.clone(), client(), crate::session::HEARTBEAT).await.expect("memory does not fail");
    session.unlink(&Caller::root(), Ino(f + 8), b"17").await.expect("memory does not fail");
    session.rmdir(&Caller::root(), Ino(f), b"no").await.expect_err("it is refused");
    session.close().await.expect("memory does not fail");
    let txn = engine.begin().await.expect("memory does not fail");
    txn.insert_deleted_files(&[DeletedFile { ino: Ino(f + 399), length: 5, removed: 77 }])
        .await
        .expect("memory does not fail");
    txn.commit().await.expect("memory does not fail");
    meta
}

/// The dump without the counters, of which a loaded volume has other ones.
fn comparable(text: &str) -> String {
    let (before, rest) = text.split_once("  \"Counters\"").expect("a dump has counters");
    let (_, after) = rest.split_once("},\n").expect("they end");
    format!("{before}{after}")
}

pub(super) async fn a_dump_loads_into_any_engine_and_dumps_again_the_same(case: &Case) {
    let source = volume().await;
    let text = dumped(&source, &DumpOptions::default()).await;
    let limits = "\"UserQuotas\": {\n    \"7\": {\n      \"maxSpace\": -1,\n      \"maxInodes\": 900\n";
    assert!(text.contains(limits), "{text}");
    let names = AtomicU64::default();
    let loaded = load_json(&case.meta, Cursor::new(text.clone().into_bytes()), &names).await;
    assert_eq!(case.ok(loaded), case.ok(source.settings().await));
    assert_eq!(comparable(&dumped(&case.meta, &DumpOptions::default()).await), comparable(&text), "{}", case.name);
    case.audit_settled(&[]).await;

    let (before, after) = (case.ok(source.statfs().await), case.ok(case.meta.statfs().await));
    assert_eq!((before.used_bytes, before.used_inodes), (after.used_bytes, after.used_inodes), "{}", case.name);
    let quotas = case.ok(case.engine.records().quotas(QuotaKind::Dir).await);
    assert_eq!(
        quotas,
        case.ok(source.engine().records().quotas(QuotaKind::Dir).await).iter().map(with_use).collect::<Vec<_>>()
    );
    let (ours, theirs) = (case.engine.records(), source.engine().records());
    for kind in [crate::record::IdKind::Inode, crate::record::IdKind::Slice] {
        assert_eq!(case.ok(ours.next_id(kind).await), case.ok(theirs.next_id(kind).await), "{}", case.name);
    }
    // The slice that three records name is dead when three references are gone.
    let txn = case.ok(case.engine.begin().await);
    let drop_one = [SliceRef { id: 1, size: 4 << 20, count: 1 }];
    assert_eq!(case.ok(txn.drop_slice_refs(&drop_one).await), []);
    assert_eq!(case.ok(txn.drop_slice_refs(&drop_one).await), []);
    assert_eq!(case.ok(txn.drop_slice_refs(&drop_one).await).len(), 1);
}

/// The quota of the sample, with the use that its directory has: `d` and below hold nine names.
fn with_use(quota: &Quota) -> Quota {
    let below = [4096, 4 << 20, 4 << 20, (2 * CHUNK_BYTES + 4096) as i64, 4096, 4096, 4096, 4096];
    // The file of 5 MiB and 100 bytes has two names here.
    let used_space = below.iter().sum::<i64>() + 2 * ((1 << 20) + 4096);
    Quota { used_space, used_inodes: below.len() as i64, ..*quota }
}

pub(super) async fn a_binary_dump_loads_into_any_engine(case: &Case) {
    let source = volume().await;
    let bytes = dumped_binary(&source).await;
    let loaded = load_binary(&case.meta, Cursor::new(bytes.clone()), &AtomicU64::default()).await;
    assert_eq!(case.ok(loaded), case.ok(source.settings().await));
    let options = DumpOptions::default();
    let (ours, theirs) = (dumped(&case.meta, &options).await, dumped(&source, &options).await);
    assert_eq!(comparable(&ours), comparable(&theirs), "{}", case.name);
    case.audit_settled(&[]).await;
    let again = dumped_binary(&case.meta).await;
    let index = |bytes: &[u8]| {
        let (rest, len) = bytes.split_last_chunk().expect("a length at its end");
        let footer = &rest[rest.len() - u64::from_be_bytes(*len) as usize..];
        let (version, segments) = segments(footer).expect("a footer");
        assert_eq!(version, 1);
        segments.into_iter().map(|segment| (segment.name, segment.count)).collect::<Vec<_>>()
    };
    assert_eq!(index(&bytes), index(&again), "{}", case.name);
    // A dump that was cut loads nothing that looks like a volume.
    let cut = bytes[..bytes.len() / 2].to_vec();
    let engine = MemEngine::new();
    let error =
        load_binary(&Meta::new(engine), Cursor::new(cut), &AtomicU64::default()).await.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{}: {error}", case.name);
}

pub(super) async fn a_directory_is_dumped_as_a_volume(case: &Case) {
    let source = volume().await;
    let options = DumpOptions { subdir: b"/d".to_vec(), ..DumpOptions::default() };
    let text = dumped(&source, &options).await;
    let loaded = load_json(&case.meta, Cursor::new(text.into_bytes()), &AtomicU64::default()).await;
    case.ok(loaded);
    assert!(case.some(case.meta.resolve_path(b"/empty/third").await).1.nlink == 2, "one name is elsewhere");
    assert_eq!(case.ok(case.meta.resolve_path(b"/d").await), None);
    let txn = case.ok(case.engine.begin().await);
    // A dump of a directory has no trash, whose root clients make when they need it.
    assert_eq!(case.ok(txn.attr(Ino::TRASH).await), None);
    drop(txn);
    case.audit_settled(&[]).await;
    let missing = DumpOptions { subdir: b"/d/file".to_vec(), ..DumpOptions::default() };
    let refused =
        dump_json(&source, &missing, mpsc::channel(1).0, &AtomicU64::default()).await.expect_err("it is refused");
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
}

pub(super) async fn what_cannot_be_loaded_leaves_no_volume(case: &Case) {
    let text = dumped(&volume().await, &DumpOptions::default()).await;
    let load =
        async |text: &str| load_json(&case.meta, Cursor::new(text.as_bytes().to_vec()), &AtomicU64::default()).await;
    for wrong in ["", "{}", "[]", "{\"FSTree\":{}}", "no dump"] {
        assert_eq!(load(wrong).await.expect_err("it is refused").kind(), ErrorKind::Invalid, "{}: {wrong}", case.name);
    }
    let cut = &text[..text.len() / 2];
    let error = load(cut).await.expect_err("it is refused");
    assert!(error.to_string().contains("ends too early"), "{}: {error}", case.name);
    let unknown = case.meta.settings().await.expect_err("it is refused");
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{}: {unknown}", case.name);
}

pub(super) async fn nothing_is_loaded_over_a_volume(case: &Case) {
    let text = dumped(&volume().await, &DumpOptions::default()).await;
    case.init().await;
    let before = case.some(case.meta.getattr(Ino::ROOT).await);
    let loaded = load_json(&case.meta, Cursor::new(text.into_bytes()), &AtomicU64::default()).await;
    assert_eq!(loaded.expect_err("it is refused").kind(), ErrorKind::Conflict, "{}", case.name);
    assert_eq!(case.some(case.meta.getattr(Ino::ROOT).await), before);
}
