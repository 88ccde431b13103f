//! What may be removed and renamed, by whom: checks that unlink, rmdir and rename share.

use shoal_format::{Attr, Ino, attr_flag};

use super::access::{Caller, check_entries_may_change, check_entries_may_come};
use super::removal::Victim;
use super::usage::place;
use crate::engine::Txn;
use crate::error::{MetaError, Refusal};
use crate::name::{NAME_BYTES_MAX, NameClass, classify, show_name};

/// Flags that let neither the inode nor, in a directory, its entries be removed.
const FIXED: u8 = attr_flag::IMMUTABLE | attr_flag::APPEND;

/// Refuses names that no operation may remove or replace.
pub(crate) fn check_name(caller: &Caller, parent: Ino, name: &[u8]) -> Result<(), MetaError> {
    match classify(parent, name) {
        NameClass::Ordinary => {}
        NameClass::Trash | NameClass::Virtual => return Err(refused(parent, name, "it is reserved")),
        NameClass::Impossible if name.len() > NAME_BYTES_MAX => {
            let what = format!("`{}` is longer than {NAME_BYTES_MAX} bytes", show_name(name));
            return Err(MetaError::refused(Refusal::NameTooLong, what));
        }
        NameClass::Impossible => return Err(MetaError::no_entry(parent, name)),
    }
    // Hourly directories go when they are old; what is in them is root's business (spec section 15).
    if parent == Ino::TRASH || parent.is_trash() && caller.uid != 0 {
        return Err(refused(parent, name, "the trash is kept for root"));
    }
    Ok(())
}

/// Nobody, or not this caller, may change a name.
pub(crate) fn refused(parent: Ino, name: &[u8], why: &str) -> MetaError {
    MetaError::refused(Refusal::NotPermitted, format!("{} cannot be changed: {why}", place(parent, name)))
}

/// The attributes of a directory from which the caller may take names; it stays until the transaction ends.
pub(crate) async fn changeable_dir(txn: &dyn Txn, caller: &Caller, dir: Ino) -> Result<Attr, MetaError> {
    let attr = txn.attrs_held(&[dir]).await?.pop().flatten();
    Ok(check_entries_may_change(txn, caller, dir, attr.as_ref()).await?.clone())
}

/// As [`changeable_dir`], for a directory that gets a name.
pub(crate) async fn growing_dir(txn: &dyn Txn, caller: &Caller, dir: Ino) -> Result<Attr, MetaError> {
    let attr = txn.attrs_held(&[dir]).await?.pop().flatten();
    Ok(check_entries_may_come(txn, caller, dir, attr.as_ref()).await?.clone())
}

/// Whether the caller may take this name out of a directory with attributes `dir`.
pub(crate) fn check_removable(caller: &Caller, dir: &Attr, victim: &Victim) -> Result<(), MetaError> {
    check_flags(victim.parent, dir)?;
    let Some(attr) = &victim.attr else { return Ok(()) };
    check_flags(victim.dentry.ino, attr)?;
    caller.may_remove_from(dir, victim.dentry.ino, attr)
}

fn check_flags(ino: Ino, attr: &Attr) -> Result<(), MetaError> {
    if attr.flags & FIXED != 0 {
        return Err(MetaError::refused(Refusal::NotPermitted, format!("inode {ino} is immutable or append-only")));
    }
    Ok(())
}
