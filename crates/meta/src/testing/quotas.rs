//! Quotas of directories, users and groups: what they are charged with, and what they refuse.

use shoal_format::{Attr, FileType, Ino, Settings};
use shoal_types::ErrorKind;

use super::Case;
use super::sample::{BatchBuilder, attr, settings};
use crate::error::{MetaError, Refusal};
use crate::ops::{Caller, NewInode, Place, QuotaCheck, QuotaLimits, QuotaScope, RenameMode, SetAttr};
use crate::quota::{Quota, QuotaKey, QuotaKind};
use crate::record::DirUsage;
use crate::session::Session;

fn owner(uid: u32, gid: u32) -> Caller {
    Caller { uid, gid, ..Caller::default() }
}

fn limits(space: Option<u64>, inodes: Option<u64>) -> QuotaLimits {
    QuotaLimits { space, inodes }
}

#[track_caller]
fn is_quota<T: std::fmt::Debug>(case: &Case, result: Result<T, MetaError>) {
    let error = result.expect_err("refused");
    assert!(matches!(error, MetaError::Refused { why: Refusal::Quota, .. }), "{}: {error}", case.name);
    assert_eq!(error.kind(), ErrorKind::NoSpace);
}

impl Case {
    /// A volume without a trash, whose users and groups are counted.
    async fn init_untrashed(&self) {
        self.ok(self.meta.init(&Settings { user_group_quota: true, trash_days: 0, ..settings() }, false).await);
    }

    /// Space and inodes of a quota, once `session` has written what it summed up.
    async fn used(&self, session: &Session, key: QuotaKey) -> (i64, i64) {
        self.ok(session.flush_accounts().await);
        let quota = self.ok(self.meta.quota(key).await);
        quota.map_or((0, 0), |quota| (quota.used_space, quota.used_inodes))
    }

    async fn file(&self, session: &Session, who: &Caller, dir: Ino, name: &str) -> Result<Ino, MetaError> {
        session.create(who, dir, name.as_bytes(), &NewInode::File, 0o644).await.map(|(ino, _)| ino)
    }

    /// Nothing that is kept differs from what is counted.
    pub(super) async fn quotas_agree(&self) {
        let checks = self.ok(self.meta.check_quotas(QuotaScope::All).await);
        let wrong: Vec<&QuotaCheck> = checks.iter().filter(|check| !check.is_consistent()).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", self.name);
    }
}

pub(super) async fn records_of_quotas_are_kept_and_added_to(case: &Case) {
    case.init().await;
    let keys = [QuotaKey::Dir(Ino(5)), QuotaKey::User(7), QuotaKey::User(u32::MAX), QuotaKey::Group(7)];
    let quota = |key, n: i64| Quota { key, max_space: n, max_inodes: -1, used_space: -n, used_inodes: 1 << 40 };
    let more = DirUsage { length: 99, space: -5, inodes: 3 };
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.put_quotas(&[quota(keys[0], 1), quota(keys[1], 2), quota(keys[2], 3)]).await);
    case.ok(txn.put_quotas(&[quota(keys[1], 4)]).await);
    case.ok(txn.add_quota_usage(&[(keys[0], more), (keys[1], more), (keys[3], more)]).await);
    case.ok(txn.add_quota_usage(&[(QuotaKey::Dir(Ino(6)), more)]).await);
    case.ok(txn.commit().await);
    let of = async |kind| case.ok(case.meta.quotas(kind).await);
    let plus = |quota: Quota| Quota { used_space: quota.used_space - 5, used_inodes: quota.used_inodes + 3, ..quota };
    assert_eq!(of(QuotaKind::Dir).await, [plus(quota(keys[0], 1))], "a directory gets none by being used");
    assert_eq!(of(QuotaKind::User).await, [plus(quota(keys[1], 4)), quota(keys[2], 3)]);
    assert_eq!(of(QuotaKind::Group).await, [plus(Quota::unlimited(keys[3]))]);
    assert_eq!(case.ok(case.meta.quota(QuotaKey::User(7)).await), Some(plus(quota(keys[1], 4))));
    assert_eq!(case.ok(case.meta.quota(QuotaKey::Group(8)).await), None);
}

