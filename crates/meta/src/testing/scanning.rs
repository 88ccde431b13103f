//! Whole tables, page by page.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::Bytes;
use shoal_format::{AclEntry, AclRule, Dentry, FileType, Ino, SliceRecord};

use super::Case;
use super::sample::{BatchBuilder, settings};
use crate::engine::{DeletedFile, Engine, ScanPage, ScanRecords, Serial, Txn};
use crate::error::MetaError;
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::{DelayedSlices, NewDentry, SliceRef, Xattr};

/// Records of a page: fewer than any table here holds.
const PAGE: usize = 2;

/// Every record that pages of a scan give, as text, sorted; a record that comes twice counts once.
async fn all<T: Debug>(case: &Case, scan: impl AsyncFn(&[u8]) -> Result<ScanPage<T>, MetaError>) -> Vec<String> {
    let (mut found, mut from) = (BTreeSet::new(), Bytes::new());
    for _ in 0..1000 {
        let page = case.ok(scan(&from).await);
        found.extend(page.records.iter().map(|record| format!("{record:?}")));
        match page.next {
            Some(next) => from = next,
            None => return found.into_iter().collect(),
        }
    }
    panic!("{}: a scan does not end", case.name);
}

fn texts<T: Debug>(records: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut texts: Vec<String> = records.into_iter().map(|record| format!("{record:?}")).collect();
    texts.sort();
    texts
}

async fn commit(case: &Case, write: impl AsyncFnOnce(&dyn Txn) -> Result<(), MetaError>) {
    let txn = case.ok(case.engine.begin().await);
    case.ok(write(txn.as_ref()).await);
    case.ok(txn.commit().await);
}

fn records(engine: &dyn Engine) -> &dyn ScanRecords {
    engine.records()
}

pub(super) async fn tables_are_read_whole_in_pages(case: &Case) {
    case.init().await;
    let f = case.ok(case.meta.alloc_inodes(9).await).start;
    let s = case.ok(case.meta.alloc_slices(9).await).start;
    let mut batch = BatchBuilder::new().dir(1, b"d", f);
    for n in 0..5 {
        batch = batch.sliced(f, format!("f{n}").as_bytes(), f + 1 + n, &[SliceRecord::whole(0, s + n, 100)]);
        batch = batch.xattr(b"user.a", format!("{n}").as_bytes()).xattr(b"user.b\"", b"");
    }
    let batch =
        batch.symlink(f, b"l\xff", f + 6, b"t\xff1").symlink(1, b"m", f + 7, b"t2").symlink(1, b"n", f + 8, b"t3");
    case.ok(case.meta.import(batch.build()).await);
    let scan = records(case.engine.as_ref());

    let inos: Vec<Ino> = [Ino::ROOT, Ino::TRASH].into_iter().chain((f..f + 9).map(Ino)).collect();
    let attrs = case.ok(case.engine.records().attrs(&inos).await);
    let expected = texts(inos.iter().zip(attrs).map(|(ino, attr)| (*ino, attr.expect("it was made"))));
    assert_eq!(all(case, async |from| scan.scan_attrs(from, PAGE).await).await, expected);

    let dentry = |parent: u64, name: &'static [u8], kind, ino| NewDentry {
        parent: Ino(parent),
        name: Bytes::from_static(name),
        dentry: Dentry { kind, ino: Ino(ino) },
    };
    let files = [&b"f0"[..], b"f1", b"f2", b"f3", b"f4"].into_iter().zip(f + 1..);
    let mut expected: Vec<NewDentry> = files.map(|(name, ino)| dentry(f, name, FileType::Regular, ino)).collect();
    expected.push(dentry(1, b"d", FileType::Directory, f));
    expected.push(dentry(f, b"l\xff", FileType::Symlink, f + 6));
    expected.push(dentry(1, b"m", FileType::Symlink, f + 7));
    expected.push(dentry(1, b"n", FileType::Symlink, f + 8));
    assert_eq!(all(case, async |from| scan.scan_dentries(from, PAGE).await).await, texts(expected));

    let links = [(f + 6, &b"t\xff1"[..]), (f + 7, b"t2"), (f + 8, b"t3")];
    let links = links.map(|(ino, target)| (Ino(ino), Bytes::from_static(target)));
    assert_eq!(all(case, async |from| scan.scan_symlinks(from, PAGE).await).await, texts(links.clone()));
    assert_eq!(texts(case.ok(scan.symlinks_of(&inos).await)), texts(links));

    let xattr = |ino, name: &'static [u8], value: String| Xattr {
        ino: Ino(ino),
        name: Bytes::from_static(name),
        value: Bytes::from(value),
    };
    let xattrs = |n: u64| [xattr(f + 1 + n, b"user.a", n.to_string()), xattr(f + 1 + n, b"user.b\"", String::new())];
    let xattrs: Vec<Xattr> = (0..5).flat_map(xattrs).collect();
    assert_eq!(all(case, async |from| scan.scan_xattrs(from, PAGE).await).await, texts(&xattrs));
    assert_eq!(texts(case.ok(scan.xattrs_of(&inos).await)), texts(&xattrs));
    assert_eq!(texts(case.ok(scan.xattrs_of(&[Ino(f + 2), Ino(f)]).await)), texts(&xattrs[2..4]));

    let mut lists = Vec::new();
    for n in 0..5 {
        lists.extend(case.ok(case.engine.records().chunks(Ino(f + 1 + n), 0..u32::MAX).await));
    }
    assert_eq!(all(case, async |from| scan.scan_chunks(from, PAGE).await).await, texts(&lists));
    assert_eq!(texts(case.ok(scan.chunks_of(&inos).await)), texts(&lists));
    assert_eq!(case.ok(scan.chunks_of(&[]).await), []);

    let usage = async |dir| (Ino(dir), case.some(case.engine.records().dir_usage(Ino(dir)).await));
    let usage = [usage(1).await, usage(f).await];
    assert_eq!(all(case, async |from| scan.scan_dir_usage(from, 1).await).await, texts(usage));
}

