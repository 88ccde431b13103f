//! Changing attributes: mode, owner, times, flags (spec sections 7, 15 and 24.12; inode(7), chown(2), utimensat(2)).

use async_trait::async_trait;
use shoal_format::{Attr, Ino, Time, attr_flag};

use super::access::{Caller, MAY_WRITE, SETGID, SETUID, check_access};
use super::acl::chmod_acl;
use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::{MetaError, Refusal};

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the change.
    Now,
    /// This time.
    To(Time),
}

/// Attributes to change; those that are `None` stay. The length is not among them: changing it changes data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetAttr {
    /// The 12 permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the contents.
    pub mtime: Option<SetTime>,
    /// Bits of [`attr_flag`].
    pub flags: Option<u8>,
}

/// Changes attributes of one inode.
pub(crate) struct ChangeAttr<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) ino: Ino,
    pub(crate) set: &'a SetAttr,
}

#[async_trait]
impl Change for ChangeAttr<'_> {
    type Output = Attr;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Attr, Effects), MetaError> {
        let old = txn.attrs_locked(&[self.ino]).await?.pop().flatten().ok_or_else(|| MetaError::no_inode(self.ino))?;
        if *self.set == SetAttr::default() {
            return Ok((old, Effects::default()));
        }
        if check(self.caller, self.ino, &old, self.set)? == Needs::ToWrite {
            check_access(txn, self.caller, self.ino, &old, MAY_WRITE).await?;
        }
        let mut new = changed(self.caller, &old, self.set, context.now);
        if self.set.mode.is_some() {
            chmod_acl(txn, &context.acls, self.ino, &mut new).await?;
        }
        txn.update_attrs(&[(self.ino, new.clone())]).await?;
        context.log(txn, || entry(self.ino, mask(self.set), &new)).await?;
        let mut effects = Effects::default();
        effects.given(&old, &new);
        Ok((new, effects))
    }
}

/// What is still to be checked.
#[derive(Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// The caller must have the permission to write to the inode.
    ToWrite,
}

/// Which attributes are set, as the format numbers them (spec section 7).
fn mask(set: &SetAttr) -> u32 {
    let time = |time: Option<SetTime>, bit: u32, now: u32| match time {
        None => 0,
        Some(SetTime::To(_)) => bit,
        Some(SetTime::Now) => bit | now,
    };
    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
    let owners = bit(set.mode.is_some(), 1) | bit(set.uid.is_some(), 2) | bit(set.gid.is_some(), 4);
    owners | time(set.atime, 16, 128) | time(set.mtime, 32, 256) | bit(set.flags.is_some(), 1 << 15)
}

/// The log entry of attributes in `mask` that were set.
pub(super) fn entry(ino: Ino, mask: u32, attr: &Attr) -> LogEntry {
    let entry = LogEntry::new("SETATTR").with(ino).with(mask).with(0).with(attr.uid).with(attr.gid);
    let entry = entry.with(attr.mode).with(attr.flags).with(attr.atime.secs).with(attr.mtime.secs);
    let entry = entry.with(attr.atime.nanos).with(attr.mtime.nanos);
    entry.with(attr.ctime.secs).with(attr.ctime.nanos).with(attr.access_acl)
}

/// Refuses what the caller may not do to the inode.
fn check(caller: &Caller, ino: Ino, old: &Attr, set: &SetAttr) -> Result<Needs, MetaError> {
    let forbidden = |what: String| Err(MetaError::refused(Refusal::NotPermitted, what));
    if ino.is_trash() || old.parent.is_trash() {
        return forbidden(format!("inode {ino} is in the trash"));
    }
    let to = |time: Option<SetTime>| matches!(time, Some(SetTime::To(_)));
    let explicit = set.mode.is_some() || set.uid.is_some() || set.gid.is_some() || to(set.atime) || to(set.mtime);
    let touched = set.atime.is_some() || set.mtime.is_some();
    let immutable = old.flags & attr_flag::IMMUTABLE != 0;
    if (immutable && (explicit || touched)) || (old.flags & attr_flag::APPEND != 0 && explicit) {
        return forbidden(format!("inode {ino} is protected"));
    }
    let owners = set.mode.is_some() || set.flags.is_some() || to(set.atime) || to(set.mtime);
    if owners {
        caller.must_own(ino, old)?;
    }
    check_owners(caller, ino, old, set)?;
    let touches = !owners && touched && caller.uid != old.uid;
    Ok(if touches { Needs::ToWrite } else { Needs::Nothing })
}

/// Only root gives a file away; an owner may give it to a group of his.
fn check_owners(caller: &Caller, ino: Ino, old: &Attr, set: &SetAttr) -> Result<(), MetaError> {
    if !caller.check || caller.is_root() || (set.uid.is_none() && set.gid.is_none()) {
        return Ok(());
    }
    caller.must_own(ino, old)?;
    let keeps_owner = set.uid.is_none_or(|uid| uid == old.uid);
    let own_group = set.gid.is_none_or(|gid| gid == old.gid || caller.in_group(gid));
    if keeps_owner && own_group {
        return Ok(());
    }
    Err(MetaError::refused(Refusal::NotPermitted, format!("user {} may not give inode {ino} away", caller.uid)))
}

