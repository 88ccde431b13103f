//! Whole trees: counted, removed, copied, taken back from the trash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use shoal_format::{Attr, Dentry, FileType, Ino, Settings, SliceRecord, Time, parse_trash_hour, trash_hour};

use super::Case;
use super::holding::FakeSlices;
use super::removing::{refusal, user};
use super::sample::{BatchBuilder, TIME, attr, settings};
use crate::engine::{Job, OldDentry};
use crate::error::{MetaError, Refusal};
use crate::ops::{Caller, CloneMode, Counting, Place, Reach, Summary};
use crate::record::{NewDentry, SliceRef};
use crate::session::{Cloned, RestoreTo, Restoring, Session, TrashUse, TreeRemoval, now};

/// Files of the large directory: more than one transaction takes.
const MANY: u64 = 250;

/// First inode of the tree: see [`Case::with_tree`].
type First = u64;

/// What is seen of one inode.
#[derive(Debug, PartialEq)]
struct Looks {
    attr: Attr,
    xattrs: Vec<(Bytes, Bytes)>,
    target: Option<Bytes>,
    slices: Vec<SliceRecord>,
}

impl Case {
    /// A tree `top` with everything: `top/many` of [`MANY`] files, `top/sub/deep` with a link and a pipe, one file with a name in
    /// both, slices 1 and 2, of which two files hold the first.
    async fn with_tree(&self) -> First {
        let i = self.ok(self.meta.alloc_inodes(MANY + 10).await).start;
        let slices = self.ok(self.meta.alloc_slices(2).await).start;
        let record = |id: u64| SliceRecord::whole(0, id, 5000);
        let mut batch = BatchBuilder::new().dir(1, b"top", i).xattr(b"user.top", b"1");
        batch = batch.dir(i, b"many", i + 1).dir(i, b"sub", i + 2).dir(i + 2, b"deep", i + 3);
        batch = batch.sliced(i, b"data", i + 4, &[record(slices)]).xattr(b"user.a", b"A").xattr(b"user.b", b"B");
        batch = batch.sliced(i + 2, b"more", i + 5, &[record(slices), record(slices + 1)]);
        batch = batch.symlink(i + 3, b"link", i + 6, b"../more");
        batch = batch.entry(i + 3, b"pipe", i + 7, attr(FileType::Fifo, 0o640)).link(i + 3, b"data2", i + 4);
        for n in 0..MANY {
            batch = batch.file(i + 1, format!("f{n:03}").as_bytes(), i + 10 + n, n);
        }
        self.ok(self.meta.import(batch.build()).await);
        i
    }

    /// Everything below `top` by path: what tells a copy from the original is left out.
    async fn shape(&self, top: Ino) -> BTreeMap<String, Looks> {
        let (mut shape, mut pending) = (BTreeMap::new(), vec![(String::new(), top)]);
        while let Some((path, ino)) = pending.pop() {
            let attr = self.some(self.meta.getattr(ino).await);
            if attr.is_dir() {
                let below = self.ok(self.meta.readdir(ino).await);
                let path_of = |name: &Bytes| format!("{path}/{}", name.escape_ascii());
                pending.extend(below.iter().map(|entry| (path_of(&entry.name), entry.ino)));
            }
            let mut xattrs = Vec::new();
            for name in self.ok(self.meta.listxattr(ino).await) {
                xattrs.push((name.clone(), self.some(self.meta.getxattr(ino, &name).await)));
            }
            let target = self.ok(self.meta.readlink(ino).await);
            let slices = self.ok(self.meta.chunk(ino, 0).await);
            let nlink = if attr.is_dir() { attr.nlink } else { 1 };
            let attr = Attr { parent: Ino::NONE, ctime: TIME, nlink, ..attr };
            shape.insert(path, Looks { attr, xattrs, target, slices });
        }
        shape
    }

