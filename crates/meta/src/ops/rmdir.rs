//! Removing an empty directory (spec section 24.6).

use async_trait::async_trait;
use shoal_format::{FileType, Ino};

use super::access::Caller;
use super::change::{Change, ChangeContext};
use super::removable::{changeable_dir, check_name, check_removable};
use super::removal::{Changed, Remains, Removal, Victim, foreseen, removed, touch};
use super::usage::place;
use crate::effects::Effects;
use crate::engine::{Records, Txn};
use crate::error::{MetaError, Refusal};

/// Removes directory `name` in `parent`.
pub(crate) struct Rmdir<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) parent: Ino,
    pub(crate) name: &'a [u8],
    pub(crate) removal: Removal<'a>,
}

#[async_trait]
impl Change for Rmdir<'_> {
    type Output = (Ino, Remains);

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((Ino, Remains), Effects), MetaError> {
        match self.name {
            b"." => return Err(MetaError::invalid("a directory cannot be removed as `.`")),
            b".." => return Err(not_empty("the directory above it")),
            _ => check_name(self.caller, self.parent, self.name)?,
        }
        txn.foresee(&foreseen(self.parent, self.name)).await?;
        let dir = changeable_dir(txn, self.caller, self.parent).await?;
        let victim = Victim::find(txn, self.parent, self.name).await?;
        let victim = victim.ok_or_else(|| MetaError::no_entry(self.parent, self.name))?;
        if victim.dentry.kind != FileType::Directory {
            return Err(MetaError::NotDirectory { what: place(self.parent, self.name) });
        }
        let victim = victim.lock(txn).await?;
        check_removable(self.caller, &dir, &victim)?;
        check_empty(txn, victim.dentry.ino).await?;
        let mut effects = Effects::default();
        let remains = self.removal.remove(txn, context, &victim, &mut effects).await?;
        let updated = touch(txn, context, &[Changed { ino: self.parent, attr: &dir, subdirs: -1 }]).await?;
        context.log(txn, || removed(&victim, self.removal.trash, remains, updated)).await?;
        Ok(((victim.dentry.ino, remains), effects))
    }
}

/// Refuses a directory that holds names. Its attributes are locked: whoever adds one now waits, and finds it gone.
pub(crate) async fn check_empty(records: &dyn Records, dir: Ino) -> Result<(), MetaError> {
    match records.entries(dir, b"", 1).await?.first() {
        Some(_) => Err(not_empty(&format!("directory {dir}"))),
        None => Ok(()),
    }
}

fn not_empty(what: &str) -> MetaError {
    MetaError::refused(Refusal::NotEmpty, format!("{what} is not empty"))
}
