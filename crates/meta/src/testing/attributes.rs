//! Further names, attributes and extended attributes of what exists.

use shoal_format::{Attr, FileType, Ino, Time, attr_flag};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, attr};
use crate::error::{MetaError, Refusal};
use crate::ops::{AtimeMode, Caller, MAY_EXECUTE, MAY_READ, MAY_WRITE, SetAttr, SetTime, XattrMode};
use crate::record::DirUsage;

pub(super) async fn a_second_name_is_counted_wherever_it_is(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let d = case.ok(case.meta.alloc_inodes(2).await).start;
    let file = Ino(d + 1);
    case.ok(case.meta.import(BatchBuilder::new().dir(1, b"d", d).file(1, b"f", d + 1, 5000).build()).await);
    let before = case.some(case.meta.getattr(file).await);
    let root = Caller::root();
    case.ok(session.link(&root, file, Ino(d), b"g").await);
    let linked = case.ok(session.link(&root, file, Ino(d), b"h").await);
    assert!(linked.ctime > before.ctime);
    assert_eq!(linked, Attr { nlink: 3, parent: Ino::NONE, ctime: linked.ctime, ..before });
    for (parent, name) in [(1, "f"), (d, "g"), (d, "h")] {
        assert_eq!(case.some(case.meta.lookup(Ino(parent), name.as_bytes()).await), (file, linked.clone()));
    }
    let parents = case.ok(case.engine.records().parents(file).await);
    assert_eq!(parents.iter().map(|p| (p.parent.0, p.count)).collect::<Vec<_>>(), [(1, 1), (d, 2)]);
    case.ok(session.flush_accounts().await);
    assert_eq!(case.ok(case.meta.statfs().await).used_inodes, 2, "the volume counts inodes, not names");
    let usage = case.ok(case.engine.records().dir_usage(Ino(d)).await);
    assert_eq!(usage, Some(DirUsage { length: 10_000, space: 16_384, inodes: 2 }));
    case.ok(session.close().await);
}

pub(super) async fn names_are_refused_where_the_rules_say_so(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let ids = case.ok(case.meta.alloc_inodes(6).await).start;
    let flagged = |flags| Attr { flags, ..attr(FileType::Regular, 0o644) };
    let batch = BatchBuilder::new()
        .dir(1, b"d", ids)
        .file(1, b"f", ids + 1, 0)
        .entry(1, b"fixed", ids + 2, flagged(attr_flag::IMMUTABLE))
        .entry(1, b"grows", ids + 3, flagged(attr_flag::APPEND))
        .file(1, b"gone", ids + 4, 0)
        .file(1, b"full", ids + 5, 0);
    case.ok(case.meta.import(batch.build()).await);
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.update_attrs(&[(Ino(ids + 4), Attr { nlink: 0, ..flagged(0) })]).await);
    let full = Attr { nlink: u32::MAX >> 1, ..flagged(0) };
    case.ok(txn.update_attrs(&[(Ino(ids + 5), full)]).await);
    case.ok(txn.commit().await);
    let refused = async |ino: u64, parent: u64, name: &[u8]| {
        session.link(&Caller::root(), Ino(ino), Ino(parent), name).await.expect_err("refused")
    };
    for ino in [ids, ids + 2, ids + 3] {
        let error = refused(ino, 1, b"x").await;
        assert!(matches!(error, MetaError::Refused { why: Refusal::NotPermitted, .. }), "{error}");
    }
    for gone in [ids + 4, 4711] {
        assert!(matches!(refused(gone, 1, b"x").await, MetaError::NoInode { ino } if ino == gone));
    }
    let error = refused(ids + 5, 1, b"x").await;
    assert!(matches!(error, MetaError::Refused { why: Refusal::Links, .. }), "{error}");
    assert!(matches!(refused(ids + 1, 1, b"d").await, MetaError::Exists { .. }));
    assert!(matches!(refused(ids + 1, ids + 1, b"x").await, MetaError::NotDirectory { .. }));
    assert_eq!(refused(ids + 1, 1, b"a/b").await.kind(), ErrorKind::Invalid);
    assert_eq!(case.some(case.meta.getattr(Ino(ids + 1)).await).nlink, 1);
    case.ok(session.close().await);
}

pub(super) async fn attributes_change_and_survive(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let f = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", f, 10).build()).await);
    let before = case.some(case.meta.getattr(Ino(f)).await);
    let (atime, mtime) = (Time { secs: -7, nanos: 123_456_789 }, Time { secs: 1 << 33, nanos: 999_999_999 });
    let set = SetAttr {
        mode: Some(0o1750),
        uid: Some(1),
        gid: Some(2),
        atime: Some(SetTime::To(atime)),
        mtime: Some(SetTime::To(mtime)),
        flags: Some(attr_flag::SKIP_TRASH),
    };
    let after = case.ok(session.setattr(&Caller::root(), Ino(f), &set).await);
    assert!(after.ctime > before.ctime);
    let (mode, flags, ctime) = (0o1750, attr_flag::SKIP_TRASH, after.ctime);
    assert_eq!(after, Attr { mode, uid: 1, gid: 2, atime, mtime, flags, ctime, ..before });
    assert_eq!(case.some(case.meta.getattr(Ino(f)).await), after);
    let nothing = case.ok(session.setattr(&Caller::root(), Ino(f), &SetAttr::default()).await);
    assert_eq!(nothing, after);
    let stranger = Caller { uid: 9, gid: 9, check: true, ..Caller::default() };
    let error = session.setattr(&stranger, Ino(f), &set).await.expect_err("not the owner");
    assert_eq!(error.kind(), ErrorKind::Denied);
    let error = session.setattr(&Caller::root(), Ino(4711), &set).await.expect_err("no inode");
    assert!(matches!(error, MetaError::NoInode { ino: 4711 }));
    case.ok(session.close().await);
}

