//! Removing a name of anything but a directory (spec section 24.5).

use async_trait::async_trait;
use shoal_format::{FileType, Ino};

use super::access::Caller;
use super::change::{Change, ChangeContext};
use super::removable::{changeable_dir, check_name, check_removable, refused};
use super::removal::{Changed, Remains, Removal, Victim, foreseen, removed, touch};
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;

/// Removes `name` in `parent`.
pub(crate) struct Unlink<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) parent: Ino,
    pub(crate) name: &'a [u8],
    pub(crate) removal: Removal<'a>,
}

#[async_trait]
impl Change for Unlink<'_> {
    type Output = (Ino, Remains);

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((Ino, Remains), Effects), MetaError> {
        check_name(self.caller, self.parent, self.name)?;
        txn.foresee(&foreseen(self.parent, self.name)).await?;
        let dir = changeable_dir(txn, self.caller, self.parent).await?;
        let victim = Victim::find(txn, self.parent, self.name).await?;
        let victim = victim.ok_or_else(|| MetaError::no_entry(self.parent, self.name))?;
        if victim.dentry.kind == FileType::Directory {
            return Err(refused(self.parent, self.name, "it is a directory"));
        }
        let victim = victim.lock(txn).await?;
        check_removable(self.caller, &dir, &victim)?;
        let mut effects = Effects::default();
        let remains = self.removal.remove(txn, context, &victim, &mut effects).await?;
        let updated = touch(txn, context, &[Changed { ino: self.parent, attr: &dir, subdirs: 0 }]).await?;
        context.log(txn, || removed(&victim, self.removal.trash, remains, updated)).await?;
        Ok(((victim.dentry.ino, remains), effects))
    }
}
