//! Creating inodes: every kind, what is inherited, what is refused, what it costs.

use bytes::Bytes;
use shoal_format::{Attr, FileType, Ino, attr_flag};
use shoal_runtime::task;
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, attr};
use crate::error::{MetaError, Refusal};
use crate::ops::{Caller, NewInode};
use crate::record::DirUsage;

fn user(uid: u32, gid: u32) -> Caller {
    Caller { uid, gid, umask: 0o022, check: true, ..Caller::default() }
}

pub(super) async fn every_kind_of_inode_is_created_once(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let before = case.some(case.meta.getattr(Ino::ROOT).await);
    let kinds = [
        (NewInode::File, FileType::Regular, 1, 0, 0),
        (NewInode::Directory, FileType::Directory, 2, 4096, 0),
        (NewInode::Symlink(Bytes::from_static(b"to\xff/there")), FileType::Symlink, 1, 9, 0),
        (NewInode::Fifo, FileType::Fifo, 1, 0, 0),
        (NewInode::Socket, FileType::Socket, 1, 0, 0),
        (NewInode::BlockDevice(0x0801), FileType::BlockDevice, 1, 0, 0x0801),
        (NewInode::CharDevice(0x0103), FileType::CharDevice, 1, 0, 0x0103),
    ];
    for (new, kind, nlink, length, rdev) in kinds {
        let name = format!("{kind:?}");
        let (ino, made) = case.ok(session.create(&user(7, 8), Ino::ROOT, name.as_bytes(), &new, 0o6777).await);
        let mode = if kind == FileType::Symlink { 0o6777 } else { 0o6755 };
        assert_eq!((made.kind, made.nlink, made.length, made.rdev), (kind, nlink, length, rdev));
        assert_eq!((made.uid, made.gid, made.mode, made.parent), (7, 8, mode, Ino::ROOT));
        assert_eq!((made.atime, made.mtime), (made.ctime, made.ctime));
        assert_eq!(case.some(case.meta.lookup(Ino::ROOT, name.as_bytes()).await), (ino, made));
        let again = session.create(&user(7, 8), Ino::ROOT, name.as_bytes(), &NewInode::File, 0o600).await;
        assert!(matches!(again.expect_err("it exists"), MetaError::Exists { parent: 1, .. }));
    }
    let link = case.some(case.meta.lookup(Ino::ROOT, b"Symlink").await).0;
    assert_eq!(case.some(case.meta.readlink(link).await)[..], b"to\xff/there"[..]);
    let root = case.some(case.meta.getattr(Ino::ROOT).await);
    assert_eq!(root.nlink, before.nlink + 1);
    assert!(root.mtime > before.mtime && root.ctime == root.mtime && root.atime == before.atime);
    case.ok(session.close().await);
}

pub(super) async fn group_and_flags_are_inherited(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let d = case.ok(case.meta.alloc_inodes(1).await).start;
    let mut shared = attr(FileType::Directory, 0o2777);
    (shared.gid, shared.flags) = (55, attr_flag::SKIP_TRASH | attr_flag::WINDOWS_HIDDEN);
    case.ok(case.meta.import(BatchBuilder::new().entry(1, b"d", d, shared).build()).await);
    let make = async |caller: &Caller, name: &str, new: NewInode, mode| {
        case.ok(session.create(caller, Ino(d), name.as_bytes(), &new, mode).await).1
    };
    let file = make(&user(7, 8), "f", NewInode::File, 0o644).await;
    assert_eq!((file.gid, file.mode, file.flags), (55, 0o644, attr_flag::SKIP_TRASH));
    let sub = make(&user(7, 8), "sub", NewInode::Directory, 0o755).await;
    assert_eq!((sub.gid, sub.mode, sub.flags), (55, 0o2755, attr_flag::SKIP_TRASH));
    // A program that runs as a group is made only by members of it, or root.
    assert_eq!(make(&user(7, 8), "stranger", NewInode::File, 0o2755).await.mode, 0o755);
    let member = Caller { groups: vec![1, 55], ..user(7, 8) };
    assert_eq!(make(&member, "member", NewInode::File, 0o2755).await.mode, 0o2755);
    assert_eq!(make(&user(0, 0), "root", NewInode::File, 0o2755).await.mode, 0o2755);
    assert_eq!(make(&user(7, 8), "no program", NewInode::File, 0o2644).await.mode, 0o2644);
    case.ok(session.close().await);
}