pub(super) async fn directory_quotas_of_every_ancestor_are_charged_and_kept(case: &Case) {
    case.init().await;
    let (a, _) = case.ok(case.meta.mkdir_p(b"/a", Default::default()).await);
    let (b, _) = case.ok(case.meta.mkdir_p(b"/a/b", Default::default()).await);
    case.ok(case.meta.set_quota(QuotaKey::Dir(a), limits(Some(1 << 20), None)).await);
    case.ok(case.meta.set_quota(QuotaKey::Dir(b), limits(None, Some(3))).await);
    let f = case.ok(case.meta.alloc_inodes(9).await).start;
    let batch = BatchBuilder::new().dir(b.0, b"c", f).file(f, b"x", f + 1, 5000).file(a.0, b"y", f + 2, 1);
    case.ok(case.meta.import(batch.build()).await);
    let used = case.ok(case.meta.quotas(QuotaKind::Dir).await);
    assert_eq!((used[0].used_space, used[0].used_inodes), (4096 + 4096 + 8192 + 4096, 4));
    assert_eq!((used[1].used_space, used[1].used_inodes), (4096 + 8192, 2));

    let big = BatchBuilder::new().file(f, b"big", f + 3, 1 << 20).build();
    is_quota(case, case.meta.import(big).await);
    let many = BatchBuilder::new().file(f, b"1", f + 3, 0).file(f, b"2", f + 4, 0).build();
    let error = case.meta.import(many).await.expect_err("refused");
    assert_eq!(error.to_string(), format!("the quota of 3 inodes on directory {b} is exceeded"));
}

pub(super) async fn directory_quotas_follow_what_moves_and_what_is_removed(case: &Case) {
    case.init().await;
    let (a, _) = case.ok(case.meta.mkdir_p(b"/a", Default::default()).await);
    let (b, _) = case.ok(case.meta.mkdir_p(b"/b", Default::default()).await);
    case.ok(case.meta.set_quota(QuotaKey::Dir(a), limits(None, None)).await);
    case.ok(case.meta.set_quota(QuotaKey::Dir(b), limits(None, Some(4))).await);
    let f = case.ok(case.meta.alloc_inodes(9).await).start;
    let batch = BatchBuilder::new().dir(a.0, b"t", f).dir(f, b"u", f + 1).file(f + 1, b"x", f + 2, 5000);
    case.ok(case.meta.import(batch.file(a.0, b"y", f + 3, 1).file(a.0, b"z", f + 4, 1).build()).await);
    let session = case.join().await;
    let used = async || {
        case.ok(session.flush_accounts().await);
        let quotas = case.ok(case.meta.quotas(QuotaKind::Dir).await);
        quotas.iter().map(|quota| (quota.used_space, quota.used_inodes)).collect::<Vec<_>>()
    };
    let root = Caller::root();
    let mv = async |from: Ino, to: Ino, name: &'static [u8]| {
        let (from, to) = (Place { parent: from, name }, Place { parent: to, name });
        session.rename(&root, from, to, RenameMode::Replace).await
    };
    assert_eq!(used().await, [(6 * 4096, 5), (0, 0)]);
    case.ok(mv(a, b, b"t").await);
    assert_eq!(used().await, [(2 * 4096, 2), (4 * 4096, 3)]);
    case.ok(mv(a, b, b"y").await);
    assert_eq!(used().await, [(4096, 1), (5 * 4096, 4)]);
    is_quota(case, mv(a, b, b"z").await);
    assert_eq!(used().await, [(4096, 1), (5 * 4096, 4)]);
    // Below one quota nothing is charged, and what is in the trash is below none.
    case.ok(mv(Ino(f), b, b"u").await);
    assert_eq!(used().await, [(4096, 1), (5 * 4096, 4)]);
    case.ok(session.unlink(&root, Ino(f + 1), b"x").await);
    case.ok(session.rmdir(&root, b, b"t").await);
    assert_eq!(used().await, [(4096, 1), (2 * 4096, 2)]);
    case.ok(session.unlink(&root, a, b"z").await);
    case.ok(session.rmdir(&root, Ino::ROOT, b"a").await);
    assert_eq!(used().await, [(2 * 4096, 2)], "a removed directory has no quota");
    case.ok(session.close().await);
}