pub(super) async fn what_waits_to_be_deleted_is_read_whole(case: &Case) {
    case.init().await;
    let s = case.ok(case.meta.alloc_slices(9).await).start;
    let file = |ino, removed| DeletedFile { ino: Ino(ino), length: ino * 10, removed };
    let files = [file(50, 3), file(51, 1), file(49, 2)];
    let delayed = |id: u64| DelayedSlices { id, at: 5 + id as i64, slices: vec![(id, 7), (s + 8, 9)] };
    let held = [(1u64, Ino(70)), (2, Ino(70)), (1, Ino(71))];
    let refs: Vec<SliceRef> =
        (0..5).map(|n| SliceRef { id: s + n, size: 10 + n as u32, count: 2 + n as u32 }).collect();
    commit(case, async |txn| {
        txn.insert_deleted_files(&files).await?;
        for id in s + 5..s + 8 {
            txn.insert_delayed(&delayed(id)).await?;
        }
        for (sid, ino) in held {
            txn.insert_sustained(sid, &[ino]).await?;
        }
        txn.insert_slice_refs(&refs).await?;
        txn.drop_slice_refs(&[SliceRef { count: 2, ..refs[0] }]).await.map(drop)
    })
    .await;
    let scan = records(case.engine.as_ref());
    assert_eq!(all(case, async |from| scan.scan_deleted_files(from, PAGE).await).await, texts(files));
    assert_eq!(all(case, async |from| scan.scan_delayed(from, PAGE).await).await, texts((s + 5..s + 8).map(delayed)));
    assert_eq!(all(case, async |from| scan.scan_sustained(from, PAGE).await).await, texts(held));
    let left: Vec<SliceRef> =
        refs.iter().map(|one| if one.id == s { SliceRef { count: 0, ..*one } } else { *one }).collect();
    assert_eq!(all(case, async |from| scan.scan_slice_refs(from, PAGE).await).await, texts(left));
}

pub(super) async fn loaded_records_keep_their_numbers(case: &Case) {
    case.ok(case.meta.init(&settings(), false).await);
    let rule = |perm| AclRule {
        owner: Some(6),
        group: Some(4),
        mask: Some(7),
        other: None,
        named_users: vec![AclEntry { id: 1000, perm }],
        named_groups: Vec::new(),
    };
    let rules = [(2, rule(1)), (3, rule(2)), (9, rule(3))];
    let quota =
        |ino| Quota { key: QuotaKey::Dir(Ino(ino)), max_space: -1, max_inodes: 5, used_space: 4096, used_inodes: 1 };
    commit(case, async |txn| {
        txn.load_acls(&rules).await?;
        txn.put_quotas(&[quota(7), quota(8)]).await?;
        txn.raise_serial(Serial::TrashDir, 41).await?;
        txn.raise_serial(Serial::TrashDir, 7).await
    })
    .await;
    let scan = records(case.engine.as_ref());
    assert_eq!(all(case, async |from| scan.scan_acls(from, PAGE).await).await, texts(rules.clone()));
    assert_eq!(case.ok(case.engine.records().acl(9).await), Some(rules[2].1.clone()));
    assert_eq!(case.ok(case.engine.records().quotas(QuotaKind::Dir).await), [quota(7), quota(8)]);
    assert_eq!(case.ok(scan.last_serial(Serial::TrashDir).await), 41);
    let txn = case.ok(case.engine.begin().await);
    assert_eq!(case.ok(txn.take_serial(Serial::TrashDir).await), 42);
}
