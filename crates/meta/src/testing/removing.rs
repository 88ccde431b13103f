//! Removing names: what goes to the trash, what is deleted, who may.

use bytes::Bytes;
use shoal_format::{Attr, Dentry, FileType, Ino, Settings, attr_flag, trash_hour};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, TIME, attr, settings};
use crate::engine::DeletedFile;
use crate::error::{MetaError, Refusal};
use crate::ops::{Caller, NewInode, Remains};
use crate::record::NewDentry;
use crate::session::{Session, now};

/// A user whose permissions are checked here.
pub(super) fn user(uid: u32) -> Caller {
    Caller { uid, gid: uid, check: true, ..Caller::default() }
}

impl Case {
    /// A volume without a trash.
    pub(super) async fn init_without_trash(&self) {
        self.ok(self.meta.init(&Settings { trash_days: 0, ..settings() }, false).await);
    }

    /// Names in a directory and what they stand for.
    pub(super) async fn names(&self, dir: Ino) -> Vec<(String, u64)> {
        let entries = self.ok(self.meta.readdir(dir).await);
        entries.into_iter().map(|entry| (entry.name.escape_ascii().to_string(), entry.ino.0)).collect()
    }

    /// The one hourly directory.
    pub(super) async fn hour(&self) -> Ino {
        let hours = self.names(Ino::TRASH).await;
        assert_eq!(hours.len(), 1, "{}: {hours:?}", self.name);
        Ino(hours[0].1)
    }

    pub(super) async fn gone(&self, ino: u64) -> bool {
        self.ok(self.meta.getattr(Ino(ino)).await).is_none()
    }
}

/// What `error` is refused for.
#[track_caller]
pub(super) fn refusal<T>(result: Result<T, MetaError>) -> Refusal {
    match result.map(drop) {
        Err(MetaError::Refused { why, .. }) => why,
        other => panic!("not refused by a rule: {other:?}"),
    }
}

async fn unlink(case: &Case, session: &Session, dir: u64, name: &str) -> Remains {
    case.ok(session.unlink(&Caller::root(), Ino(dir), name.as_bytes()).await).1
}