fn changed(caller: &Caller, old: &Attr, set: &SetAttr, now: Time) -> Attr {
    let mut new = old.clone();
    new.uid = set.uid.unwrap_or(old.uid);
    new.gid = set.gid.unwrap_or(old.gid);
    if let Some(mode) = set.mode {
        new.mode = mode & 0o7777;
        if caller.check && !caller.is_root() && !caller.in_group(new.gid) {
            new.mode &= !SETGID;
        }
    }
    if (set.uid.is_some() || set.gid.is_some()) && !old.is_dir() {
        new.mode &= !SETUID;
        // Without the group's execute bit it once meant mandatory locking, and stays unless a stranger changes it.
        if new.mode & 0o010 != 0 || !caller.is_root() {
            new.mode &= !SETGID;
        }
    }
    let at = |time: Option<SetTime>, old: Time| match time {
        None => old,
        Some(SetTime::Now) => now,
        Some(SetTime::To(time)) => time,
    };
    new.atime = at(set.atime, old.atime);
    new.mtime = at(set.mtime, old.mtime);
    new.flags = set.flags.unwrap_or(old.flags);
    new.ctime = now;
    new
}

#[cfg(test)]
mod tests {
    use shoal_format::FileType;

    use super::*;

    const NOW: Time = Time { secs: 9, nanos: 9 };

    fn file(mode: u16) -> Attr {
        let attr = Attr::new(FileType::Regular, mode, Ino::ROOT, Time { secs: 1, nanos: 1 });
        Attr { uid: 7, gid: 8, ..attr }
    }

    fn user(uid: u32, gid: u32) -> Caller {
        Caller { uid, gid, check: true, ..Caller::default() }
    }

    fn mode(mode: u16) -> SetAttr {
        SetAttr { mode: Some(mode), ..SetAttr::default() }
    }

    fn owner(uid: Option<u32>, gid: Option<u32>) -> SetAttr {
        SetAttr { uid, gid, ..SetAttr::default() }
    }

    #[test]
    fn a_new_owner_takes_set_id_bits_away_but_not_from_directories() {
        let after = |caller: &Caller, old: &Attr| changed(caller, old, &owner(None, Some(8)), NOW).mode;
        assert_eq!(after(&Caller::root(), &file(0o6755)), 0o755);
        assert_eq!(after(&Caller::root(), &file(0o6745)), 0o2745, "not a program of the group");
        assert_eq!(after(&user(7, 8), &file(0o6745)), 0o745);
        let dir = Attr { kind: FileType::Directory, ..file(0o6755) };
        assert_eq!(after(&user(7, 8), &dir), 0o6755);
        let both = SetAttr { mode: Some(0o6755), ..owner(Some(9), None) };
        assert_eq!(changed(&Caller::root(), &file(0o644), &both, NOW).mode, 0o755);
    }

    #[test]
    fn a_stranger_to_the_group_sets_no_group_id() {
        let after = |caller: &Caller| changed(caller, &file(0o755), &mode(0o2755), NOW).mode;
        assert_eq!((after(&user(7, 1)), after(&user(7, 8)), after(&Caller::root())), (0o755, 0o2755, 0o2755));
    }

    #[test]
    fn times_are_set_one_by_one_and_every_change_shows() {
        let old = file(0o644);
        let set = SetAttr { atime: Some(SetTime::To(Time { secs: -5, nanos: 3 })), ..SetAttr::default() };
        let new = changed(&Caller::root(), &old, &set, NOW);
        assert_eq!((new.atime, new.mtime, new.ctime), (Time { secs: -5, nanos: 3 }, old.mtime, NOW));
        let set = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
        assert_eq!(changed(&Caller::root(), &old, &set, NOW), Attr { mtime: NOW, ctime: NOW, ..old });
    }

    #[test]
    fn only_owners_and_root_change_what_is_theirs() {
        let to = |time| SetAttr { mtime: Some(time), ..SetAttr::default() };
        let (now, then) = (to(SetTime::Now), to(SetTime::To(NOW)));
        let may = |caller: &Caller, set: &SetAttr| check(caller, Ino(5), &file(0o646), set).is_ok();
        for set in [mode(0o600), then, SetAttr { flags: Some(0), ..SetAttr::default() }] {
            assert!(may(&user(7, 1), &set) && may(&Caller::root(), &set) && !may(&user(9, 8), &set), "{set:?}");
        }
        let needs = |uid| check(&user(uid, 8), Ino(5), &file(0o646), &now).unwrap();
        assert_eq!((needs(7), needs(9)), (Needs::Nothing, Needs::ToWrite), "touching needs only to write");
        let gives = |caller: &Caller, uid, gid| may(caller, &owner(uid, gid));
        assert!(gives(&Caller::root(), Some(1), Some(1)));
        assert!(gives(&user(7, 3), Some(7), Some(3)) && gives(&user(7, 3), None, Some(8)));
        assert!(!gives(&user(7, 3), Some(1), None) && !gives(&user(7, 3), None, Some(4)));
        assert!(!gives(&user(9, 8), None, Some(8)));
    }

    #[test]
    fn protected_and_removed_files_stay_as_they_are() {
        let root = Caller::root();
        let touch = SetAttr { atime: Some(SetTime::Now), ..SetAttr::default() };
        let immutable = Attr { flags: attr_flag::IMMUTABLE, ..file(0o644) };
        let append = Attr { flags: attr_flag::APPEND, ..file(0o644) };
        let trashed = Attr { parent: Ino(Ino::TRASH.0 + 3), ..file(0o644) };
        for (attr, set) in [
            (&immutable, mode(0)),
            (&immutable, touch),
            (&append, mode(0)),
            (&append, owner(Some(1), None)),
            (&trashed, touch),
        ] {
            let error = check(&root, Ino(5), attr, &set).expect_err("refused");
            assert!(matches!(error, MetaError::Refused { why: Refusal::NotPermitted, .. }), "{error}");
        }
        assert!(check(&root, Ino::TRASH, &file(0o555), &mode(0o777)).is_err());
        assert!(check(&root, Ino(5), &append, &touch).is_ok());
        let unprotect = SetAttr { flags: Some(0), ..SetAttr::default() };
        assert!(check(&root, Ino(5), &immutable, &unprotect).is_ok());
    }
}
