//! Volumes, names and attributes.

use shoal_format::{Dentry, FileType, Ino, Settings};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, TIME, attr, settings};
use crate::record::NewDentry;

pub(super) async fn empty_database_holds_no_volume(case: &Case) {
    let error = case.meta.settings().await.expect_err("no volume");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains(case.meta.name()), "{error}");
    for kind in [case.meta.getattr(Ino::ROOT).await.map(drop), case.meta.alloc_inodes(1).await.map(drop)] {
        assert_eq!(kind.expect_err("no volume").kind(), ErrorKind::NotFound);
    }
}

pub(super) async fn new_volume_has_root_trash_and_counters(case: &Case) {
    case.init().await;
    let root = case.some(case.meta.getattr(Ino::ROOT).await);
    assert_eq!(
        (root.kind, root.mode, root.nlink, root.length, root.parent),
        (FileType::Directory, 0o777, 2, 4096, Ino::ROOT)
    );
    let trash = case.some(case.meta.getattr(Ino::TRASH).await);
    assert_eq!((trash.mode, trash.nlink, trash.parent), (0o555, 2, Ino::ROOT));
    assert_eq!(case.ok(case.meta.readdir(Ino::ROOT).await), []);
    let fs = case.ok(case.meta.statfs().await);
    assert_eq!((fs.used_bytes, fs.used_inodes, fs.capacity, fs.inodes), (0, 0, 0, 0));
    assert_eq!(case.ok(case.meta.alloc_inodes(3).await), 2..5);
    assert_eq!(case.ok(case.meta.alloc_slices(2).await), 1..3);
    assert_eq!(case.ok(case.meta.alloc_slices(1).await), 3..4);
}

pub(super) async fn setting_survives_and_changes(case: &Case) {
    let made = Settings { trash_days: 0, capacity: 1 << 40, hash_prefix: true, ..settings() };
    case.ok(case.meta.init(&made, false).await);
    assert_eq!(case.ok(case.meta.settings().await), made);
    assert_eq!(case.ok(case.meta.getattr(Ino::TRASH).await), None, "no trash was asked for");

    let changed = Settings { trash_days: 7, capacity: 1 << 41, ..made.clone() };
    case.ok(case.meta.update_settings(&changed).await);
    assert_eq!(case.ok(case.meta.settings().await), changed);
    case.some(case.meta.getattr(Ino::TRASH).await);
    assert_eq!(case.ok(case.meta.statfs().await).capacity, 1 << 41);

    let error = case.meta.update_settings(&Settings { block_size: 64, ..changed }).await.expect_err("fixed");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("BlockSize"), "{error}");
}

pub(super) async fn second_init_needs_force_and_keeps_identity(case: &Case) {
    case.init().await;
    let (dir, _) = case.ok(case.meta.mkdir_p(b"/kept", Default::default()).await);
    let other = Settings { bucket: "/elsewhere/".into(), ..Settings::new("conform", "another-uuid") };
    let error = case.meta.init(&other, false).await.expect_err("exists");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains("`conform`"), "{error}");

    case.ok(case.meta.init(&other, true).await);
    let now = case.ok(case.meta.settings().await);
    assert_eq!((now.bucket.as_str(), now.uuid), ("/elsewhere/", settings().uuid));
    assert_eq!(case.some(case.meta.resolve_path(b"kept").await).0, dir);
    assert_eq!(
        case.meta.init(&Settings { name: "No".into(), ..other }, true).await.expect_err("name").kind(),
        ErrorKind::Invalid
    );
}

