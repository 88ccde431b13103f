//! Removing many names of one directory at once: one transaction for what would be a hundred (spec section 24.5).

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{FileType, Ino};

use super::access::Caller;
use super::change::{Change, ChangeContext};
use super::removable::{changeable_dir, check_name, check_removable};
use super::removal::{Changed, Remains, Removal, Victim, touch};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;

/// Removes `names` in `parent`. Directories, names that are gone and further names of the same file are passed over.
pub(crate) struct UnlinkMany<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) parent: Ino,
    pub(crate) names: &'a [Bytes],
    pub(crate) removal: Removal<'a>,
}

#[async_trait]
impl Change for UnlinkMany<'_> {
    /// What was removed: name, inode, and what is left of it.
    type Output = Vec<(Bytes, Ino, Remains)>;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(Self::Output, Effects), MetaError> {
        let dir = changeable_dir(txn, self.caller, self.parent).await?;
        let (mut victims, mut seen) = (Vec::with_capacity(self.names.len()), HashSet::new());
        for name in self.names {
            check_name(self.caller, self.parent, name)?;
            let Some(victim) = Victim::find(txn, self.parent, name).await? else { continue };
            if victim.dentry.kind != FileType::Directory && seen.insert(victim.dentry.ino) {
                victims.push(victim);
            }
        }
        let inos: Vec<Ino> = victims.iter().map(|victim| victim.dentry.ino).collect();
        let attrs = txn.attrs_locked(&inos).await?;
        let (mut effects, mut removed) = (Effects::default(), Vec::with_capacity(victims.len()));
        for (victim, attr) in victims.into_iter().zip(attrs) {
            let victim = Victim { attr, ..victim };
            check_removable(self.caller, &dir, &victim)?;
            let remains = self.removal.remove(txn, context, &victim, &mut effects).await?;
            removed.push((victim.name, victim.dentry.ino, remains));
        }
        if !removed.is_empty() {
            let updated = touch(txn, context, &[Changed { ino: self.parent, attr: &dir, subdirs: 0 }]).await?;
            context.log(txn, || self.entry(&removed, updated)).await?;
        }
        Ok((removed, effects))
    }
}

impl UnlinkMany<'_> {
    fn entry(&self, removed: &[(Bytes, Ino, Remains)], updated: bool) -> LogEntry {
        let trashed = removed.iter().any(|(_, _, remains)| *remains == Remains::Trash);
        let trash = self.removal.trash.filter(|_| trashed).unwrap_or(Ino::NONE);
        let entry = LogEntry::new("UNLINKBATCH").with(self.parent);
        let entry = removed.iter().fold(entry, |entry, (name, ..)| entry.bytes(name));
        let inos: Vec<String> = removed.iter().map(|(_, ino, _)| ino.to_string()).collect();
        entry.with(trash).with(updated).result(inos.join(","))
    }
}