pub(super) async fn removed_inodes_lie_in_the_trash_of_their_hour(case: &Case) {
    case.init().await;
    let (session, before) = (case.join().await, now());
    let i = case.ok(case.meta.alloc_inodes(9).await).start;
    let batch = BatchBuilder::new().dir(1, b"d", i).file(i, b"f", i + 1, 5000).xattr(b"user.a", b"1");
    let batch = batch.symlink(i, b"l", i + 2, b"target").dir(i, b"sub", i + 3);
    let batch = batch.entry(i, b"p", i + 4, attr(FileType::Fifo, 0o600));
    case.ok(case.meta.import(batch.build()).await);
    for name in ["f", "l", "p"] {
        assert_eq!(unlink(case, &session, i, name).await, Remains::Trash);
    }
    let removed = case.ok(session.rmdir(&Caller::root(), Ino(i), b"sub").await);
    assert_eq!(removed, (Ino(i + 3), Remains::Trash));

    let after = now();
    let hours = case.names(Ino::TRASH).await;
    assert!(hours.iter().all(|(name, _)| [trash_hour(before), trash_hour(after)].contains(name)), "{hours:?}");
    let mut names = Vec::new();
    for (_, hour) in &hours {
        let dir = case.some(case.meta.getattr(Ino(*hour)).await);
        assert_eq!((dir.mode, dir.nlink, dir.length, dir.parent), (0o555, 2, 4096, Ino::TRASH));
        names.extend(case.names(Ino(*hour)).await);
    }
    assert_eq!(hours[0].1, Ino::TRASH.0 + 1);
    names.sort();
    let entry = |ino: u64, name: &str| (format!("{i}-{ino}-{name}"), ino);
    assert_eq!(names, [entry(i + 1, "f"), entry(i + 2, "l"), entry(i + 3, "sub"), entry(i + 4, "p")]);
    let file = case.some(case.meta.getattr(Ino(i + 1)).await);
    assert!(file.parent.is_trash() && file.ctime >= before && file.mtime == TIME);
    assert_eq!((file.nlink, file.length), (1, 5000));
    assert_eq!(case.ok(case.meta.listxattr(Ino(i + 1)).await), [&b"user.a"[..]]);
    assert_eq!(&case.some(case.meta.readlink(Ino(i + 2)).await)[..], b"target");
    let dir = case.some(case.meta.getattr(Ino(i)).await);
    assert!(dir.nlink == 2 && dir.mtime >= before && dir.ctime == dir.mtime);
    let root = case.some(case.meta.getattr(Ino::TRASH).await);
    assert_eq!(root.nlink, 2, "the trash root counts no directories");
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn names_in_the_trash_are_cut_and_hard_links_counted(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(3).await).start;
    let (long, longer) = ([vec![b'x'; 254], vec![b'a']].concat(), [vec![b'x'; 254], vec![b'b']].concat());
    let batch = BatchBuilder::new().file(1, &long, i, 10).link(1, &longer, i).link(1, b"short", i);
    case.ok(case.meta.import(batch.dir(1, b"d", i + 1).link(i + 1, b"other", i).build()).await);
    let remove = async |dir: u64, name: &[u8]| case.ok(session.unlink(&Caller::root(), Ino(dir), name).await).1;
    assert_eq!(remove(1, &long).await, Remains::Trash);
    assert_eq!(remove(i + 1, b"other").await, Remains::Trash);
    case.audit(&session, &[]).await;
    // Cut, both long names are one: the file is in the trash under it already.
    assert_eq!(remove(1, &longer).await, Remains::Names);
    let file = case.some(case.meta.getattr(Ino(i)).await);
    assert_eq!((file.nlink, file.parent), (3, Ino::NONE));
    let names: Vec<String> = case.names(case.hour().await).await.into_iter().map(|(name, _)| name).collect();
    let cut = format!("1-{i}-{}", "x".repeat(255 - format!("1-{i}-").len()));
    assert_eq!(names, [cut, format!("{}-{i}-other", i + 1)]);
    case.audit(&session, &[]).await;
    assert_eq!(remove(1, b"short").await, Remains::Trash);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn without_a_trash_removed_inodes_are_deleted(case: &Case) {
    case.init_without_trash().await;
    let (session, before) = (case.join().await, now().secs);
    let i = case.ok(case.meta.alloc_inodes(9).await).start;
    let batch = BatchBuilder::new().file(1, b"f", i, 5000).xattr(b"user.a", b"1").link(1, b"g", i);
    let batch = batch.symlink(1, b"l", i + 1, b"target").dir(1, b"d", i + 2);
    let batch = batch.entry(1, b"p", i + 3, attr(FileType::Fifo, 0o600));
    case.ok(case.meta.import(batch.build()).await);
    assert_eq!(unlink(case, &session, 1, "f").await, Remains::Names);
    assert_eq!(case.some(case.meta.getattr(Ino(i)).await).nlink, 1);
    assert_eq!(case.ok(case.meta.listxattr(Ino(i)).await).len(), 1);
    case.audit(&session, &[]).await;
    let Remains::Data(file) = unlink(case, &session, 1, "g").await else { panic!("{}: data remains", case.name) };
    assert!(file.removed >= before);
    assert_eq!(file, DeletedFile { ino: Ino(i), length: 5000, removed: file.removed });
    assert_eq!(case.ok(case.engine.records().deleted_files(i64::MAX, 9).await), [file]);
    for name in ["l", "p"] {
        assert_eq!(unlink(case, &session, 1, name).await, Remains::Nothing);
    }
    let removed = case.ok(session.rmdir(&Caller::root(), Ino::ROOT, b"d").await);
    assert_eq!(removed.1, Remains::Nothing);
    for ino in i..i + 4 {
        assert!(case.gone(ino).await, "{}: inode {ino}", case.name);
        assert_eq!(case.ok(case.meta.listxattr(Ino(ino)).await), Vec::<Bytes>::new());
    }
    assert_eq!(case.ok(case.meta.readlink(Ino(i + 1)).await), None);
    assert_eq!(case.ok(case.engine.records().dir_usage(Ino(i + 2)).await), None);
    assert_eq!(case.ok(case.meta.getattr(Ino::TRASH).await), None);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn marked_inodes_and_the_trash_itself_bypass_the_trash(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(5).await).start;
    let marked = |kind, mode| Attr { flags: attr_flag::SKIP_TRASH, ..attr(kind, mode) };
    let batch = BatchBuilder::new().entry(1, b"f", i, marked(FileType::Regular, 0o644));
    let batch = batch.entry(1, b"d", i + 1, marked(FileType::Directory, 0o755)).file(1, b"g", i + 2, 1);
    case.ok(case.meta.import(batch.dir(1, b"e", i + 3).build()).await);
    assert!(matches!(unlink(case, &session, 1, "f").await, Remains::Data(_)));
    assert_eq!(case.ok(session.rmdir(&Caller::root(), Ino::ROOT, b"d").await).1, Remains::Nothing);
    unlink(case, &session, 1, "g").await;
    case.ok(session.rmdir(&Caller::root(), Ino::ROOT, b"e").await);
    let hour = case.hour().await;
    let (file, dir) = (format!("1-{}-g", i + 2), format!("1-{}-e", i + 3));
    let before = case.some(case.meta.getattr(hour).await);

    let stranger = Caller { check: false, ..user(1000) };
    assert_eq!(refusal(session.unlink(&stranger, hour, file.as_bytes()).await), Refusal::NotPermitted);
    assert_eq!(refusal(session.rmdir(&stranger, hour, dir.as_bytes()).await), Refusal::NotPermitted);
    let name = case.names(Ino::TRASH).await[0].0.clone();
    assert_eq!(refusal(session.rmdir(&Caller::root(), Ino::TRASH, name.as_bytes()).await), Refusal::NotPermitted);

    assert!(matches!(unlink(case, &session, hour.0, &file).await, Remains::Data(_)));
    assert_eq!(case.ok(session.rmdir(&Caller::root(), hour, dir.as_bytes()).await).1, Remains::Nothing);
    assert_eq!(case.some(case.meta.getattr(hour).await), before, "hourly directories keep their times and links");
    assert_eq!(case.names(hour).await, []);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn what_cannot_be_removed_stays(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(20).await).start;
    let flagged = |flags| Attr { flags, ..attr(FileType::Regular, 0o644) };
    let batch = BatchBuilder::new().dir(1, b"d", i).file(i, b"f", i + 1, 1).dir(i, b"e", i + 2);
    let batch = batch.entry(1, b"immutable", i + 3, flagged(attr_flag::IMMUTABLE));
    let batch = batch.entry(1, b"append", i + 4, flagged(attr_flag::APPEND));
    let sticky = Attr { uid: 7, ..attr(FileType::Directory, 0o1777) };
    let batch = batch.entry(1, b"sticky", i + 5, sticky).file(i + 5, b"f", i + 6, 1).dir(i + 5, b"e", i + 7);
    let fixed = Attr { flags: attr_flag::APPEND, ..attr(FileType::Directory, 0o777) };
    let batch = batch.entry(1, b"fixed", i + 8, fixed).file(i + 8, b"f", i + 9, 1);
    case.ok(case.meta.import(batch.build()).await);
    let before = case.names(Ino::ROOT).await;
    let root = Caller::root();
    let unlink = async |who: &Caller, dir: u64, name: &[u8]| session.unlink(who, Ino(dir), name).await;
    let rmdir = async |who: &Caller, dir: u64, name: &[u8]| session.rmdir(who, Ino(dir), name).await;

    assert_eq!(refusal(unlink(&root, 1, b"d").await), Refusal::NotPermitted, "a directory");
    assert!(matches!(rmdir(&root, i, b"f").await, Err(MetaError::NotDirectory { .. })));
    assert_eq!(refusal(rmdir(&root, 1, b"d").await), Refusal::NotEmpty);
    assert_eq!(refusal(rmdir(&root, i, b"..").await), Refusal::NotEmpty);
    assert_eq!(rmdir(&root, i, b".").await.expect_err("itself").kind(), ErrorKind::Invalid);
    for name in [&b"x"[..], b"", b"a/b"] {
        assert!(matches!(unlink(&root, 1, name).await, Err(MetaError::NoEntry { parent: 1, .. })));
        assert!(matches!(rmdir(&root, 1, name).await, Err(MetaError::NoEntry { parent: 1, .. })));
    }
    assert!(matches!(unlink(&root, 9999, b"x").await, Err(MetaError::NoInode { ino: 9999 })));
    assert!(matches!(unlink(&root, i + 1, b"x").await, Err(MetaError::NotDirectory { .. })));
    assert_eq!(refusal(unlink(&root, 1, &[b'x'; 256]).await), Refusal::NameTooLong);
    for name in [&b".trash"[..], b".stats", b".config"] {
        assert_eq!(refusal(unlink(&root, 1, name).await), Refusal::NotPermitted);
        assert_eq!(refusal(rmdir(&root, 1, name).await), Refusal::NotPermitted);
    }
    for (dir, name) in [(1, &b"immutable"[..]), (1, b"append"), (i + 8, b"f")] {
        assert_eq!(refusal(unlink(&root, dir, name).await), Refusal::NotPermitted);
    }
    assert_eq!(refusal(unlink(&user(1000), 1, b".trash").await), Refusal::NotPermitted);
    assert_eq!(refusal(unlink(&user(5), i, b"f").await), Refusal::Access, "mode 0755 of another");
    assert_eq!(refusal(unlink(&user(5), i + 5, b"f").await), Refusal::NotPermitted, "a sticky directory");
    assert_eq!(refusal(rmdir(&user(5), i + 5, b"e").await), Refusal::NotPermitted);
    assert_eq!(case.names(Ino::ROOT).await, before);
    case.audit(&session, &[]).await;
    // The directory's owner and the file's may, and the kernel has checked for others.
    case.ok(unlink(&user(7), i + 5, b"f").await);
    case.ok(rmdir(&user(1000), i + 5, b"e").await);
    case.ok(unlink(&Caller { check: false, ..user(5) }, i, b"f").await);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn a_damaged_name_can_be_removed(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let txn = case.ok(case.engine.begin().await);
    let lost = |name: &'static str, kind| NewDentry {
        parent: Ino::ROOT,
        name: name.into(),
        dentry: Dentry { kind, ino: Ino(77) },
    };
    case.ok(txn.insert_dentries(&[lost("f", FileType::Regular), lost("d", FileType::Directory)]).await);
    case.ok(txn.commit().await);
    assert_eq!(unlink(case, &session, 1, "f").await, Remains::Nothing);
    case.ok(session.rmdir(&Caller::root(), Ino::ROOT, b"d").await);
    assert_eq!(case.names(Ino::ROOT).await, []);
    case.ok(session.close().await);
}

pub(super) async fn a_directory_goes_or_gets_a_name_never_both(case: &Case) {
    const ROUNDS: u64 = 25;
    case.init_without_trash().await;
    let i = case.ok(case.meta.alloc_inodes(ROUNDS).await).start;
    let batch = (0..ROUNDS).fold(BatchBuilder::new(), |batch, n| batch.dir(1, format!("d{n}").as_bytes(), i + n));
    case.ok(case.meta.import(batch.build()).await);
    let (creator, remover) = (case.join().await, case.join().await);
    for n in 0..ROUNDS {
        let (root, name) = (Caller::root(), format!("d{n}"));
        let (created, removed) = tokio::join!(
            creator.create(&root, Ino(i + n), b"f", &NewInode::File, 0o644),
            remover.rmdir(&root, Ino::ROOT, name.as_bytes())
        );
        assert_ne!(created.is_ok(), removed.is_ok(), "{}: {created:?}, {removed:?}", case.name);
    }
    case.ok(creator.close().await);
    case.ok(remover.close().await);
    case.audit_settled(&[]).await;
}

pub(super) async fn one_of_many_removes_a_name(case: &Case) {
    case.init_without_trash().await;
    let i = case.ok(case.meta.alloc_inodes(40).await).start;
    let batch = (0..40).fold(BatchBuilder::new(), |batch, n| batch.file(1, format!("f{n}").as_bytes(), i + n, 1));
    case.ok(case.meta.import(batch.build()).await);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let session = case.join().await;
        clients.push(shoal_runtime::task::spawn("remover", async move {
            let mut removed = 0;
            for n in 0..40 {
                match session.unlink(&Caller::root(), Ino::ROOT, format!("f{n}").as_bytes()).await {
                    Ok(_) => removed += 1,
                    Err(MetaError::NoEntry { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            session.close().await.map(|()| removed)
        }));
    }
    let mut removed = 0;
    for client in clients {
        removed += case.ok(case.ok(client.await));
    }
    assert_eq!(removed, 40, "{}: each by exactly one", case.name);
    assert_eq!(case.ok(case.engine.records().deleted_files(i64::MAX, 99).await).len(), 40);
    case.audit_settled(&[]).await;
}