    /// Makes what is in the trash look as if it had been removed days ago.
    async fn age_trash(&self) {
        let txn = self.ok(self.engine.begin().await);
        for (n, (name, ino)) in self.names(Ino::TRASH).await.into_iter().enumerate() {
            let hours_ago = 40 + n as i64;
            let old = OldDentry { parent: Ino::TRASH, name: Bytes::from(name), ino: Ino(ino) };
            let name = Bytes::from(trash_hour(Time { secs: now().secs - hours_ago * 3600, nanos: 0 }));
            let dentry = Dentry { kind: FileType::Directory, ino: old.ino };
            self.ok(txn.delete_dentries(&[old]).await);
            self.ok(txn.insert_dentries(&[NewDentry { parent: Ino::TRASH, name, dentry }]).await);
        }
        self.ok(txn.commit().await);
    }

    /// References to slices as a file that names them once more is told of: those that are gone.
    async fn dead(&self, ids: std::ops::Range<u64>) -> Vec<u64> {
        let txn = self.ok(self.engine.begin().await);
        let refs: Vec<SliceRef> = ids.map(|id| SliceRef { id, size: 5000, count: 1 }).collect();
        self.ok(txn.add_slice_refs(&refs).await).into_iter().map(|slice| slice.id).collect()
    }
}

/// Removes `top` from the root.
async fn remove(session: &Session, caller: &Caller, trash: TrashUse) -> (Result<(), MetaError>, u64) {
    let removed = AtomicU64::new(0);
    let how = TreeRemoval { caller, trash, at_once: 7, removed: &removed };
    let done = session.remove_tree(&how, Ino::ROOT, b"top").await;
    (done, removed.load(Ordering::Relaxed))
}

