//! POSIX ACLs of inodes (spec section 18; acl(5)): what sets them, and what new inodes inherit.

use async_trait::async_trait;
use shoal_format::{AclRule, Attr, FileType, Ino, attr_flag};

use super::access::{Caller, SETGID};
use super::acl_rules::{AclRules, rule};
use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::{MetaError, Refusal};

/// Which of an inode's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclKind {
    /// Who may do what with it.
    Access,
    /// What new inodes in a directory begin with.
    Default,
}

/// Gives the new inode `ino`, created with a mode, what the default rule of the directory `above` says; nothing without one.
pub(crate) async fn inherit_acl(
    txn: &dyn Txn,
    rules: &AclRules,
    ino: Ino,
    attr: &mut Attr,
    above: &Attr,
) -> Result<(), MetaError> {
    if !inherits_acl(attr.kind, above) {
        return Ok(());
    }
    let default = rule(txn, ino, above.default_acl).await?;
    let rule = default.for_child(attr.mode);
    attr.mode = attr.mode & !0o777 | rule.mode_bits();
    if attr.is_dir() {
        attr.default_acl = above.default_acl;
    }
    if !rule.is_minimal() {
        attr.access_acl = rules.id_of(txn, &rule).await?;
    }
    Ok(())
}

/// True if a new inode's permissions come from the default rule of the directory `above`, not from a umask.
pub(crate) fn inherits_acl(kind: FileType, above: &Attr) -> bool {
    above.default_acl != 0 && kind != FileType::Symlink
}

/// The rule of an inode whose mode became `mode` by a chmod(2).
pub(crate) async fn chmod_acl(txn: &dyn Txn, rules: &AclRules, ino: Ino, new: &mut Attr) -> Result<(), MetaError> {
    if new.access_acl != 0 {
        let rule = rule(txn, ino, new.access_acl).await?.with_mode(new.mode);
        new.access_acl = rules.id_of(txn, &rule).await?;
    }
    Ok(())
}

/// Sets or removes a rule of one inode.
pub(crate) struct PutAcl<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) ino: Ino,
    pub(crate) kind: AclKind,
    pub(crate) rule: Option<AclRule>,
}

#[async_trait]
impl Change for PutAcl<'_> {
    type Output = Attr;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Attr, Effects), MetaError> {
        if !context.settings.enable_acl {
            return Err(MetaError::refused(Refusal::Unsupported, "the volume has no POSIX ACLs"));
        }
        let old = txn.attrs_locked(&[self.ino]).await?.pop().flatten().ok_or_else(|| MetaError::no_inode(self.ino))?;
        self.check(&old)?;
        let mut new = Attr { ctime: context.now, ..old };
        match (self.kind, &self.rule) {
            (AclKind::Access, Some(rule)) => {
                new.mode = new.mode & !0o777 | rule.mode_bits();
                new.access_acl = if rule.is_minimal() { 0 } else { context.acls.id_of(txn, rule).await? };
                if !self.caller.is_root() && !self.caller.in_group(new.gid) {
                    new.mode &= !SETGID;
                }
            }
            // The mode stays as it is, the mask's bits included, as on other file systems.
            (AclKind::Access, None) => new.access_acl = 0,
            // Said by a mode alone or not: nothing else says what a child begins with.
            (AclKind::Default, Some(rule)) => new.default_acl = context.acls.id_of(txn, rule).await?,
            (AclKind::Default, None) => new.default_acl = 0,
        }
        txn.update_attrs(&[(self.ino, new.clone())]).await?;
        context.log(txn, || self.entry()).await?;
        Ok((new, Effects::default()))
    }
}

impl PutAcl<'_> {
    /// What the change log says; a rule that is removed is one that says nothing of anybody (spec section 18).
    fn entry(&self) -> LogEntry {
        let kind = match self.kind {
            AclKind::Access => 1,
            AclKind::Default => 2,
        };
        let rule = self.rule.clone().unwrap_or_default();
        LogEntry::new("SETFACL").with(self.ino).with(kind).bytes(&rule.encode())
    }

    fn check(&self, attr: &Attr) -> Result<(), MetaError> {
        let ino = self.ino;
        if attr.kind == FileType::Symlink {
            return Err(MetaError::refused(Refusal::Unsupported, format!("symbolic link {ino} has no ACL")));
        }
        if self.kind == AclKind::Default && !attr.is_dir() && self.rule.is_some() {
            return Err(MetaError::refused(
                Refusal::Access,
                format!("inode {ino} is no directory and has no default ACL"),
            ));
        }
        if ino.is_trash() || attr.parent.is_trash() {
            return Err(MetaError::refused(Refusal::NotPermitted, format!("inode {ino} is in the trash")));
        }
        if attr.flags & (attr_flag::IMMUTABLE | attr_flag::APPEND) != 0 {
            return Err(MetaError::refused(Refusal::NotPermitted, format!("inode {ino} is protected")));
        }
        self.caller.must_own(ino, attr)
    }
}
