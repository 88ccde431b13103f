//! Extended attributes, those that show ACL rules included (spec sections 8.2 and 18).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, Ino, attr_flag};

use super::acl_rules::rule;
use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{Records, Txn};
use crate::error::{MetaError, Refusal};
use crate::record::Xattr;

/// Longest value of an extended attribute in bytes.
pub(crate) const XATTR_BYTES_MAX: usize = 65_536;
/// Longest name of an extended attribute in bytes.
pub(crate) const XATTR_NAME_BYTES_MAX: usize = 255;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

pub(crate) async fn getxattr(records: &dyn Records, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
    let rule_of = |pick: fn(&Attr) -> u32| async move {
        let Some(attr) = records.attr(ino).await? else { return Ok(None) };
        let id = pick(&attr);
        if id == 0 {
            return Ok(None);
        }
        Ok(Some(Bytes::from(rule(records, ino, id).await?.to_xattr())))
    };
    match name {
        ACL_ACCESS => rule_of(|attr| attr.access_acl).await,
        ACL_DEFAULT => rule_of(|attr| attr.default_acl).await,
        _ => records.xattr(ino, name).await,
    }
}

pub(crate) async fn listxattr(records: &dyn Records, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
    let mut names = records.xattr_names(ino).await?;
    if let Some(attr) = records.attr(ino).await? {
        let shown = [(attr.access_acl, ACL_ACCESS), (attr.default_acl, ACL_DEFAULT)];
        names.extend(shown.iter().filter(|(id, _)| *id != 0).map(|(_, name)| Bytes::from_static(name)));
    }
    Ok(names)
}

/// Whether an extended attribute may be there when it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// It is created or replaced.
    Any,
    /// It must not be there: `Conflict`.
    Create,
    /// It must be there: `NotFound`.
    Replace,
}

/// Sets an extended attribute.
pub(crate) struct PutXattr<'a> {
    pub(crate) ino: Ino,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) mode: XattrMode,
}

#[async_trait]
impl Change for PutXattr<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((), Effects), MetaError> {
        check_name(self.name)?;
        if self.value.len() > XATTR_BYTES_MAX {
            let what = format!("a value of {} bytes is too long; {XATTR_BYTES_MAX} are possible", self.value.len());
            return Err(MetaError::refused(Refusal::TooBig, what));
        }
        check_inode(txn, self.ino).await?;
        match (self.mode, self.mode != XattrMode::Any && txn.xattr(self.ino, self.name).await?.is_some()) {
            (XattrMode::Create, true) => {
                let what = format!("extended attribute `{}` of inode {}", self.name.escape_ascii(), self.ino);
                return Err(MetaError::Taken { what });
            }
            (XattrMode::Replace, false) => return Err(absent(self.ino, self.name)),
            _ => {}
        }
        let (name, value) = (Bytes::copy_from_slice(self.name), Bytes::copy_from_slice(self.value));
        txn.put_xattrs(&[Xattr { ino: self.ino, name, value }]).await?;
        let flags = match self.mode {
            XattrMode::Any => 0,
            XattrMode::Create => 1,
            XattrMode::Replace => 2,
        };
        let entry = || LogEntry::new("SETXATTR").with(self.ino).bytes(self.name).bytes(self.value).with(flags);
        context.log(txn, entry).await?;
        Ok(((), Effects::default()))
    }
}

/// Removes an extended attribute.
pub(crate) struct RemoveXattr<'a> {
    pub(crate) ino: Ino,
    pub(crate) name: &'a [u8],
}

#[async_trait]
impl Change for RemoveXattr<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((), Effects), MetaError> {
        check_name(self.name)?;
        check_inode(txn, self.ino).await?;
        if txn.delete_xattr(self.ino, self.name).await? {
            context.log(txn, || LogEntry::new("REMOVEXATTR").with(self.ino).bytes(self.name)).await?;
            return Ok(((), Effects::default()));
        }
        Err(absent(self.ino, self.name))
    }
}

fn check_name(name: &[u8]) -> Result<(), MetaError> {
    if name == ACL_ACCESS || name == ACL_DEFAULT {
        return Err(MetaError::refused(Refusal::Unsupported, "ACLs are set as rules, not as extended attributes"));
    }
    if name.len() > XATTR_NAME_BYTES_MAX {
        let what = format!("the name of an extended attribute has at most {XATTR_NAME_BYTES_MAX} bytes");
        return Err(MetaError::refused(Refusal::NameTooLong, what));
    }
    if name.is_empty() || name.contains(&0) {
        return Err(MetaError::invalid("an extended attribute needs a name of at least one byte, none of them zero"));
    }
    Ok(())
}

/// Locks the inode: of two that create the same attribute one must fail.
async fn check_inode(txn: &dyn Txn, ino: Ino) -> Result<(), MetaError> {
    let attr = txn.attrs_locked(&[ino]).await?.pop().flatten().ok_or_else(|| MetaError::no_inode(ino))?;
    if attr.flags & (attr_flag::IMMUTABLE | attr_flag::APPEND) != 0 {
        return Err(MetaError::refused(Refusal::NotPermitted, format!("inode {ino} is protected")));
    }
    Ok(())
}

fn absent(ino: Ino, name: &[u8]) -> MetaError {
    let what = format!("inode {ino} has no extended attribute `{}`", name.escape_ascii());
    MetaError::refused(Refusal::NoAttribute, what)
}
