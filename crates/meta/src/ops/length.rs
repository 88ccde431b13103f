//! Changing the length of a file: what every operation on contents checks and accounts.

use shoal_format::{Attr, FileType, Ino, MAX_FILE_BYTES, attr_flag};

use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::{MetaError, Refusal};
use crate::record::ParentCount;

/// The locked attributes of regular file `ino`. Errors: `NotFound`; `Invalid` if it is no regular file.
pub(super) async fn locked_file(txn: &dyn Txn, ino: Ino) -> Result<Attr, MetaError> {
    let attr = txn.attrs_locked(&[ino]).await?.pop().flatten();
    regular(ino, attr)
}

/// `attr` if it is that of a regular file.
pub(super) fn regular(ino: Ino, attr: Option<Attr>) -> Result<Attr, MetaError> {
    let attr = attr.ok_or_else(|| MetaError::no_inode(ino))?;
    match attr.kind {
        FileType::Regular => Ok(attr),
        _ => Err(MetaError::invalid(format!("inode {ino} is not a regular file"))),
    }
}

/// Refuses to cut or fill a file that is immutable, only grows, or lies in the trash.
pub(super) fn check_changeable(ino: Ino, attr: &Attr) -> Result<(), MetaError> {
    let what = if attr.flags & attr_flag::IMMUTABLE != 0 {
        "is immutable"
    } else if attr.flags & attr_flag::APPEND != 0 {
        "only grows"
    } else if attr.parent.is_trash() {
        "is in the trash"
    } else {
        return Ok(());
    };
    Err(MetaError::refused(Refusal::NotPermitted, format!("file {ino} {what}")))
}

/// Refuses a length no file can have.
pub(super) fn check_length(ino: Ino, length: u64) -> Result<(), MetaError> {
    let refused = || MetaError::refused(Refusal::TooBig, format!("file {ino} cannot be {length} bytes long"));
    if length <= MAX_FILE_BYTES { Ok(()) } else { Err(refused()) }
}

/// What it does to use that the file `before` describes is as `after` says now.
pub(super) async fn resized(txn: &dyn Txn, ino: Ino, before: &Attr, after: &Attr) -> Result<Effects, MetaError> {
    let mut effects = Effects::default();
    if before.length != after.length {
        effects.resized(&parents(txn, ino, before).await?, before, after);
    }
    Ok(effects)
}

/// Each directory with a name of the file, as often as it holds one. A file that is only open has none.
async fn parents(txn: &dyn Txn, ino: Ino, attr: &Attr) -> Result<Vec<Ino>, MetaError> {
    if attr.nlink == 0 {
        return Ok(Vec::new());
    }
    if attr.parent != Ino::NONE {
        return Ok(vec![attr.parent]);
    }
    let records = txn.parents(ino).await?;
    let each = |record: ParentCount| std::iter::repeat_n(record.parent, usize::try_from(record.count).unwrap_or(0));
    Ok(records.into_iter().flat_map(each).collect())
}
