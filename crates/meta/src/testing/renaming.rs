//! Renaming: moves, replacements, exchanges, and what must not move.

use shoal_format::{Attr, FileType, Ino, attr_flag};
use shoal_types::ErrorKind;

use super::Case;
use super::removing::{refusal, user};
use super::sample::{BatchBuilder, TIME, attr};
use crate::error::{MetaError, Refusal};
use crate::ops::{Caller, Place, Remains, RenameMode, Renamed};
use crate::session::{Session, now};

fn place(parent: u64, name: &str) -> Place<'_> {
    Place { parent: Ino(parent), name: name.as_bytes() }
}

/// Renames as root over what is there.
async fn mv(case: &Case, session: &Session, from: Place<'_>, to: Place<'_>) -> Option<Remains> {
    let renamed = case.ok(session.rename(&Caller::root(), from, to, RenameMode::Replace).await);
    renamed.replaced.map(|(_, remains)| remains)
}

pub(super) async fn names_move_with_all_they_stand_for(case: &Case) {
    case.init().await;
    let (session, before) = (case.join().await, now());
    let i = case.ok(case.meta.alloc_inodes(9).await).start;
    let batch = BatchBuilder::new().dir(1, b"a", i).dir(1, b"b", i + 1).file(i, b"f", i + 2, 5000);
    let batch = batch.dir(i, b"sub", i + 3).file(i + 3, b"deep", i + 4, 9).symlink(1, b"l", i + 5, b"to");
    let batch = batch.file(1, b"hard", i + 6, 10).link(i, b"hard2", i + 6);
    case.ok(case.meta.import(batch.build()).await);
    assert_eq!(mv(case, &session, place(i, "f"), place(i, "f\n2")).await, None);
    assert_eq!(mv(case, &session, place(i, "f\n2"), place(i + 1, "f")).await, None);
    let file = case.some(case.meta.lookup(Ino(i + 1), b"f").await);
    assert_eq!((file.0, file.1.parent, file.1.mtime), (Ino(i + 2), Ino(i + 1), TIME));
    assert!(file.1.ctime >= before);
    case.audit(&session, &[]).await;

    assert_eq!(mv(case, &session, place(i, "sub"), place(i + 1, "sub2")).await, None);
    let links = async |ino: u64| case.some(case.meta.getattr(Ino(ino)).await).nlink;
    assert_eq!((links(i).await, links(i + 1).await, links(i + 3).await), (2, 3, 2));
    assert_eq!(case.some(case.meta.resolve_path(b"/b/sub2/deep").await).0, Ino(i + 4));
    case.audit(&session, &[]).await;

    mv(case, &session, place(1, "l"), place(i, "l")).await;
    mv(case, &session, place(i, "hard2"), place(i + 1, "hard3")).await;
    mv(case, &session, place(1, "hard"), place(i + 1, "hard4")).await;
    let dir = case.some(case.meta.getattr(Ino(i)).await);
    assert!(dir.mtime >= before && dir.ctime == dir.mtime);
    case.audit(&session, &[]).await;
    // A name onto itself, and onto another name of its file: nothing happens.
    for (from, to) in [("hard3", "hard3"), ("hard3", "hard4"), ("sub2", "sub2")] {
        let same = session.rename(&Caller::root(), place(i + 1, from), place(i + 1, to), RenameMode::Replace).await;
        assert_eq!(case.ok(same).replaced, None);
    }
    let names: Vec<String> = case.names(Ino(i + 1)).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["f", "hard3", "hard4", "sub2"]);
    for (_, hour) in case.names(Ino::TRASH).await {
        assert_eq!(case.names(Ino(hour)).await, [], "nothing was removed");
    }
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn what_is_replaced_is_removed(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(20).await).start;
    let batch = BatchBuilder::new().dir(1, b"a", i).file(1, b"f", i + 1, 10).file(i, b"g", i + 2, 5000);
    let batch = batch.dir(1, b"d", i + 3).file(i + 3, b"in", i + 4, 1).dir(i, b"empty", i + 5).dir(1, b"e", i + 6);
    let batch = batch.symlink(1, b"l", i + 7, b"to").file(1, b"h", i + 8, 7).link(i, b"h2", i + 8);
    case.ok(case.meta.import(batch.build()).await);

    assert_eq!(mv(case, &session, place(1, "f"), place(i, "g")).await, Some(Remains::Trash));
    case.audit(&session, &[]).await;
    assert_eq!(mv(case, &session, place(1, "d"), place(i, "empty")).await, Some(Remains::Trash), "an empty directory");
    case.audit(&session, &[]).await;
    assert_eq!(mv(case, &session, place(1, "l"), place(1, "h")).await, Some(Remains::Trash), "one of two names");
    case.audit(&session, &[]).await;
    let hour = case.hour().await;
    let mut names: Vec<String> = case.names(hour).await.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, [format!("1-{}-h", i + 8), format!("{i}-{}-g", i + 2), format!("{i}-{}-empty", i + 5)]);

    let full = session.rename(&Caller::root(), place(1, "e"), place(i, "empty"), RenameMode::Replace).await;
    assert_eq!(refusal(full), Refusal::NotEmpty);
    let over_dir = session.rename(&Caller::root(), place(i, "g"), place(1, "e"), RenameMode::Replace).await;
    assert_eq!(refusal(over_dir), Refusal::IsDirectory);
    let over_file = session.rename(&Caller::root(), place(1, "e"), place(i, "g"), RenameMode::Replace).await;
    assert!(matches!(over_file, Err(MetaError::NotDirectory { .. })));
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn what_is_replaced_without_a_trash_is_deleted_or_held(case: &Case) {
    case.init_without_trash().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(20).await).start;
    let batch = BatchBuilder::new().file(1, b"a", i, 1).file(1, b"b", i + 1, 5000).file(1, b"c", i + 2, 9);
    let batch = batch.dir(1, b"d", i + 3).dir(1, b"e", i + 4).file(i + 3, b"in", i + 5, 1).file(1, b"x", i + 6, 1);
    case.ok(case.meta.import(batch.link(1, b"y", i + 6).build()).await);
    assert!(
        matches!(mv(case, &session, place(1, "a"), place(1, "b")).await, Some(Remains::Data(file)) if file.ino == Ino(i + 1))
    );
    session.opened(Ino(i + 2));
    assert_eq!(mv(case, &session, place(1, "b"), place(1, "c")).await, Some(Remains::OpenFile));
    case.audit(&session, &[Ino(i + 2)]).await;
    case.ok(session.release(Ino(i + 2)).await);
    assert!(case.gone(i + 2).await);
    assert_eq!(mv(case, &session, place(1, "d"), place(1, "e")).await, Some(Remains::Nothing));
    assert!(case.gone(i + 4).await);
    assert_eq!(mv(case, &session, place(1, "c"), place(1, "x")).await, Some(Remains::Names));
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn names_are_kept_or_exchanged_on_request(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(20).await).start;
    let batch = BatchBuilder::new().dir(1, b"a", i).dir(1, b"b", i + 1).file(i, b"f", i + 2, 10);
    let batch =
        batch.dir(i + 1, b"d", i + 3).file(i + 3, b"in", i + 4, 1).file(1, b"h", i + 5, 3).link(i, b"h2", i + 5);
    case.ok(case.meta.import(batch.build()).await);
    let root = Caller::root();
    let rename = async |from, to, mode| session.rename(&root, from, to, mode).await;
    let taken = rename(place(i, "f"), place(i + 1, "d"), RenameMode::NoReplace).await;
    assert!(matches!(taken, Err(MetaError::Exists { .. })));
    case.ok(rename(place(i, "f"), place(i + 1, "f"), RenameMode::NoReplace).await);
    case.ok(rename(place(i + 1, "f"), place(i, "f"), RenameMode::NoReplace).await);
    let absent = rename(place(i, "f"), place(i, "x"), RenameMode::Exchange).await;
    assert!(matches!(absent, Err(MetaError::NoEntry { .. })));

    let exchanged = case.ok(rename(place(i, "f"), place(i + 1, "d"), RenameMode::Exchange).await);
    assert_eq!(exchanged, Renamed { ino: Ino(i + 2), replaced: None });
    assert_eq!(case.names(Ino(i)).await, [("f".to_owned(), i + 3), ("h2".to_owned(), i + 5)]);
    assert_eq!(case.names(Ino(i + 1)).await, [("d".to_owned(), i + 2)]);
    case.audit(&session, &[]).await;
    case.ok(rename(place(i, "h2"), place(i + 1, "d"), RenameMode::Exchange).await);
    case.audit(&session, &[]).await;
    case.ok(rename(place(1, "a"), place(1, "b"), RenameMode::Exchange).await);
    assert_eq!(case.some(case.meta.resolve_path(b"/b/f/in").await).0, Ino(i + 4));
    assert_eq!(case.names(Ino::TRASH).await, [], "nothing was removed");
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn directories_never_end_up_below_themselves(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(9).await).start;
    let batch = BatchBuilder::new().dir(1, b"a", i).dir(i, b"b", i + 1).dir(i + 1, b"c", i + 2).dir(1, b"x", i + 3);
    case.ok(case.meta.import(batch.build()).await);
    let root = Caller::root();
    for (from, to, mode) in [
        (place(1, "a"), place(i, "new"), RenameMode::Replace),
        (place(1, "a"), place(i + 1, "new"), RenameMode::Replace),
        (place(1, "a"), place(i + 2, "new"), RenameMode::NoReplace),
        (place(1, "a"), place(i + 1, "c"), RenameMode::Exchange),
        (place(i + 1, "c"), place(1, "a"), RenameMode::Exchange),
    ] {
        let error = session.rename(&root, from, to, mode).await.expect_err("a circle");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("lies below it"), "{error}");
    }
    let above = session.rename(&root, place(i + 1, "c"), place(1, "a"), RenameMode::Replace).await;
    assert_eq!(refusal(above), Refusal::NotEmpty);
    case.audit(&session, &[]).await;
    case.ok(session.rename(&root, place(i, "b"), place(i + 3, "b"), RenameMode::Replace).await);
    case.ok(session.rename(&root, place(1, "a"), place(i + 2, "a"), RenameMode::Replace).await);
    assert_eq!(case.some(case.meta.resolve_path(b"/x/b/c/a").await).0, Ino(i));
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn what_cannot_be_renamed_stays(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(20).await).start;
    let sticky = Attr { uid: 7, ..attr(FileType::Directory, 0o1777) };
    let immutable = Attr { flags: attr_flag::IMMUTABLE, ..attr(FileType::Regular, 0o666) };
    let append = Attr { flags: attr_flag::APPEND, ..attr(FileType::Directory, 0o777) };
    let batch = BatchBuilder::new().entry(1, b"sticky", i, sticky).file(i, b"f", i + 1, 1).file(1, b"f", i + 2, 1);
    let batch = batch.entry(1, b"fixed", i + 3, immutable).dir(1, b"d", i + 4).file(i + 4, b"f", i + 5, 1);
    let open = Attr { mode: 0o777, ..attr(FileType::Directory, 0) };
    let batch = batch.entry(1, b"open", i + 6, open).dir(i + 6, b"theirs", i + 7).entry(1, b"log", i + 8, append);
    case.ok(case.meta.import(batch.file(i + 8, b"old", i + 9, 1).build()).await);
    let root = Caller::root();
    let rename = async |who: &Caller, from, to| session.rename(who, from, to, RenameMode::Replace).await;

    assert!(matches!(rename(&root, place(1, "no"), place(1, "x")).await, Err(MetaError::NoEntry { .. })));
    assert!(matches!(rename(&root, place(1, "f"), place(9999, "x")).await, Err(MetaError::NoInode { .. })));
    assert!(matches!(rename(&root, place(1, "f"), place(i + 1, "x")).await, Err(MetaError::NotDirectory { .. })));
    let long = "x".repeat(256);
    assert_eq!(refusal(rename(&root, place(1, "f"), place(1, &long)).await), Refusal::NameTooLong);
    for dots in [".", ".."] {
        assert_eq!(rename(&root, place(i, dots), place(1, "x")).await.expect_err("dots").kind(), ErrorKind::Invalid);
        assert_eq!(rename(&root, place(1, "f"), place(i, dots)).await.expect_err("dots").kind(), ErrorKind::Invalid);
    }
    for reserved in [".trash", ".stats"] {
        assert_eq!(refusal(rename(&root, place(1, "f"), place(1, reserved)).await), Refusal::NotPermitted);
        assert_eq!(refusal(rename(&root, place(1, reserved), place(1, "x")).await), Refusal::NotPermitted);
    }
    assert_eq!(refusal(rename(&root, place(1, "fixed"), place(1, "x")).await), Refusal::NotPermitted);
    assert_eq!(refusal(rename(&root, place(1, "f"), place(1, "fixed")).await), Refusal::NotPermitted);
    assert_eq!(refusal(rename(&root, place(i + 8, "old"), place(1, "x")).await), Refusal::NotPermitted);
    assert_eq!(refusal(rename(&root, place(1, "f"), place(i + 8, "old")).await), Refusal::NotPermitted);
    let stranger = user(5);
    assert_eq!(refusal(rename(&stranger, place(i + 4, "f"), place(1, "x")).await), Refusal::Access, "from 0755");
    assert_eq!(refusal(rename(&stranger, place(1, "f"), place(i + 4, "x")).await), Refusal::Access, "to 0755");
    assert_eq!(refusal(rename(&stranger, place(i, "f"), place(1, "x")).await), Refusal::NotPermitted, "from sticky");
    assert_eq!(refusal(rename(&stranger, place(1, "f"), place(i, "f")).await), Refusal::NotPermitted, "over theirs");
    let moved = rename(&stranger, place(i + 6, "theirs"), place(1, "x")).await;
    assert_eq!(refusal(moved), Refusal::Access, "its `..` would change");
    case.audit(&session, &[]).await;
    case.ok(rename(&stranger, place(i + 6, "theirs"), place(i + 6, "still")).await);
    case.ok(rename(&root, place(1, "f"), place(i + 8, "new")).await);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn root_restores_from_the_trash_and_nobody_renames_into_it(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let i = case.ok(case.meta.alloc_inodes(9).await).start;
    let batch = BatchBuilder::new().dir(1, b"d", i).file(i, b"f", i + 1, 10).dir(i, b"e", i + 2);
    let batch = batch.file(1, b"h", i + 3, 5).link(i, b"h2", i + 3).file(1, b"other", i + 4, 1);
    case.ok(case.meta.import(batch.build()).await);
    let root = Caller::root();
    for (dir, name) in [(i, "f"), (i, "h2")] {
        case.ok(session.unlink(&root, Ino(dir), name.as_bytes()).await);
    }
    case.ok(session.rmdir(&root, Ino(i), b"e").await);
    let hour = case.hour().await.0;
    let (file, dir, hard) = (format!("{i}-{}-f", i + 1), format!("{i}-{}-e", i + 2), format!("{i}-{}-h2", i + 3));
    let rename = async |who: &Caller, from, to, mode| session.rename(who, from, to, mode).await;

    let stranger = Caller { check: false, ..user(1000) };
    let stolen = rename(&stranger, place(hour, &file), place(1, "x"), RenameMode::Replace).await;
    assert_eq!(refusal(stolen), Refusal::NotPermitted);
    for mode in [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange] {
        for (from, to) in [(place(1, "other"), place(hour, "x")), (place(1, "other"), place(Ino::TRASH.0, "x"))] {
            assert_eq!(refusal(rename(&root, from, to, mode).await), Refusal::NotPermitted);
        }
    }
    let swapped = rename(&root, place(hour, &file), place(1, "other"), RenameMode::Exchange).await;
    assert_eq!(refusal(swapped), Refusal::NotPermitted);
    let hours = case.names(Ino::TRASH).await;
    let whole = rename(&root, place(Ino::TRASH.0, &hours[0].0), place(1, "x"), RenameMode::Replace).await;
    assert_eq!(refusal(whole), Refusal::NotPermitted);
    case.audit(&session, &[]).await;

    // As a real client leaves a removed directory: without statistics.
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.delete_dir_records(&[Ino(i + 2)]).await);
    case.ok(txn.commit().await);
    for (from, to) in [(&file, "f"), (&dir, "e"), (&hard, "h2")] {
        case.ok(rename(&root, place(hour, from), place(i, to), RenameMode::NoReplace).await);
    }
    assert_eq!(case.names(Ino(hour)).await, []);
    assert_eq!(case.some(case.meta.getattr(Ino(i)).await).nlink, 3);
    assert_eq!(case.some(case.meta.getattr(Ino(i + 1)).await).parent, Ino(i));
    // What was restored can be removed again within the hour.
    case.ok(session.unlink(&root, Ino(i), b"f").await);
    case.ok(session.unlink(&root, Ino(i), b"h2").await);
    assert_eq!(case.names(Ino(hour)).await.len(), 2);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn moves_that_would_close_a_circle_together_do_not(case: &Case) {
    const PAIRS: u64 = 12;
    case.init().await;
    let i = case.ok(case.meta.alloc_inodes(2 * PAIRS).await).start;
    let batch = (0..2 * PAIRS).fold(BatchBuilder::new(), |batch, n| batch.dir(1, format!("d{n}").as_bytes(), i + n));
    case.ok(case.meta.import(batch.build()).await);
    let (left, right) = (case.join().await, case.join().await);
    for pair in 0..PAIRS {
        let (a, b) = (2 * pair, 2 * pair + 1);
        let move_below = async |session: &Session, what: u64, below: u64| {
            let name = format!("d{what}");
            let (from, to) = (place(1, &name), place(i + below, &name));
            session.rename(&Caller::root(), from, to, RenameMode::Replace).await
        };
        let outcomes = tokio::join!(move_below(&left, a, b), move_below(&right, b, a));
        let moved = [outcomes.0.is_ok(), outcomes.1.is_ok()];
        assert_ne!(moved[0], moved[1], "{}: one of both moves: {outcomes:?}", case.name);
    }
    case.ok(left.close().await);
    case.ok(right.close().await);
    case.audit_settled(&[]).await;
}
