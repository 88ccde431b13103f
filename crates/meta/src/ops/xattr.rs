//! Extended attributes, those that show ACL rules included (spec sections 8.2 and 18).

use bytes::Bytes;
use shoal_format::{Attr, Ino};

use crate::engine::Records;
use crate::error::MetaError;

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

pub(crate) async fn getxattr(records: &dyn Records, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
    let rule_of = |pick: fn(&Attr) -> u32| async move {
        let Some(attr) = records.attr(ino).await? else { return Ok(None) };
        let id = pick(&attr);
        if id == 0 {
            return Ok(None);
        }
        match records.acl(id).await? {
            Some(rule) => Ok(Some(Bytes::from(rule.to_xattr()))),
            None => Err(MetaError::Corrupt { what: format!("inode {ino} names ACL rule {id}, which is missing") }),
        }
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
