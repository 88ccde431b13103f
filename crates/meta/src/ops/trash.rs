//! The hourly directories of the trash (spec section 15).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, Dentry, FileType, Ino};

use super::change::{Change, ChangeContext};
use super::create::created;
use super::removal::{Remains, Removal, Victim, removed};
use super::rmdir::check_empty;
use crate::effects::Effects;
use crate::engine::{Serial, Txn};
use crate::error::MetaError;
use crate::record::{DirUsage, NewDentry};

/// Mode of directories of the trash.
const MODE: u16 = 0o555;

/// Finds the directory that takes what is removed in this hour, or makes it.
pub(crate) struct EnsureTrashHour<'a> {
    /// Name of the hour.
    pub(crate) name: &'a str,
}

#[async_trait]
impl Change for EnsureTrashHour<'_> {
    type Output = Ino;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Ino, Effects), MetaError> {
        let name = Bytes::copy_from_slice(self.name.as_bytes());
        if let Some(entry) = txn.entry(Ino::TRASH, &name).await? {
            return Ok((entry.dentry.ino, Effects::default()));
        }
        let dir = |parent| Attr::new(FileType::Directory, MODE, parent, context.now);
        if txn.attr(Ino::TRASH).await?.is_none() {
            txn.insert_attrs(&[(Ino::TRASH, dir(Ino::ROOT))]).await?;
        }
        let (ino, attr) = (Ino(Ino::TRASH.0 + txn.take_serial(Serial::TrashDir).await?), dir(Ino::TRASH));
        let dentry = Dentry { kind: FileType::Directory, ino };
        txn.insert_dentries(&[NewDentry { parent: Ino::TRASH, name, dentry }]).await?;
        let taken = txn.write_now().await;
        if let Err(MetaError::Exists { .. }) = taken {
            // Another client made it meanwhile: look again.
            return Err(MetaError::Contended { at: "the trash".to_owned() });
        }
        taken?;
        txn.insert_attrs(&[(ino, attr.clone())]).await?;
        if context.settings.dir_stats {
            txn.put_dir_usage(&[(ino, DirUsage::default())]).await?;
        }
        // The trash root keeps neither statistics nor a count of its directories.
        let entry = || created(Ino::TRASH, self.name.as_bytes(), (0, 0), FileType::Directory, MODE);
        context.log(txn, || entry().with(0).bytes(b"").bytes(b"linux").with(false).result(ino)).await?;
        let mut effects = Effects::default();
        effects.inode_added(&attr);
        Ok((ino, effects))
    }
}

/// Removes what is too old: a name in an hourly directory or, of the trash root, an hourly directory that is empty.
pub(crate) struct RemoveFromTrash<'a> {
    pub(crate) parent: Ino,
    pub(crate) name: &'a [u8],
    pub(crate) removal: Removal<'a>,
}

#[async_trait]
impl Change for RemoveFromTrash<'_> {
    type Output = (Ino, Remains);

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<((Ino, Remains), Effects), MetaError> {
        let victim = Victim::find(txn, self.parent, self.name).await?;
        let victim = victim.ok_or_else(|| MetaError::no_entry(self.parent, self.name))?.lock(txn).await?;
        if victim.dentry.kind == FileType::Directory {
            check_empty(txn, victim.dentry.ino).await?;
        }
        let mut effects = Effects::default();
        let remains = self.removal.remove(txn, context, &victim, &mut effects).await?;
        context.log(txn, || removed(&victim, None, remains, false)).await?;
        // The trash root keeps no statistics.
        effects.dirs.remove(&Ino::TRASH);
        Ok(((victim.dentry.ino, remains), effects))
    }
}
