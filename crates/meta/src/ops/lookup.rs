//! One name in one directory (spec section 24.1).

use shoal_format::{Attr, Ino};

use crate::engine::Records;
use crate::error::MetaError;
use crate::name::{NameClass, classify};

/// The inode `name` stands for in `parent`, in one round trip; `None` also for a dentry whose inode has no attributes.
pub(crate) async fn lookup(records: &dyn Records, parent: Ino, name: &[u8]) -> Result<Option<(Ino, Attr)>, MetaError> {
    match classify(parent, name) {
        NameClass::Ordinary => {
            let entry = records.entry(parent, name).await?;
            Ok(entry.and_then(|entry| entry.attr.map(|attr| (entry.dentry.ino, attr))))
        }
        NameClass::Trash => Ok(records.attr(Ino::TRASH).await?.map(|attr| (Ino::TRASH, attr))),
        NameClass::Virtual | NameClass::Impossible => Ok(None),
    }
}
