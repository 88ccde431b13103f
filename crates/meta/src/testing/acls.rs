//! POSIX ACLs: how rules are recorded, shown, inherited and obeyed.

use shoal_format::{AclEntry, AclRule, Attr, Ino, Settings, attr_flag};

use super::Case;
use super::sample::{BatchBuilder, settings};
use crate::error::{MetaError, Refusal};
use crate::ops::{
    AclKind, Caller, MAY_EXECUTE, MAY_READ, MAY_WRITE, MkdirP, NewInode, Place, RenameMode, SetAttr, XattrMode,
};
use crate::session::Session;

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

fn entry(id: u32, perm: u16) -> AclEntry {
    AclEntry { id, perm }
}

/// `u::rw-,u:1000:rwx,g::r--,m::rwx,o::r--`.
fn golden() -> AclRule {
    AclRule {
        owner: Some(6),
        group: Some(4),
        mask: Some(7),
        other: Some(4),
        named_users: vec![entry(1000, 7)],
        named_groups: vec![],
    }
}

fn minimal(mode: u16) -> AclRule {
    AclRule { owner: Some(mode >> 6), group: Some(mode >> 3 & 7), other: Some(mode & 7), ..AclRule::default() }
}

impl Case {
    async fn init_with_acls(&self) -> Session {
        self.ok(self.meta.init(&Settings { enable_acl: true, ..settings() }, false).await);
        self.join().await
    }

    async fn make(&self, session: &Session, parent: Ino, name: &str, new: NewInode, mode: u16) -> (Ino, Attr) {
        let caller = Caller { umask: 0o077, ..Caller::root() };
        self.ok(session.create(&caller, parent, name.as_bytes(), &new, mode).await)
    }

    async fn rule_of(&self, ino: Ino, name: &[u8]) -> Option<AclRule> {
        let value = self.ok(self.meta.getxattr(ino, name).await)?;
        self.ok(AclRule::from_xattr(&value))
    }
}

pub(super) async fn rules_are_shared_and_show_in_the_mode(case: &Case) {
    let session = case.init_with_acls().await;
    let root = Caller::root();
    let (f, _) = case.make(&session, Ino::ROOT, "f", NewInode::File, 0o644).await;
    let (g, _) = case.make(&session, Ino::ROOT, "g", NewInode::File, 0o4755).await;
    assert_eq!(case.rule_of(f, ACCESS).await, None);
    let after = case.ok(session.set_acl(&root, f, AclKind::Access, Some(golden())).await);
    // Where tables were emptied, ids go on.
    let first = after.access_acl;
    assert_eq!((after.mode, after.default_acl), (0o674, 0));
    assert!(first > 0);
    assert_eq!(case.some(case.meta.getattr(f).await), after);
    assert_eq!(case.rule_of(f, ACCESS).await, Some(golden()));
    assert_eq!(case.ok(case.meta.listxattr(f).await), [ACCESS]);
    let after = case.ok(session.set_acl(&root, g, AclKind::Access, Some(golden())).await);
    assert_eq!((after.mode, after.access_acl), (0o4674, first), "the same rule");

    // Another client knows it too, and adds one of its own.
    let other = case.join().await;
    let more = AclRule { named_users: vec![], named_groups: vec![entry(5, 2), entry(4_000_000_000, 1)], ..golden() };
    assert_eq!(case.ok(other.set_acl(&root, g, AclKind::Access, Some(golden())).await).access_acl, first);
    let second = case.ok(other.set_acl(&root, g, AclKind::Access, Some(more.clone())).await).access_acl;
    assert!(second > first);
    assert_eq!(case.ok(session.set_acl(&root, f, AclKind::Access, Some(more.clone())).await).access_acl, second);
    assert_eq!(case.ok(case.engine.records().acls(0).await), [(first, golden()), (second, more.clone())]);
    assert_eq!(case.ok(case.engine.records().acls(first).await), [(second, more.clone())]);

    let after = case.ok(session.set_acl(&root, f, AclKind::Access, Some(minimal(0o640))).await);
    assert_eq!((after.mode, after.access_acl), (0o640, 0), "a mode says it all");
    let after = case.ok(session.set_acl(&root, g, AclKind::Access, None).await);
    assert_eq!((after.mode, after.access_acl), (0o4674, 0), "the mode stays as it shows");
    assert_eq!(case.ok(case.meta.listxattr(g).await).len(), 0);
    case.ok(other.close().await);
    case.ok(session.close().await);
}