pub(super) async fn what_a_client_writes_is_charged_to_directories_above(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let root = Caller::root();
    let (dir, _) = case.ok(session.create(&root, Ino::ROOT, b"d", &NewInode::Directory, 0o755).await);
    let (sub, _) = case.ok(session.create(&root, dir, b"s", &NewInode::Directory, 0o755).await);
    let kept = case.ok(case.meta.set_quota(QuotaKey::Dir(dir), limits(Some(5 * 4096), Some(4))).await);
    assert_eq!((kept.used_space, kept.used_inodes), (4096, 1), "what is there is counted");
    case.ok(session.beat().await);
    let file = case.ok(case.file(&session, &root, sub, "f").await);
    case.ok(session.truncate(file, 8193).await);
    assert_eq!(case.used(&session, QuotaKey::Dir(dir)).await, (4 * 4096, 2));
    is_quota(case, session.truncate(file, 16_385).await);
    case.ok(session.truncate(file, 16_384).await);
    is_quota(case, case.file(&session, &root, sub, "full").await);
    case.ok(session.truncate(file, 1).await);
    case.ok(session.link(&root, file, dir, b"again").await);
    case.ok(case.file(&session, &root, sub, "last").await);
    is_quota(case, case.file(&session, &root, sub, "more").await);
    // A name counts wherever it is.
    assert_eq!(case.used(&session, QuotaKey::Dir(dir)).await, (4 * 4096, 4));
    case.quotas_agree().await;
    case.ok(case.meta.remove_quota(QuotaKey::Dir(dir)).await);
    case.ok(session.beat().await);
    case.ok(case.file(&session, &root, sub, "more").await);
    assert_eq!(case.ok(case.meta.quota(QuotaKey::Dir(dir)).await), None);
    for wrong in [file, Ino::TRASH, Ino(999)] {
        case.meta.set_quota(QuotaKey::Dir(wrong), limits(None, Some(1))).await.expect_err("no directory");
    }
    case.ok(session.close().await);
}

pub(super) async fn owners_are_charged_for_every_inode(case: &Case) {
    case.init_untrashed().await;
    let session = case.join().await;
    let (ann, bob) = (owner(10, 100), owner(11, 100));
    let file = case.ok(case.file(&session, &ann, Ino::ROOT, "f").await);
    case.ok(session.link(&ann, file, Ino::ROOT, b"g").await);
    case.ok(session.truncate(file, 5000).await);
    case.ok(session.create(&bob, Ino::ROOT, b"d", &NewInode::Directory, 0o755).await);
    let link = NewInode::Symlink(bytes::Bytes::from_static(b"f"));
    let (symlink, _) = case.ok(session.create(&bob, Ino::ROOT, b"l", &link, 0o777).await);
    let used = async |key| case.used(&session, key).await;
    assert_eq!(used(QuotaKey::User(10)).await, (8192, 1), "a second name is no second file");
    assert_eq!(used(QuotaKey::User(11)).await, (8192, 2));
    assert_eq!(used(QuotaKey::Group(100)).await, (16_384, 3));

    let give = SetAttr { uid: Some(12), gid: Some(101), ..SetAttr::default() };
    case.ok(session.setattr(&Caller::root(), file, &give).await);
    case.ok(session.setattr(&Caller::root(), symlink, &give).await);
    case.ok(session.setattr(&Caller::root(), file, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).await);
    assert_eq!(used(QuotaKey::User(10)).await, (0, 0));
    assert_eq!(used(QuotaKey::User(12)).await, (12_288, 2));
    assert_eq!((used(QuotaKey::Group(100)).await, used(QuotaKey::Group(101)).await), ((4096, 1), (12_288, 2)));
    case.quotas_agree().await;

    case.ok(session.unlink(&ann, Ino::ROOT, b"f").await);
    assert_eq!(used(QuotaKey::User(12)).await, (12_288, 2));
    session.opened(file);
    case.ok(session.unlink(&ann, Ino::ROOT, b"g").await);
    case.ok(session.unlink(&ann, Ino::ROOT, b"l").await);
    assert_eq!(used(QuotaKey::User(12)).await, (8192, 1), "what is open has its owner");
    case.quotas_agree().await;
    case.ok(session.release(file).await);
    assert_eq!(used(QuotaKey::User(12)).await, (0, 0));
    case.ok(session.rmdir(&bob, Ino::ROOT, b"d").await);
    for key in [QuotaKey::User(11), QuotaKey::Group(100), QuotaKey::Group(101)] {
        assert_eq!(used(key).await, (0, 0));
    }
    case.quotas_agree().await;
    case.ok(session.close().await);
}