/// Copies `source` to `name` in the root.
async fn copy(session: &Session, caller: &Caller, mode: CloneMode, source: u64, name: &str) -> Result<u64, MetaError> {
    let (copied, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let how = Cloned { caller, mode, at_once: 5, copied: &copied, stop: &stop };
    session.clone_tree(&how, Ino(source), Place { parent: Ino::ROOT, name: name.as_bytes() }).await?;
    Ok(copied.load(Ordering::Relaxed))
}

pub(super) async fn sizes_are_counted_or_known(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let top = case.some(case.meta.getattr(Ino(i)).await);
    let length = 3 * 5000 + MANY * (MANY - 1) / 2;
    let (files, dirs) = (MANY + 5, 4);
    let size = 3 * 8192 + (files - 3 + dirs) * 4096;
    for counting in [Counting::Statistics, Counting::Inodes] {
        let whole = case.ok(case.meta.summary(Ino(i), &top, Reach::Tree, counting).await);
        assert_eq!(whole, Summary { length, size, files, dirs }, "{}: {counting:?}", case.name);
        let near = case.ok(case.meta.summary(Ino(i), &top, Reach::Children, counting).await);
        assert_eq!(near, Summary { length: 5000, size: 8192 + 3 * 4096, files: 1, dirs: 3 }, "{counting:?}");
        let tree = case.ok(case.meta.tree_summary(Ino(i), &top, 2, 2, counting).await);
        assert_eq!(tree.total, whole, "{counting:?}");
        let names = |tree: &crate::ops::TreeSummary| -> Vec<Bytes> {
            tree.entries.iter().map(|entry| entry.name.clone()).collect()
        };
        assert_eq!(names(&tree), ["many", "sub"]);
        assert_eq!(tree.others, Some(Summary { length: 5000, size: 8192, files: 1, dirs: 0 }));
        assert_eq!((names(&tree.entries[0]).len(), names(&tree.entries[1])), (2, vec!["deep".into(), "more".into()]));
        assert_eq!(tree.entries[1].entries[0].entries, [], "deeper than asked for");
        assert_eq!(tree.entries[1].entries[0].total.files, 3);
    }
    let file = case.some(case.meta.getattr(Ino(i + 4)).await);
    let one = case.ok(case.meta.summary(Ino(i + 4), &file, Reach::Tree, Counting::Statistics).await);
    assert_eq!(one, Summary { length: 5000, size: 8192, files: 1, dirs: 0 });
}

pub(super) async fn paths_lead_to_an_inode(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let session = case.join().await;
    let paths = async |ino: Ino| {
        let attr = case.some(case.meta.getattr(ino).await);
        case.ok(case.meta.paths(ino, &attr).await)
    };
    assert_eq!(paths(Ino::ROOT).await, ["/"]);
    assert_eq!(paths(Ino(i + 3)).await, ["/top/sub/deep"]);
    assert_eq!(paths(Ino(i + 4)).await, ["/top/data", "/top/sub/deep/data2"]);
    case.ok(session.unlink(&Caller::root(), Ino(i + 3), b"pipe").await);
    let found = paths(Ino(i + 7)).await;
    assert_eq!(found.len(), 1);
    let text = String::from_utf8_lossy(&found[0]).into_owned();
    let (above, name) = text.rsplit_once('/').expect("a path");
    assert_eq!(name, format!("{}-{}-pipe", i + 3, i + 7));
    let hour = above.strip_prefix("/.trash/").expect("in the trash");
    assert!(parse_trash_hour(hour.as_bytes()).is_some(), "{text}");
    case.ok(session.close().await);
}

pub(super) async fn a_tree_is_removed_with_all_that_is_below(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let session = case.join().await;
    let (done, removed) = remove(&session, &Caller::root(), TrashUse::AsSet).await;
    case.ok(done);
    let names = MANY + 5 + 4;
    assert_eq!(removed, names);
    assert_eq!(case.names(Ino::ROOT).await, []);
    let kept = case.names(case.hour().await).await;
    assert_eq!(kept.len() as u64, names, "{}: each name is in the trash", case.name);
    assert!(kept.contains(&(format!("1-{i}-top"), i)) && kept.contains(&(format!("{}-{}-data2", i + 3, i + 4), i + 4)));
    case.audit(&session, &[]).await;
    let gone = remove(&session, &Caller::root(), TrashUse::AsSet).await.0.expect_err("gone");
    assert!(matches!(gone, MetaError::NoEntry { .. }), "{gone}");
    // What lies in the trash is removed from there for good.
    let count = AtomicU64::new(0);
    let root = Caller::root();
    let how = TreeRemoval { caller: &root, trash: TrashUse::AsSet, at_once: 3, removed: &count };
    case.ok(session.remove_tree(&how, Ino::ROOT, b".trash").await);
    assert_eq!(case.names(Ino::TRASH).await, []);
    assert!(case.gone(i).await && case.gone(i + 4).await);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn past_the_trash_a_tree_is_deleted_by_root_alone(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let (session, slices) = (case.join().await, Arc::new(FakeSlices::default()));
    session.start_jobs(slices.clone());
    let refused = remove(&session, &user(1000), TrashUse::Skip).await;
    assert_eq!((refusal(refused.0), refused.1), (Refusal::NotPermitted, 0));
    let (done, removed) = remove(&session, &Caller::root(), TrashUse::Skip).await;
    case.ok(done);
    assert_eq!(removed, MANY + 5 + 4);
    assert_eq!(case.names(Ino::TRASH).await, []);
    assert!(case.gone(i).await && case.gone(i + 4).await && case.gone(i + 10 + MANY - 1).await);
    assert_eq!(slices.deleted(), [(1, 5000), (2, 5000)], "{}: deleted when the call returns", case.name);
    assert_eq!(case.ok(case.engine.records().deleted_files(i64::MAX, 9).await), []);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn what_may_not_be_removed_stays_and_is_told(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let session = case.join().await;
    let (done, _) = remove(&session, &user(7), TrashUse::AsSet).await;
    assert_eq!(refusal(done), Refusal::Access);
    assert_eq!(case.names(Ino(i + 1)).await.len() as u64, MANY);
    case.some(case.meta.lookup(Ino::ROOT, b"top").await);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn a_copy_has_all_the_original_has(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let session = case.join().await;
    let before = case.shape(Ino(i)).await;
    let inodes = MANY + 5 + 4;
    assert_eq!(case.ok(copy(&session, &Caller::root(), CloneMode::Preserve, i, "copy").await), inodes);
    let (top, _) = case.some(case.meta.lookup(Ino::ROOT, b"copy").await);
    assert_eq!(case.shape(top).await, before, "{}", case.name);
    assert_eq!(case.shape(Ino(i)).await, before, "the original is what it was");
    assert_eq!(case.ok(case.engine.records().detached_before(i64::MAX, 9).await), []);
    let who = Caller { uid: 7, gid: 8, umask: 0o027, ..Caller::root() };
    assert_eq!(case.ok(copy(&session, &who, CloneMode::Own, i, "mine").await), inodes);
    let (mine, attr) = case.some(case.meta.lookup(Ino::ROOT, b"mine").await);
    assert!((attr.uid, attr.gid, attr.mode) == (7, 8, 0o750) && attr.mtime != TIME, "{attr:?}");
    let (_, file) = case.some(case.meta.lookup(mine, b"data").await);
    assert!((file.uid, file.gid, file.mode, file.nlink, file.parent) == (7, 8, 0o640, 1, mine), "{file:?}");
    assert_eq!(case.ok(copy(&session, &who, CloneMode::Preserve, i + 6, "link").await), 1);
    case.audit(&session, &[]).await;
    // Slices live as long as one of those that share them.
    case.ok(case.meta.update_settings(&Settings { trash_days: 0, ..settings() }).await);
    case.ok(session.beat().await);
    let slices = Arc::new(FakeSlices::default());
    session.start_jobs(slices.clone());
    case.ok(remove(&session, &Caller::root(), TrashUse::AsSet).await.0);
    assert_eq!((slices.deleted(), case.dead(1..3).await), (vec![], vec![]), "{}", case.name);
    let (root, count) = (Caller::root(), AtomicU64::new(0));
    let how = TreeRemoval { caller: &root, trash: TrashUse::AsSet, at_once: 3, removed: &count };
    for name in [&b"copy"[..], b"mine"] {
        assert_eq!(slices.deleted(), []);
        case.ok(session.remove_tree(&how, Ino::ROOT, name).await);
    }
    // Not every engine knows of a slice that it is gone.
    let dead = if case.knows_slices(1000, 1).await { vec![1, 2] } else { Vec::new() };
    assert_eq!((slices.deleted(), case.dead(1..3).await), (vec![(1, 5000), (2, 5000)], dead), "{}", case.name);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn a_copy_that_cannot_be_completed_leaves_nothing(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let inodes = MANY + 4 + 4;
    // Transactions that run at once do not see each other's use, so the first large one must be too much already.
    case.ok(case.meta.update_settings(&Settings { inodes: inodes + 20, ..settings() }).await);
    let session = case.join().await;
    let error = copy(&session, &Caller::root(), CloneMode::Preserve, i, "copy").await.expect_err("full");
    assert!(matches!(error, MetaError::NoSpace { .. }), "{error}");
    assert_eq!(case.names(Ino::ROOT).await, [("top".to_owned(), i)]);
    assert_eq!(case.ok(case.engine.records().detached_before(i64::MAX, 9).await), []);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn copies_are_refused_where_the_rules_say_so(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let session = case.join().await;
    let (copied, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (root, other) = (Caller::root(), user(7));
    let to = async |caller: &Caller, source: u64, parent: Ino, name: &'static [u8]| {
        let how = Cloned { caller, mode: CloneMode::Own, at_once: 2, copied: &copied, stop: &stop };
        session.clone_tree(&how, Ino(source), Place { parent, name }).await
    };
    for source in [i, i + 4] {
        let taken = to(&root, source, Ino(i), b"sub").await.expect_err("taken");
        assert!(matches!(taken, MetaError::Exists { .. } | MetaError::Invalid { .. }), "{taken}");
        assert_eq!(refusal(to(&root, source, Ino::TRASH, b"x").await), Refusal::NotPermitted);
    }
    assert_eq!(refusal(to(&other, i + 4, Ino(i + 2), b"x").await), Refusal::Access);
    let below = to(&root, i, Ino(i + 3), b"x").await.expect_err("below itself");
    assert!(below.to_string().contains("below it"), "{below}");
    let missing = to(&root, 9999, Ino::ROOT, b"x").await.expect_err("nothing");
    assert!(matches!(missing, MetaError::NoInode { ino: 9999 }), "{missing}");
    // A file among others that the caller may not read.
    let secret = crate::ops::SetAttr { mode: Some(0o600), ..Default::default() };
    case.ok(session.setattr(&root, Ino(i + 10), &secret).await);
    assert_eq!(refusal(to(&other, i, Ino::ROOT, b"x").await), Refusal::Access);
    stop.store(true, Ordering::Relaxed);
    let given_up = to(&root, i, Ino::ROOT, b"x").await.expect_err("given up");
    assert!(given_up.to_string().contains("given up"), "{given_up}");
    assert_eq!(case.names(Ino::ROOT).await, [("top".to_owned(), i)]);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}

pub(super) async fn a_removed_tree_is_whole_again_and_goes_back(case: &Case) {
    case.init().await;
    let i = case.with_tree().await;
    let session = case.join().await;
    let before = case.shape(Ino(i)).await;
    case.ok(remove(&session, &Caller::root(), TrashUse::AsSet).await.0);
    let hours = case.names(Ino::TRASH).await;
    let restore = async |to: RestoreTo, hours: &[(String, u64)]| {
        let [restored, skipped, failed] = [const { AtomicU64::new(0) }; 3];
        let how = Restoring { to, at_once: 4, restored: &restored, skipped: &skipped, failed: &failed };
        for (hour, _) in hours {
            case.ok(session.restore(hour, &how).await);
        }
        [restored, skipped, failed].map(AtomicU64::into_inner)
    };
    let names = MANY + 5 + 4;
    assert_eq!(restore(RestoreTo::Trees, &hours).await, [names - 1, 1, 0], "{}", case.name);
    assert_eq!(case.names(case.hour().await).await, [(format!("1-{i}-top"), i)]);
    case.audit(&session, &[]).await;
    assert_eq!(restore(RestoreTo::Origin, &hours).await, [1, 0, 0]);
    let times_apart = |mut shape: BTreeMap<String, Looks>| {
        shape.values_mut().for_each(|looks| (looks.attr.mtime, looks.attr.atime) = (TIME, TIME));
        shape
    };
    assert_eq!(times_apart(case.shape(Ino(i)).await), times_apart(before), "{}", case.name);
    case.audit(&session, &[]).await;
    // What has a name by now stays; whole trees go with the trash.
    case.ok(remove(&session, &Caller::root(), TrashUse::AsSet).await.0);
    case.ok(session.create(&Caller::root(), Ino::ROOT, b"top", &crate::ops::NewInode::File, 0o644).await);
    let hours = case.names(Ino::TRASH).await;
    assert_eq!(restore(RestoreTo::Origin, &hours).await, [names - 1, 0, 1], "{}", case.name);
    case.audit(&session, &[]).await;
    let none = AtomicU64::new(0);
    let how = Restoring { to: RestoreTo::Origin, at_once: 1, restored: &none, skipped: &none, failed: &none };
    let wrong = session.restore("2026-13-01-00", &how).await.expect_err("no hour");
    assert!(matches!(wrong, MetaError::Invalid { .. }), "{wrong}");
    let absent = session.restore("1999-01-01-00", &how).await.expect_err("no trash");
    assert!(matches!(absent, MetaError::NoEntry { .. }), "{absent}");
    session.start_jobs(Arc::new(FakeSlices::default()));
    case.age_trash().await;
    assert!(case.ok(session.run_job(Job::Trash).await));
    assert_eq!(case.names(Ino::TRASH).await, [], "{}: whole trees too", case.name);
    case.audit(&session, &[]).await;
    case.ok(session.close().await);
}
