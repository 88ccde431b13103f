//! Removing and renaming, and what this client still has to do about what it removed.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use shoal_format::{Ino, trash_hour};
use tokio::sync::mpsc::Sender;

use super::{Session, now};
use crate::engine::DeletedFile;
use crate::error::MetaError;
use crate::ops::{
    Caller, DropSustained, EnsureTrashHour, Place, Remains, Removal, Rename, RenameMode, Renamed, Rmdir, Unlink,
};
use crate::slices::SliceStore;

/// What a session keeps of its removals.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// The hour of the last removal to the trash and its directory.
    hour: Mutex<Option<(String, Ino)>>,
    /// Removed files that this client holds open.
    sustained: Mutex<HashSet<Ino>>,
    /// Where files go whose data is to be deleted, once the session does background work.
    pub(super) deletions: OnceLock<Sender<DeletedFile>>,
    /// What deletes blocks, likewise.
    pub(super) slices: OnceLock<Arc<dyn SliceStore>>,
}

impl Session {
    /// Removes `name`, which is no directory, from directory `parent`; returns the inode and what is left of it.
    ///
    /// Errors: `NotFound`; `Denied` for a directory, an immutable or append-only inode, in a sticky directory of others, in the
    /// trash for anybody but root.
    pub async fn unlink(&self, caller: &Caller, parent: Ino, name: &[u8]) -> Result<(Ino, Remains), MetaError> {
        let trash = self.trash_for(parent).await?;
        let is_open = |ino| self.is_open(ino);
        let removal = Removal { trash, sid: self.sid(), is_open: &is_open };
        let (ino, remains) = self.change(&Unlink { caller, parent, name, removal }).await?;
        self.follow_up(ino, remains).await;
        Ok((ino, remains))
    }

    /// Removes the empty directory `name` from directory `parent`; returns its inode and what is left of it.
    ///
    /// Errors: as [`Session::unlink`]; `Invalid` if it is no directory or not empty.
    pub async fn rmdir(&self, caller: &Caller, parent: Ino, name: &[u8]) -> Result<(Ino, Remains), MetaError> {
        let trash = self.trash_for(parent).await?;
        self.rmdir_to(caller, parent, name, trash).await
    }

    /// The same with what goes to the trash going to `trash`.
    pub(super) async fn rmdir_to(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &[u8],
        trash: Option<Ino>,
    ) -> Result<(Ino, Remains), MetaError> {
        let is_open = |ino| self.is_open(ino);
        let removal = Removal { trash, sid: self.sid(), is_open: &is_open };
        self.change(&Rmdir { caller, parent, name, removal }).await
    }

    /// Moves the name at `from` to `to`; what is there is removed as by [`Session::unlink`] or [`Session::rmdir`], kept or exchanged
    /// as `mode` says. One transaction, however large a moved directory is, unless quotas above it change.
    ///
    /// Root may move out of the trash, which restores. Errors: as those two; `Conflict` for a name that is taken with
    /// [`RenameMode::NoReplace`]; `Invalid` for a directory that would lie below itself, and for kinds that do not fit.
    pub async fn rename(
        &self,
        caller: &Caller,
        from: Place<'_>,
        to: Place<'_>,
        mode: RenameMode,
    ) -> Result<Renamed, MetaError> {
        let trash = match mode {
            RenameMode::Replace => self.trash_for(to.parent).await?,
            RenameMode::NoReplace | RenameMode::Exchange | RenameMode::Restore => None,
        };
        let is_open = |ino| self.is_open(ino);
        let removal = Removal { trash, sid: self.sid(), is_open: &is_open };
        let renamed = self.change(&Rename { caller, from, to, mode, removal }).await?;
        if let Some((ino, remains)) = renamed.replaced {
            self.follow_up(ino, remains).await;
        }
        Ok(renamed)
    }

    /// Says that a handle of `ino` was closed. A removed file goes with its last handle; should that fail, it goes when the
    /// session ends.
    pub async fn release(&self, ino: Ino) -> Result<(), MetaError> {
        if self.closed(ino) { self.let_go(ino).await } else { Ok(()) }
    }

    /// Lets go of every removed file that is still held: no handle outlives the session.
    pub(super) async fn let_go_of_all(&self) -> Result<(), MetaError> {
        for ino in self.engine().records().sustained(self.sid()).await? {
            self.change(&DropSustained { sid: self.sid(), ino }).await?;
        }
        Ok(())
    }

    /// The hourly trash directory for what is removed from `parent` now; `None` if nothing of it goes to the trash.
    pub(super) async fn trash_for(&self, parent: Ino) -> Result<Option<Ino>, MetaError> {
        if self.settings().trash_days <= 0 || parent.is_trash() {
            return Ok(None);
        }
        let name = trash_hour(now());
        if let Some((known, ino)) = &*self.0.removed.hour.lock()
            && *known == name
        {
            return Ok(Some(*ino));
        }
        let ino = self.change(&EnsureTrashHour { name: &name }).await?;
        *self.0.removed.hour.lock() = Some((name, ino));
        Ok(Some(ino))
    }

    /// What remains to be done once a removal is committed.
    pub(super) async fn follow_up(&self, ino: Ino, remains: Remains) {
        match remains {
            Remains::OpenFile => {
                self.0.removed.sustained.lock().insert(ino);
                // The last handle may have been closed while the removal was under way.
                if !self.is_open(ino)
                    && let Err(error) = self.let_go(ino).await
                {
                    tracing::warn!(ino = ino.0, %error, "a removed file goes when the session ends");
                }
            }
            Remains::Data(file) => self.delete_soon(file),
            Remains::Trash | Remains::Names | Remains::Nothing => {}
        }
    }

    async fn let_go(&self, ino: Ino) -> Result<(), MetaError> {
        if !self.0.removed.sustained.lock().remove(&ino) {
            return Ok(());
        }
        match self.change(&DropSustained { sid: self.sid(), ino }).await {
            Ok(file) => {
                file.into_iter().for_each(|file| self.delete_soon(file));
                Ok(())
            }
            Err(error) => {
                self.0.removed.sustained.lock().insert(ino);
                Err(error)
            }
        }
    }

    /// Has the data of a removed file deleted in the background. What does not fit the queue, any client deletes later.
    pub(super) fn delete_soon(&self, file: DeletedFile) {
        if let Some(deletions) = self.0.removed.deletions.get() {
            // Full or closed: the file's record stays.
            let _ = deletions.try_send(file);
        }
    }
}