pub(super) async fn what_is_in_the_trash_has_its_owner_still(case: &Case) {
    case.init().await;
    let session = case.join().await;
    let ann = owner(10, 100);
    case.ok(case.file(&session, &ann, Ino::ROOT, "f").await);
    let new = case.ok(case.file(&session, &owner(11, 100), Ino::ROOT, "new").await);
    case.ok(session.unlink(&ann, Ino::ROOT, b"f").await);
    assert_eq!(case.used(&session, QuotaKey::User(10)).await, (4096, 1));
    let (from, to) = (Place { parent: Ino::ROOT, name: b"new" }, Place { parent: Ino::ROOT, name: b"old" });
    case.ok(case.file(&session, &ann, Ino::ROOT, "old").await);
    case.ok(session.rename(&ann, from, to, RenameMode::Replace).await);
    assert_eq!(case.used(&session, QuotaKey::User(10)).await, (8192, 2));
    assert_eq!(case.some(case.meta.lookup(Ino::ROOT, b"old").await).0, new);
    case.quotas_agree().await;
    case.ok(session.close().await);
}

pub(super) async fn limits_of_owners_are_kept(case: &Case) {
    case.init_untrashed().await;
    let session = case.join().await;
    let (ann, bob) = (owner(10, 100), owner(11, 100));
    case.ok(case.meta.set_quota(QuotaKey::User(10), limits(Some(16_384), Some(2))).await);
    case.ok(case.meta.set_quota(QuotaKey::Group(100), limits(None, Some(4))).await);
    case.ok(session.beat().await);
    let first = case.ok(case.file(&session, &ann, Ino::ROOT, "1").await);
    let second = case.ok(case.file(&session, &ann, Ino::ROOT, "2").await);
    let refused = case.file(&session, &ann, Ino::ROOT, "3").await.expect_err("two are possible");
    assert_eq!(refused.to_string(), "the quota of 2 inodes of user 10 is exceeded");
    is_quota(case, session.truncate(first, 12_289).await);
    case.ok(session.truncate(first, 12_288).await);
    case.ok(case.file(&session, &bob, Ino::ROOT, "3").await);
    let fourth = case.ok(case.file(&session, &bob, Ino::ROOT, "4").await);
    is_quota(case, case.file(&session, &bob, Ino::ROOT, "5").await);
    // An import knows what clients have written.
    case.ok(session.flush_accounts().await);
    is_quota(case, case.meta.import(batch(case, 11, 100).await).await);
    case.ok(case.meta.import(batch(case, 11, 101).await).await);
    // Nobody is kept from giving, shrinking or removing.
    let give = SetAttr { uid: Some(10), ..SetAttr::default() };
    case.ok(session.setattr(&Caller::root(), fourth, &give).await);
    assert_eq!(case.used(&session, QuotaKey::User(10)).await, (5 * 4096, 3));
    is_quota(case, session.truncate(second, 4097).await);
    case.ok(session.truncate(first, 0).await);
    case.ok(session.truncate(second, 4097).await);
    case.ok(session.unlink(&ann, Ino::ROOT, b"1").await);
    case.ok(session.flush_accounts().await);
    case.quotas_agree().await;

    case.ok(case.meta.remove_quota(QuotaKey::User(10)).await);
    case.ok(case.meta.remove_quota(QuotaKey::Group(100)).await);
    case.ok(session.beat().await);
    for name in ["6", "7", "8"] {
        case.ok(case.file(&session, &ann, Ino::ROOT, name).await);
    }
    assert_eq!(case.used(&session, QuotaKey::User(10)).await, (6 * 4096, 5), "use is counted on");
    case.ok(session.close().await);
}

/// One new file with these owners.
async fn batch(case: &Case, uid: u32, gid: u32) -> crate::ops::ImportBatch {
    let ino = case.ok(case.meta.alloc_inodes(1).await).start;
    let attr = Attr { uid, gid, ..attr(FileType::Regular, 0o644) };
    BatchBuilder::new().entry(1, format!("i{ino}").as_bytes(), ino, attr).build()
}