pub(super) async fn a_changed_mode_changes_the_mask(case: &Case) {
    let session = case.init_with_acls().await;
    let root = Caller::root();
    let (f, _) = case.make(&session, Ino::ROOT, "f", NewInode::File, 0o644).await;
    let first = case.ok(session.set_acl(&root, f, AclKind::Access, Some(golden())).await).access_acl;
    let mode = |mode| SetAttr { mode: Some(mode), ..SetAttr::default() };
    let after = case.ok(session.setattr(&root, f, &mode(0o1751)).await);
    assert_eq!(after.mode, 0o1751);
    let expected = AclRule { owner: Some(7), mask: Some(5), other: Some(1), ..golden() };
    assert_eq!(case.rule_of(f, ACCESS).await, Some(expected));
    let back = case.ok(session.setattr(&root, f, &mode(0o674)).await);
    assert_eq!(back.access_acl, first, "the first rule again");
    let owned = case.ok(session.setattr(&root, f, &SetAttr { uid: Some(5), ..SetAttr::default() }).await);
    assert_eq!((owned.mode, owned.access_acl), (0o674, first));
    case.ok(session.close().await);
}

pub(super) async fn new_inodes_get_what_their_directorys_default_says(case: &Case) {
    let session = case.init_with_acls().await;
    let root = Caller::root();
    let (d, _) = case.make(&session, Ino::ROOT, "d", NewInode::Directory, 0o777).await;
    let default = AclRule { owner: Some(7), ..golden() };
    let after = case.ok(session.set_acl(&root, d, AclKind::Default, Some(default.clone())).await);
    let id = after.default_acl;
    assert_eq!((after.mode, after.access_acl), (0o700, 0), "the umask made it so");
    assert!(id > 0);

    let (f, attr) = case.make(&session, d, "f", NewInode::File, 0o664).await;
    assert_eq!((attr.mode, attr.default_acl), (0o664, 0), "no umask");
    let expected = AclRule { owner: Some(6), mask: Some(6), ..golden() };
    assert_eq!(case.rule_of(f, ACCESS).await, Some(expected));
    let (sub, attr) = case.make(&session, d, "sub", NewInode::Directory, 0o2755).await;
    assert_eq!((attr.mode, attr.default_acl), (0o2754, id));
    assert_eq!(case.rule_of(sub, DEFAULT).await, Some(default.clone()));
    assert_eq!(case.rule_of(sub, ACCESS).await, Some(AclRule { owner: Some(7), mask: Some(5), ..golden() }));
    let (pipe, attr) = case.make(&session, sub, "pipe", NewInode::Fifo, 0o600).await;
    assert_eq!((attr.mode, attr.default_acl), (0o600, 0));
    assert_eq!(case.rule_of(pipe, ACCESS).await.and_then(|rule| rule.mask), Some(0));
    let (_, attr) = case.make(&session, d, "link", NewInode::Symlink("f".into()), 0o777).await;
    assert_eq!((attr.mode, attr.access_acl, attr.default_acl), (0o777, 0, 0));
    let (ino, attr) = case.ok(case.meta.mkdir_p(b"/d/x/y", MkdirP { mode: 0o711, ..MkdirP::default() }).await);
    assert_eq!((attr.mode, attr.default_acl), (0o710, id));
    assert_eq!(case.rule_of(ino, ACCESS).await.and_then(|rule| rule.mask), Some(1));

    let ids = case.ok(case.meta.alloc_inodes(2).await).start;
    case.ok(case.meta.import(BatchBuilder::new().file(ids, b"f", ids + 1, 0).dir(d.0, b"loaded", ids).build()).await);
    let loaded = case.some(case.meta.getattr(Ino(ids)).await);
    assert_eq!((loaded.mode, loaded.default_acl), (0o754, id));
    let expected = AclRule { owner: Some(6), mask: Some(4), ..golden() };
    assert_eq!(case.rule_of(Ino(ids + 1), ACCESS).await, Some(expected));

    // A default that a mode can say: children need no rule.
    case.ok(session.set_acl(&root, sub, AclKind::Default, Some(minimal(0o750))).await);
    assert_eq!(case.rule_of(sub, DEFAULT).await, Some(minimal(0o750)));
    let (_, attr) = case.make(&session, sub, "plain", NewInode::File, 0o666).await;
    assert_eq!((attr.mode, attr.access_acl), (0o640, 0));
    // What moves keeps its rule, and without a default everything is as before.
    let (from, to) = (Place { parent: d, name: b"f" }, Place { parent: Ino::ROOT, name: b"f" });
    case.ok(session.rename(&root, from, to, RenameMode::Replace).await);
    assert!(case.rule_of(f, ACCESS).await.is_some());
    case.ok(session.set_acl(&root, d, AclKind::Default, None).await);
    let (_, attr) = case.make(&session, d, "masked", NewInode::File, 0o666).await;
    assert_eq!((attr.mode, attr.access_acl), (0o600, 0));
    case.ok(session.close().await);
}