pub(super) async fn tree_reads_back(case: &Case) {
    case.init().await;
    let first = case.ok(case.meta.alloc_inodes(4).await).start;
    let (dir, file, link, fifo) = (first, first + 1, first + 2, first + 3);
    let batch = BatchBuilder::new()
        .dir(1, b"d", dir)
        .file(dir, b"f", file, 10)
        .xattr(b"user.a", b"1")
        .xattr(b"user.empty", b"")
        .xattr("user.é".as_bytes(), b"\0\xff")
        .symlink(dir, b"l", link, b"../\xff target")
        .entry(dir, b"p", fifo, attr(FileType::Fifo, 0o600));
    case.ok(case.meta.import(batch.build()).await);

    let (ino, got) = case.some(case.meta.lookup(Ino(dir), b"f").await);
    assert_eq!(ino, Ino(file));
    assert_eq!((got.kind, got.mode, got.uid, got.gid), (FileType::Regular, 0o644, 1000, 100));
    assert_eq!((got.atime, got.mtime, got.ctime), (TIME, TIME, TIME));
    assert_eq!((got.nlink, got.length, got.parent), (1, 10, Ino(dir)));
    assert_eq!(case.ok(case.meta.lookup(Ino(dir), b"F").await), None);
    assert_eq!(case.ok(case.meta.lookup(Ino(file), b"f").await), None);
    assert_eq!(case.ok(case.meta.getattr(Ino(9999)).await), None);

    let target = case.some(case.meta.readlink(Ino(link)).await);
    assert_eq!(&target[..], b"../\xff target");
    assert_eq!(case.some(case.meta.getattr(Ino(link)).await).length, target.len() as u64);
    assert_eq!(case.ok(case.meta.readlink(Ino(file)).await), None);

    let xattr = async |name: &[u8]| case.ok(case.meta.getxattr(Ino(file), name).await).map(|value| value.to_vec());
    assert_eq!(xattr(b"user.a").await, Some(b"1".to_vec()));
    assert_eq!(xattr(b"user.empty").await, Some(Vec::new()));
    assert_eq!(xattr("user.é".as_bytes()).await, Some(b"\0\xff".to_vec()));
    assert_eq!(xattr(b"user.A").await, None);
    assert_eq!(xattr(b"user.\xff").await, None);
    assert_eq!(xattr(b"user.b").await, None);
    assert_eq!(xattr(b"system.posix_acl_access").await, None);
    let names = case.ok(case.meta.listxattr(Ino(file)).await);
    assert_eq!(names, [&b"user.a"[..], b"user.empty", "user.é".as_bytes()]);

    let listed = case.ok(case.meta.readdir(Ino(dir)).await);
    let names: Vec<_> = listed.iter().map(|entry| (entry.name.to_vec(), entry.ino.0, entry.kind)).collect();
    assert_eq!(
        names,
        [
            (b"f".to_vec(), file, FileType::Regular),
            (b"l".to_vec(), link, FileType::Symlink),
            (b"p".to_vec(), fifo, FileType::Fifo)
        ]
    );
    assert_eq!(listed[0].attr.as_ref(), Some(&got));
    assert_eq!(case.meta.readdir(Ino(file)).await.expect_err("a file").kind(), ErrorKind::Invalid);
    assert_eq!(case.meta.readdir(Ino(9999)).await.expect_err("nothing").kind(), ErrorKind::NotFound);
}

/// Servers hold the names of extended attributes as text.
pub(super) async fn attribute_names_that_are_no_text_are_kept_or_refused(case: &Case) {
    case.init().await;
    let file = case.ok(case.meta.alloc_inodes(1).await).start;
    let batch = BatchBuilder::new().file(1, b"f", file, 0).xattr(b"user.\xff", b"1");
    match case.meta.import(batch.build()).await {
        Ok(()) => {
            assert_eq!(case.some(case.meta.getxattr(Ino(file), b"user.\xff").await), "1");
            assert_eq!(case.ok(case.meta.listxattr(Ino(file)).await), [&b"user.\xff"[..]]);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains("user.\\xff"), "{error}");
            assert_eq!(case.ok(case.meta.lookup(Ino::ROOT, b"f").await), None);
        }
    }
}