pub(super) async fn creating_is_refused_where_the_rules_say_so(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let ids = case.ok(case.meta.alloc_inodes(3).await).start;
    let fixed = Attr { flags: attr_flag::IMMUTABLE, ..attr(FileType::Directory, 0o777) };
    let batch = BatchBuilder::new().file(1, b"file", ids, 0).entry(1, b"fixed", ids + 1, fixed);
    let batch = batch.entry(1, b"mine", ids + 2, attr(FileType::Directory, 0o700));
    case.ok(case.meta.import(batch.build()).await);
    let refused = async |caller: &Caller, parent: u64, name: &[u8], new: &NewInode| {
        session.create(caller, Ino(parent), name, new, 0o644).await.expect_err("refused")
    };
    let root = Caller::root();
    assert!(matches!(refused(&root, 4711, b"x", &NewInode::File).await, MetaError::NoInode { ino: 4711 }));
    assert!(matches!(refused(&root, ids, b"x", &NewInode::File).await, MetaError::NotDirectory { .. }));
    let why = async |caller: &Caller, parent: u64, name: &[u8], new: &NewInode| match refused(caller, parent, name, new)
        .await
    {
        MetaError::Refused { why, .. } => why,
        other => panic!("{other}"),
    };
    assert_eq!(why(&root, ids + 1, b"x", &NewInode::File).await, Refusal::NotPermitted);
    assert_eq!(why(&root, Ino::TRASH.0, b"x", &NewInode::File).await, Refusal::NotPermitted);
    assert_eq!(why(&root, 1, b".trash", &NewInode::Directory).await, Refusal::NotPermitted);
    assert_eq!(why(&root, 1, b".stats", &NewInode::File).await, Refusal::NotPermitted);
    assert_eq!(why(&user(7, 8), ids + 2, b"x", &NewInode::File).await, Refusal::Access);
    assert_eq!(why(&root, 1, &[b'a'; 256], &NewInode::File).await, Refusal::NameTooLong);
    let long = NewInode::Symlink(Bytes::from(vec![b'a'; 4096]));
    assert_eq!(why(&root, 1, b"x", &long).await, Refusal::NameTooLong);
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
        assert_eq!(refused(&root, 1, name, &NewInode::File).await.kind(), ErrorKind::Invalid);
    }
    for target in [&b""[..], b"a\0b"] {
        let link = NewInode::Symlink(Bytes::from_static(target));
        assert_eq!(refused(&root, 1, b"x", &link).await.kind(), ErrorKind::Invalid);
    }
    case.ok(session.flush_accounts().await);
    assert_eq!(case.ok(case.meta.statfs().await).used_inodes, 3, "nothing was created");
    case.ok(session.close().await);
}

pub(super) async fn use_is_accounted_by_every_creation(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let root = Caller::root();
    let (d, _) = case.ok(session.create(&root, Ino::ROOT, b"d", &NewInode::Directory, 0o755).await);
    for (name, new) in
        [("f", NewInode::File), ("l", NewInode::Symlink(Bytes::from_static(b"f"))), ("p", NewInode::Fifo)]
    {
        case.ok(session.create(&root, d, name.as_bytes(), &new, 0o644).await);
    }
    case.ok(session.flush_accounts().await);
    let fs = case.ok(case.meta.statfs().await);
    assert_eq!((fs.used_bytes, fs.used_inodes), (4 * 4096, 4));
    let records = case.engine.records();
    let of = |inodes: i64| Some(DirUsage { length: 0, space: 4096 * inodes, inodes });
    assert_eq!(case.ok(records.dir_usage(Ino::ROOT).await), of(1));
    assert_eq!(case.ok(records.dir_usage(d).await), of(3));
    case.ok(session.close().await);
    assert_eq!(case.ok(case.meta.statfs().await), fs, "nothing is written twice");
}

pub(super) async fn clients_create_in_one_directory_at_once(case: &Case) {
    const EACH: usize = 10;
    case.init().await;
    let sessions = [case.join().await, case.join().await];
    let makers: Vec<_> = sessions
        .iter()
        .map(|session| {
            let session = session.clone();
            task::spawn("create", async move {
                let mut taken = 0;
                for n in 0..EACH {
                    let own = format!("{}-{n}", session.sid());
                    session.create(&Caller::root(), Ino::ROOT, own.as_bytes(), &NewInode::Directory, 0o755).await?;
                    let (root, both) = (Caller::root(), n.to_string());
                    match session.create(&root, Ino::ROOT, both.as_bytes(), &NewInode::File, 0o644).await {
                        Ok(_) => {}
                        Err(MetaError::Exists { .. }) => taken += 1,
                        Err(error) => return Err(error),
                    }
                }
                Ok(taken)
            })
        })
        .collect();
    let mut taken = 0;
    for maker in makers {
        taken += case.ok(case.ok(maker.await));
    }
    assert_eq!(taken, EACH, "of two that create the same name one succeeds");
    for session in &sessions {
        case.ok(session.close().await);
    }
    assert_eq!(case.some(case.meta.getattr(Ino::ROOT).await).nlink, 2 + 2 * EACH as u32);
    assert_eq!(case.ok(case.meta.readdir(Ino::ROOT).await).len(), 3 * EACH);
    assert_eq!(case.ok(case.meta.statfs().await).used_inodes, 3 * EACH as u64);
    let usage = case.ok(case.engine.records().dir_usage(Ino::ROOT).await);
    assert_eq!(usage.map(|usage| usage.inodes), Some(3 * EACH as i64));
}
