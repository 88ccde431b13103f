//! One more name of a file (spec sections 8.3 and 24.11).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, Dentry, Ino, attr_flag};

use super::access::{Caller, check_entries_may_come};
use super::change::{Change, ChangeContext};
use super::create::check_new_name;
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{Foreseen, Txn};
use crate::error::{MetaError, Refusal};
use crate::record::{NewDentry, ParentCount};

/// Most names of a file: SQL databases hold their number as a signed 32-bit one (spec section 22).
const NAMES_MAX: u32 = i32::MAX as u32;

/// Gives `ino` the name `name` in `parent`.
pub(crate) struct Link<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) ino: Ino,
    pub(crate) parent: Ino,
    pub(crate) name: &'a [u8],
}

#[async_trait]
impl Change for Link<'_> {
    type Output = Attr;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Attr, Effects), MetaError> {
        check_new_name(self.parent, self.name)?;
        let name = Foreseen::Entry(self.parent, self.name);
        txn.foresee(&[Foreseen::Held(self.parent), Foreseen::Locked(self.ino), name]).await?;
        let held = txn.attrs_held(&[self.parent]).await?;
        let above =
            check_entries_may_come(txn, self.caller, self.parent, held.first().and_then(Option::as_ref)).await?;
        let file = txn.attrs_locked(&[self.ino]).await?.pop().flatten().ok_or_else(|| MetaError::no_inode(self.ino))?;
        let nlink = self.one_more_name(&file)?;
        if txn.entry(self.parent, self.name).await?.is_some() {
            return Err(MetaError::exists(self.parent, self.name));
        }
        let name = Bytes::copy_from_slice(self.name);
        let dentry = Dentry { kind: file.kind, ino: self.ino };
        txn.insert_dentries(&[NewDentry { parent: self.parent, name, dentry }]).await?;
        // The one parent so far becomes a record like that of the new name.
        let so_far = Some(file.parent).filter(|parent| *parent != Ino::NONE);
        let one = |parent| ParentCount { ino: self.ino, parent, count: 1 };
        let parents: Vec<ParentCount> = so_far.into_iter().chain([self.parent]).map(one).collect();
        txn.add_parents(&parents).await?;
        let linked = Attr { nlink, parent: Ino::NONE, ctime: context.now, ..file };
        txn.update_attrs(&[(self.ino, linked.clone())]).await?;
        let touch = context.touch(self.parent, above, 0);
        txn.touch_dirs(touch.as_slice()).await?;
        let entry = || LogEntry::new("LINK").with(self.ino).with(self.parent).bytes(self.name);
        context.log(txn, || entry().with(touch.is_some()).result(nlink)).await?;
        let mut effects = Effects::default();
        effects.name_added(self.parent, &linked);
        Ok((linked, effects))
    }
}

impl Link<'_> {
    /// Names of the file with one more.
    fn one_more_name(&self, file: &Attr) -> Result<u32, MetaError> {
        let (ino, forbidden) = (self.ino, |what: String| Err(MetaError::refused(Refusal::NotPermitted, what)));
        if file.is_dir() {
            return forbidden(format!("directory {ino} cannot have a second name"));
        }
        if file.flags & (attr_flag::IMMUTABLE | attr_flag::APPEND) != 0 {
            return forbidden(format!("inode {ino} is protected"));
        }
        if file.parent.is_trash() {
            return forbidden(format!("inode {ino} is in the trash"));
        }
        match file.nlink {
            // It was removed and is only held open.
            0 => Err(MetaError::no_inode(ino)),
            names if names < NAMES_MAX => Ok(names + 1),
            _ => Err(MetaError::refused(Refusal::Links, format!("inode {ino} has as many names as it can have"))),
        }
    }
}
