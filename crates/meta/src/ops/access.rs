//! Who may do what: the permission rules of POSIX, for callers nobody has checked yet (spec sections 15, 24 and 28.3).

use shoal_format::{AclRule, Attr, Ino, attr_flag};

use super::acl_rules::rule;
use crate::engine::Records;
use crate::error::{MetaError, Refusal};

/// Set-group-id bit of a mode.
pub(crate) const SETGID: u16 = 0o2000;
/// Set-user-id bit of a mode.
pub(crate) const SETUID: u16 = 0o4000;
/// Sticky bit of a mode.
const STICKY: u16 = 0o1000;

/// Permission to read, as in a mode's lowest bits.
pub const MAY_READ: u8 = 4;
/// Permission to write.
pub const MAY_WRITE: u8 = 2;
/// Permission to execute a file, to pass through a directory.
pub const MAY_EXECUTE: u8 = 1;
/// Every permission.
const MAY_ALL: u16 = 7;

/// On whose behalf something is done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group: that of what the caller creates.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Permission bits taken from what the caller creates.
    pub umask: u16,
    /// Process, for locks; 0 if there is none.
    pub pid: u32,
    /// Whether the caller may is checked here; false where the kernel has done so.
    pub check: bool,
}

impl Caller {
    /// Root, whom nothing is checked of.
    pub fn root() -> Caller {
        Caller::default()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    pub(crate) fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Refuses unless the caller has every permission in `wanted` (see [`MAY_READ`]) on an inode with this access rule, if it has one.
    fn may(&self, ino: Ino, attr: &Attr, rule: Option<&AclRule>, wanted: u8) -> Result<(), MetaError> {
        let granted = match rule {
            Some(rule) if !self.is_root() => permits(self, attr, rule, u16::from(wanted)),
            _ => granted(self, attr) & wanted == wanted,
        };
        if !self.check || granted {
            return Ok(());
        }
        let what = format!("user {} has no permission {wanted:o} on inode {ino} of mode {:o}", self.uid, attr.mode);
        Err(MetaError::refused(Refusal::Access, what))
    }

    /// Refuses unless the caller owns the inode or is root.
    pub fn must_own(&self, ino: Ino, attr: &Attr) -> Result<(), MetaError> {
        if !self.check || self.is_root() || self.uid == attr.uid {
            return Ok(());
        }
        Err(MetaError::refused(Refusal::NotPermitted, format!("user {} does not own inode {ino}", self.uid)))
    }

    /// Refuses to remove or rename an inode in a sticky directory that is neither the caller's.
    pub fn may_remove_from(&self, dir: &Attr, ino: Ino, attr: &Attr) -> Result<(), MetaError> {
        let sticky = dir.mode & STICKY != 0 && self.uid != dir.uid;
        if sticky { self.must_own(ino, attr) } else { Ok(()) }
    }
}

/// Refuses unless the caller has every permission in `wanted` (see [`MAY_READ`]) on an inode.
pub(crate) async fn check_access(
    records: &dyn Records,
    caller: &Caller,
    ino: Ino,
    attr: &Attr,
    wanted: u8,
) -> Result<(), MetaError> {
    let rule = match attr.access_acl {
        id if id != 0 && caller.check => Some(rule(records, ino, id).await?),
        _ => None,
    };
    caller.may(ino, attr, rule.as_ref(), wanted)
}

/// Whether an access rule gives the caller all of `wanted` (acl(5), access check algorithm): the first class that fits decides, and of
/// several groups one that gives everything is enough.
fn permits(caller: &Caller, attr: &Attr, rule: &AclRule, wanted: u16) -> bool {
    let gives = |perm: u16| perm & wanted == wanted;
    if caller.uid == attr.uid {
        return gives(rule.owner.unwrap_or(0));
    }
    let mask = rule.mask.unwrap_or(MAY_ALL);
    if let Some(user) = rule.named_users.iter().find(|user| user.id == caller.uid) {
        return gives(user.perm & mask);
    }
    let own = caller.in_group(attr.gid).then_some(rule.group.unwrap_or(0));
    let named = rule.named_groups.iter().filter(|group| caller.in_group(group.id)).map(|group| group.perm);
    let groups: Vec<u16> = own.into_iter().chain(named).collect();
    if groups.is_empty() { gives(rule.other.unwrap_or(0)) } else { groups.iter().any(|perm| gives(perm & mask)) }
}

/// Permission bits of an inode that the mode gives the caller.
fn granted(caller: &Caller, attr: &Attr) -> u8 {
    let bits = |shift: u16| (attr.mode >> shift & 7) as u8;
    if caller.is_root() {
        // Root executes a file only if somebody may; passes through every directory.
        let executable = attr.is_dir() || attr.mode & 0o111 != 0;
        return MAY_READ | MAY_WRITE | if executable { MAY_EXECUTE } else { 0 };
    }
    match (caller.uid == attr.uid, caller.in_group(attr.gid)) {
        (true, _) => bits(6),
        (false, true) => bits(3),
        (false, false) => bits(0),
    }
}

/// Refuses to change entries of what was read of `dir`: it must be a directory outside the trash, may not be immutable, and
/// the caller must be allowed to write to it.
pub(crate) async fn check_entries_may_change<'a>(
    records: &dyn Records,
    caller: &Caller,
    dir: Ino,
    attr: Option<&'a Attr>,
) -> Result<&'a Attr, MetaError> {
    let attr = attr.ok_or_else(|| MetaError::no_inode(dir))?;
    if !attr.is_dir() {
        return Err(MetaError::NotDirectory { what: format!("inode {dir}") });
    }
    if attr.flags & attr_flag::IMMUTABLE != 0 {
        return Err(MetaError::refused(Refusal::NotPermitted, format!("directory {dir} is immutable")));
    }
    check_access(records, caller, dir, attr, MAY_WRITE | MAY_EXECUTE).await?;
    Ok(attr)
}