pub(super) async fn names_are_bytes(case: &Case) {
    case.init().await;
    let names: Vec<Vec<u8>> = vec![
        b"\x01".to_vec(),
        b" ".to_vec(),
        b"...".to_vec(),
        b"A".to_vec(),
        b"a".to_vec(),
        b"a\xcc\x88".to_vec(),
        vec![b'x'; 255],
        "ä".as_bytes().to_vec(),
        b"\xff\xfe".to_vec(),
    ];
    let ids = case.ok(case.meta.alloc_inodes(names.len() as u64).await);
    let batch = names.iter().zip(ids.clone()).fold(BatchBuilder::new(), |b, (name, id)| b.file(1, name, id, 0));
    case.ok(case.meta.import(batch.build()).await);
    for (name, id) in names.iter().zip(ids) {
        assert_eq!(case.some(case.meta.lookup(Ino::ROOT, name).await).0, Ino(id), "{}", name.escape_ascii());
        assert_eq!(case.some(case.meta.resolve_path(name).await).0, Ino(id), "{}", name.escape_ascii());
    }
    let mut sorted = names;
    sorted.sort();
    let listed = case.ok(case.meta.readdir(Ino::ROOT).await);
    assert_eq!(listed.iter().map(|entry| entry.name.to_vec()).collect::<Vec<_>>(), sorted);
}

pub(super) async fn reserved_names_resolve_without_dentries(case: &Case) {
    case.init().await;
    assert_eq!(case.some(case.meta.lookup(Ino::ROOT, b".trash").await).0, Ino::TRASH);
    assert_eq!(case.some(case.meta.resolve_path(b"/.trash/").await).0, Ino::TRASH);
    assert_eq!(case.ok(case.meta.readdir(Ino::TRASH).await), []);
    for name in [&b".stats"[..], b".config", b".control", b".accesslog", b"", b".", b"..", b"a/b", &[b'a'; 256]] {
        assert_eq!(case.ok(case.meta.lookup(Ino::ROOT, name).await), None, "{}", name.escape_ascii());
    }
}

pub(super) async fn dentry_without_attributes_is_listed_but_not_found(case: &Case) {
    case.init().await;
    let txn = case.ok(case.engine.begin().await);
    let dentry = Dentry { kind: FileType::Regular, ino: Ino(77) };
    let lost = NewDentry { parent: Ino::ROOT, name: "lost".into(), dentry };
    case.ok(txn.insert_dentries(&[lost]).await);
    case.ok(txn.commit().await);
    assert_eq!(case.ok(case.meta.lookup(Ino::ROOT, b"lost").await), None);
    let listed = case.ok(case.meta.readdir(Ino::ROOT).await);
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].ino, listed[0].kind, listed[0].attr.clone()), (Ino(77), FileType::Regular, None));
}

pub(super) async fn listing_pages_are_complete_and_ordered(case: &Case) {
    case.init().await;
    let ids = case.ok(case.meta.alloc_inodes(300).await);
    let name = |id: u64| format!("{:03}", id * 7 % 300);
    let batch = ids.clone().fold(BatchBuilder::new(), |batch, id| batch.file(1, name(id).as_bytes(), id, 1));
    case.ok(case.meta.import(batch.build()).await);
    let mut expected: Vec<String> = ids.map(name).collect();
    expected.sort();
    for limit in [1usize, 7, 300, 1000] {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let after = seen.last().cloned().unwrap_or_default();
            let page = case.ok(case.meta.readdir_page(Ino::ROOT, after.as_bytes(), limit).await);
            assert!(page.iter().all(|entry| entry.attr.is_some()));
            seen.extend(page.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()));
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(seen, expected, "{limit}");
    }
}

pub(super) async fn paths_resolve_component_by_component(case: &Case) {
    case.init().await;
    let first = case.ok(case.meta.alloc_inodes(4).await).start;
    let batch = BatchBuilder::new()
        .dir(1, b"a", first)
        .dir(first, b"b", first + 1)
        .file(first + 1, b"f", first + 2, 0)
        .symlink(1, b"l", first + 3, b"a");
    case.ok(case.meta.import(batch.build()).await);
    for (path, ino) in [
        ("/", Some(1)),
        ("", Some(1)),
        ("..", Some(1)),
        ("a", Some(first)),
        ("//a/./b/", Some(first + 1)),
        ("/a/b/f", Some(first + 2)),
        ("/a/b/../../l", Some(first + 3)),
        ("/a/b/../b/f", Some(first + 2)),
        ("/l/b", None),
        ("/a/b/f/x", None),
        ("/a/b/f/..", None),
        ("/a/x/b", None),
    ] {
        let found = case.ok(case.meta.resolve_path(path.as_bytes()).await);
        assert_eq!(found.map(|(ino, _)| ino.0), ino, "{path}");
    }
}