pub(super) async fn reads_are_noted_as_the_mode_says(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let f = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", f, 10).build()).await);
    let set = SetAttr { atime: Some(SetTime::To(Time { secs: 7, nanos: 8 })), ..SetAttr::default() };
    let before = case.ok(session.setattr(&Caller::root(), Ino(f), &set).await);
    assert_eq!(case.ok(session.note_read(Ino(f), AtimeMode::Never).await), None);
    let after = case.ok(session.note_read(Ino(f), AtimeMode::Relative).await).expect("it was changed since");
    assert!(after.atime >= before.ctime);
    assert_eq!(after, Attr { atime: after.atime, ..before }, "and nothing else");
    assert_eq!(case.some(case.meta.getattr(Ino(f)).await), after);
    assert_eq!(case.ok(session.note_read(Ino(f), AtimeMode::Relative).await), None);
    let error = session.note_read(Ino(4711), AtimeMode::Strict).await.expect_err("no inode");
    assert!(matches!(error, MetaError::NoInode { ino: 4711 }));
    case.ok(session.close().await);
}

pub(super) async fn extended_attributes_are_created_replaced_and_removed(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let f = case.ok(case.meta.alloc_inodes(2).await).start;
    let fixed = Attr { flags: attr_flag::IMMUTABLE, ..attr(FileType::Regular, 0o644) };
    case.ok(case.meta.import(BatchBuilder::new().file(1, b"f", f, 0).entry(1, b"fixed", f + 1, fixed).build()).await);
    let ino = Ino(f);
    let put = async |name: &[u8], value: &[u8], mode| session.setxattr(ino, name, value, mode).await;
    let value = async |name: &[u8]| case.ok(case.meta.getxattr(ino, name).await).map(|value| value.to_vec());
    let absent = put(b"user.a", b"1", XattrMode::Replace).await.expect_err("nothing to replace");
    assert!(matches!(absent, MetaError::Refused { why: Refusal::NoAttribute, .. }), "{absent}");
    case.ok(put(b"user.a", b"1\0\xff", XattrMode::Create).await);
    assert_eq!(put(b"user.a", b"2", XattrMode::Create).await.expect_err("there").kind(), ErrorKind::Conflict);
    assert_eq!(value(b"user.a").await.as_deref(), Some(&b"1\0\xff"[..]));
    case.ok(put(b"user.a", b"", XattrMode::Replace).await);
    assert_eq!(value(b"user.a").await.as_deref(), Some(&b""[..]));
    // One byte more is the format's bound, and too much for MySQL's column.
    case.ok(put(b"user.b", &[7; 65_535], XattrMode::Any).await);
    case.ok(put(b"user.a", b"3", XattrMode::Any).await);
    assert_eq!(case.ok(case.meta.listxattr(ino).await), [&b"user.a"[..], b"user.b"]);
    case.ok(session.removexattr(ino, b"user.a").await);
    assert_eq!((value(b"user.a").await, value(b"user.b").await.map(|v| v.len())), (None, Some(65_535)));
    let absent = session.removexattr(ino, b"user.a").await.expect_err("it is gone");
    assert!(matches!(absent, MetaError::Refused { why: Refusal::NoAttribute, .. }), "{absent}");

    let refused = async |ino: u64, name: &[u8], value: &[u8]| {
        session.setxattr(Ino(ino), name, value, XattrMode::Any).await.expect_err("refused")
    };
    assert!(matches!(refused(4711, b"user.a", b"").await, MetaError::NoInode { .. }));
    assert_eq!(refused(f + 1, b"user.a", b"").await.kind(), ErrorKind::Denied);
    for (name, bytes, why) in [
        (&b"user.a"[..], 65_537, Refusal::TooBig),
        (&[b'a'; 256], 1, Refusal::NameTooLong),
        (b"system.posix_acl_access", 1, Refusal::Unsupported),
        (b"system.posix_acl_default", 1, Refusal::Unsupported),
    ] {
        let error = refused(f, name, &vec![1; bytes]).await;
        assert!(matches!(error, MetaError::Refused { why: found, .. } if found == why), "{error}");
    }
    assert_eq!(refused(f, b"", b"").await.kind(), ErrorKind::Invalid);
    case.ok(session.close().await);
}

pub(super) async fn access_follows_the_mode(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let f = case.ok(case.meta.alloc_inodes(1).await).start;
    case.ok(case.meta.import(BatchBuilder::new().entry(1, b"f", f, attr(FileType::Regular, 0o640)).build()).await);
    let member = Caller { uid: 5, gid: 1, groups: vec![100], check: true, ..Caller::default() };
    case.ok(session.access(&member, Ino(f), MAY_READ).await);
    for wanted in [MAY_WRITE, MAY_EXECUTE, MAY_READ | MAY_WRITE] {
        let error = session.access(&member, Ino(f), wanted).await.expect_err("not granted");
        assert!(matches!(error, MetaError::Refused { why: Refusal::Access, .. }), "{error}");
    }
    let error = session.access(&member, Ino(4711), MAY_READ).await.expect_err("no inode");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    case.ok(session.close().await);
}