/// As [`check_entries_may_change`], for new entries: what was removed takes none.
pub(crate) async fn check_entries_may_come<'a>(
    records: &dyn Records,
    caller: &Caller,
    dir: Ino,
    attr: Option<&'a Attr>,
) -> Result<&'a Attr, MetaError> {
    let attr = check_entries_may_change(records, caller, dir, attr).await?;
    if dir.is_trash() || attr.parent.is_trash() {
        return Err(MetaError::refused(Refusal::NotPermitted, format!("directory {dir} is in the trash")));
    }
    Ok(attr)
}

#[cfg(test)]
mod tests {
    use shoal_format::{AclEntry, FileType, Time};

    use super::*;
    use crate::engine::Engine;
    use crate::mem::MemEngine;

    fn attr(kind: FileType, mode: u16) -> Attr {
        Attr { uid: 7, gid: 8, ..Attr::new(kind, mode, Ino::ROOT, Time::default()) }
    }

    fn caller(uid: u32, gid: u32, groups: &[u32]) -> Caller {
        Caller { uid, gid, groups: groups.to_vec(), check: true, ..Caller::default() }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let file = attr(FileType::Regular, 0o461);
        let may = |who: &Caller, wanted| who.may(Ino(5), &file, None, wanted).is_ok();
        let (owner, group, second, other) =
            (caller(7, 8, &[]), caller(9, 8, &[]), caller(9, 1, &[3, 8]), caller(9, 1, &[3]));
        assert!(may(&owner, MAY_READ) && !may(&owner, MAY_WRITE), "the group's bit does not help the owner");
        for who in [&group, &second] {
            assert!(may(who, MAY_READ | MAY_WRITE) && !may(who, MAY_EXECUTE));
        }
        assert!(may(&other, MAY_EXECUTE) && !may(&other, MAY_READ));
        assert!(may(&Caller { check: false, ..other }, 7), "the kernel has checked");
    }

    #[test]
    fn root_may_all_but_execute_what_nobody_can() {
        let root = Caller { check: true, ..Caller::root() };
        assert!(root.may(Ino(5), &attr(FileType::Regular, 0), None, MAY_READ | MAY_WRITE).is_ok());
        assert!(root.may(Ino(5), &attr(FileType::Regular, 0), None, MAY_EXECUTE).is_err());
        assert!(root.may(Ino(5), &attr(FileType::Regular, 0o010), None, MAY_EXECUTE).is_ok());
        assert!(root.may(Ino(5), &attr(FileType::Directory, 0), None, 7).is_ok());
    }