pub(super) async fn a_first_quota_counts_what_owners_have(case: &Case) {
    case.ok(case.meta.init(&settings(), false).await);
    let session = case.join().await;
    let (ann, bob) = (owner(10, 100), owner(11, 101));
    let file = case.ok(case.file(&session, &ann, Ino::ROOT, "f").await);
    case.ok(session.link(&ann, file, Ino::ROOT, b"g").await);
    case.ok(case.file(&session, &bob, Ino::ROOT, "h").await);
    case.ok(case.file(&session, &bob, Ino::ROOT, "gone").await);
    case.ok(session.unlink(&bob, Ino::ROOT, b"gone").await);
    assert_eq!(case.ok(case.meta.quotas(QuotaKind::User).await), []);
    let quota = case.ok(case.meta.set_quota(QuotaKey::User(10), limits(None, Some(2))).await);
    assert_eq!((quota.used_space, quota.used_inodes), (4096, 1));
    assert!(case.ok(case.meta.settings().await).user_group_quota);
    assert_eq!(case.used(&session, QuotaKey::User(11)).await, (8192, 2));
    case.quotas_agree().await;
    case.ok(session.beat().await);
    case.ok(case.file(&session, &ann, Ino::ROOT, "2").await);
    is_quota(case, case.file(&session, &ann, Ino::ROOT, "3").await);
    case.ok(session.close().await);
}

pub(super) async fn wrong_use_is_found_and_repaired(case: &Case) {
    case.init_untrashed().await;
    let session = case.join().await;
    let ann = owner(10, 100);
    let (dir, _) = case.ok(session.create(&ann, Ino::ROOT, b"d", &NewInode::Directory, 0o755).await);
    case.ok(case.file(&session, &ann, dir, "f").await);
    case.ok(case.meta.set_quota(QuotaKey::Dir(dir), limits(None, Some(5))).await);
    case.ok(session.close().await);
    case.quotas_agree().await;
    let wrong = DirUsage { length: 0, space: 1, inodes: -2 };
    let keys = [QuotaKey::Dir(dir), QuotaKey::User(10), QuotaKey::Group(7)];
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.add_quota_usage(&keys.map(|key| (key, wrong))).await);
    case.ok(txn.commit().await);
    let found = |checks: Vec<QuotaCheck>| {
        let wrong = checks.into_iter().filter(|check| !check.is_consistent());
        wrong.map(|check| check.kept.key).collect::<Vec<_>>()
    };
    assert_eq!(found(case.ok(case.meta.check_quotas(QuotaScope::All).await)), keys);
    assert_eq!(found(case.ok(case.meta.repair_quotas(QuotaScope::Dir(dir)).await)), keys[..1]);
    assert_eq!(found(case.ok(case.meta.repair_quotas(QuotaScope::Owners).await)), keys[1..]);
    case.quotas_agree().await;
    let quota = case.some(case.meta.quota(QuotaKey::Dir(dir)).await);
    assert_eq!((quota.max_space, quota.max_inodes, quota.used_inodes), (-1, 5, 1), "limits stay");
}

pub(super) async fn use_of_a_directory_without_a_record_is_counted_once(case: &Case) {
    case.init().await;
    let root = Caller::root();
    let sessions = [case.join().await, case.join().await];
    case.ok(case.file(&sessions[0], &root, Ino::ROOT, "before").await);
    case.ok(sessions[0].flush_accounts().await);
    // As in a volume that a real client made: the root has no record.
    let txn = case.ok(case.engine.begin().await);
    case.ok(txn.delete_dir_records(&[Ino::ROOT]).await);
    case.ok(txn.commit().await);
    let sessions = [sessions[1].clone(), case.join().await];
    for (n, session) in sessions.iter().chain(&sessions).enumerate() {
        case.ok(case.file(session, &root, Ino::ROOT, &n.to_string()).await);
    }
    for session in &sessions {
        case.ok(session.flush_accounts().await);
    }
    case.audit_settled(&[]).await;
    for session in &sessions {
        case.ok(session.close().await);
    }
}