pub(super) async fn acls_are_refused_where_the_rules_say_so(case: &Case) {
    let session = case.init_with_acls().await;
    let root = Caller::root();
    let (f, _) = case.make(&session, Ino::ROOT, "f", NewInode::File, 0o6755).await;
    let (link, _) = case.make(&session, Ino::ROOT, "link", NewInode::Symlink("f".into()), 0o777).await;
    let (fixed, _) = case.make(&session, Ino::ROOT, "fixed", NewInode::File, 0o644).await;
    let flags = SetAttr { flags: Some(attr_flag::IMMUTABLE), ..SetAttr::default() };
    case.ok(session.setattr(&root, fixed, &flags).await);
    let refused = async |caller: &Caller, ino, kind, rule| match session
        .set_acl(caller, ino, kind, rule)
        .await
        .expect_err("refused")
    {
        MetaError::Refused { why, .. } => Some(why),
        MetaError::NoInode { .. } => None,
        error => panic!("{error}"),
    };
    let stranger = Caller { uid: 9, gid: 9, check: true, ..Caller::default() };
    assert_eq!(refused(&root, link, AclKind::Access, Some(golden())).await, Some(Refusal::Unsupported));
    assert_eq!(refused(&root, f, AclKind::Default, Some(golden())).await, Some(Refusal::Access));
    assert_eq!(refused(&root, fixed, AclKind::Access, Some(golden())).await, Some(Refusal::NotPermitted));
    assert_eq!(refused(&stranger, f, AclKind::Access, None).await, Some(Refusal::NotPermitted));
    assert_eq!(refused(&root, Ino(4711), AclKind::Access, None).await, None);
    case.ok(session.set_acl(&root, f, AclKind::Default, None).await);
    let as_attribute =
        session.setxattr(f, ACCESS, &golden().to_xattr(), XattrMode::Any).await.expect_err("no attribute");
    assert!(matches!(as_attribute, MetaError::Refused { why: Refusal::Unsupported, .. }), "{as_attribute}");
    // An owner who is no member of the file's group.
    let owner = SetAttr { uid: Some(9), gid: Some(8), ..SetAttr::default() };
    case.ok(session.setattr(&root, f, &owner).await);
    case.ok(session.setattr(&root, f, &SetAttr { mode: Some(0o6755), ..SetAttr::default() }).await);
    let after = case.ok(session.set_acl(&stranger, f, AclKind::Access, Some(golden())).await);
    assert_eq!(after.mode, 0o4674);
    case.ok(session.close().await);
    case.ok(case.meta.update_settings(&settings()).await);
    let session = case.join().await;
    let off = session.set_acl(&root, f, AclKind::Access, Some(golden())).await.expect_err("a volume without ACLs");
    assert!(matches!(off, MetaError::Refused { why: Refusal::Unsupported, .. }), "{off}");
    case.ok(session.close().await);
}

pub(super) async fn access_follows_the_rule(case: &Case) {
    let session = case.init_with_acls().await;
    let root = Caller::root();
    let user = |uid| Caller { uid, gid: uid, check: true, ..Caller::default() };
    let (d, _) = case.make(&session, Ino::ROOT, "d", NewInode::Directory, 0o700).await;
    let rule = AclRule { named_users: vec![entry(1000, 7), entry(1001, 5)], other: Some(0), ..golden() };
    case.ok(session.set_acl(&root, d, AclKind::Access, Some(rule)).await);
    case.ok(session.access(&user(1000), d, MAY_READ | MAY_WRITE | MAY_EXECUTE).await);
    case.ok(session.access(&user(1001), d, MAY_READ | MAY_EXECUTE).await);
    for (uid, wanted) in [(1001, MAY_WRITE), (1002, MAY_READ)] {
        let error = session.access(&user(uid), d, wanted).await.expect_err("not granted");
        assert!(matches!(error, MetaError::Refused { why: Refusal::Access, .. }), "{error}");
    }
    let (f, _) = case.ok(session.create(&user(1000), d, b"f", &NewInode::File, 0o644).await);
    for uid in [1001, 1002] {
        assert!(session.create(&user(uid), d, b"g", &NewInode::File, 0o644).await.is_err(), "{uid}");
        assert!(session.link(&user(uid), f, d, b"h").await.is_err(), "{uid}");
        assert!(session.unlink(&user(uid), d, b"f").await.is_err(), "{uid}");
    }
    case.ok(session.unlink(&user(1000), d, b"f").await);
    case.ok(session.close().await);
}