    #[test]
    fn sticky_directories_guard_what_is_not_the_callers() {
        let (sticky, plain) = (attr(FileType::Directory, 0o1777), attr(FileType::Directory, 0o777));
        let file = Attr { uid: 20, ..attr(FileType::Regular, 0o666) };
        let removes = |who: u32, dir: &Attr| caller(who, 1, &[]).may_remove_from(dir, Ino(5), &file).is_ok();
        assert!(removes(20, &sticky) && removes(7, &sticky) && removes(0, &sticky));
        assert!(!removes(21, &sticky) && removes(21, &plain));
    }

    #[test]
    fn rules_decide_by_the_first_class_that_fits() {
        let named = |id, perm| AclEntry { id, perm };
        let rule = AclRule {
            owner: Some(4),
            group: Some(4),
            mask: Some(6),
            other: Some(1),
            named_users: vec![named(20, 7), named(21, 0)],
            named_groups: vec![named(30, 2), named(31, 1)],
        };
        let file = attr(FileType::Regular, 0o461);
        let may = |who: &Caller, wanted| who.may(Ino(5), &file, Some(&rule), wanted).is_ok();
        let rows = [
            (caller(7, 30, &[]), MAY_READ, MAY_WRITE),
            (caller(20, 1, &[]), MAY_READ | MAY_WRITE, MAY_EXECUTE),
            (caller(9, 8, &[]), MAY_READ, MAY_WRITE),
            (caller(9, 1, &[30]), MAY_WRITE, MAY_READ),
            (caller(9, 1, &[]), MAY_EXECUTE, MAY_READ),
        ];
        for (who, yes, no) in rows {
            assert!(may(&who, yes) && !may(&who, no), "{who:?}");
        }
        let in_two = caller(9, 8, &[30]);
        assert!(may(&in_two, MAY_READ) && may(&in_two, MAY_WRITE) && !may(&in_two, MAY_READ | MAY_WRITE));
        assert!(!may(&caller(21, 8, &[30]), MAY_READ), "a named user is in no group");
        assert!(!may(&caller(9, 31, &[]), MAY_EXECUTE), "the mask bounds groups, and others get no say");
        let root = Caller { check: true, ..Caller::root() };
        assert!(may(&root, MAY_READ | MAY_WRITE));
    }

    #[tokio::test]
    async fn entries_change_only_in_living_directories() {
        let who = caller(7, 8, &[]);
        let engine = MemEngine::new();
        let come = async |who: &Caller, ino, attr: Option<&Attr>| {
            check_entries_may_come(engine.records(), who, ino, attr).await.cloned()
        };
        let refusal = async |attr: &Attr| come(&who, Ino(5), Some(attr)).await.expect_err("refused");
        let dir = attr(FileType::Directory, 0o755);
        assert_eq!(come(&who, Ino(5), Some(&dir)).await.unwrap(), dir);
        assert!(matches!(refusal(&attr(FileType::Regular, 0o777)).await, MetaError::NotDirectory { .. }));
        for (attr, why) in [
            (Attr { mode: 0o555, ..dir.clone() }, Refusal::Access),
            (Attr { mode: 0o666, ..dir.clone() }, Refusal::Access),
            (Attr { flags: attr_flag::IMMUTABLE, ..dir.clone() }, Refusal::NotPermitted),
            (Attr { parent: Ino(Ino::TRASH.0 + 1), ..dir.clone() }, Refusal::NotPermitted),
        ] {
            assert!(matches!(refusal(&attr).await, MetaError::Refused { why: found, .. } if found == why), "{attr:?}");
        }
        assert!(matches!(come(&who, Ino(5), None).await, Err(MetaError::NoInode { ino: 5 })));
        let trash = come(&Caller::root(), Ino::TRASH, Some(&dir)).await.expect_err("trash");
        assert!(matches!(trash, MetaError::Refused { why: Refusal::NotPermitted, .. }));
    }
}
