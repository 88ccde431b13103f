//! Locks of open files, and what they promise about bytes: whoever gets a lock sees what its last holder wrote.

use shoal_format::{Ino, RangeLock};
use shoal_meta::{Lock, LockWait, Unlock};

use crate::error::VfsError;
use crate::vfs::Vfs;

impl Vfs {
    /// Takes `locks` of file `ino`, all or none: see [`Session::lock`](shoal_meta::Session::lock). The file is looked at anew
    /// then; true if it has changed since it was last looked at, so that pages the kernel holds may be old.
    pub async fn lock(&self, ino: Ino, locks: &[Lock], wait: LockWait<'_>) -> Result<bool, VfsError> {
        let writers = self.writers_or_refuse()?;
        let before = self.open_inode(ino).map(|inode| inode.version());
        writers.session.lock(ino, locks, wait).await?;
        // The lock is had, whatever becomes of this.
        if let Err(error) = self.look_anew(ino).await {
            tracing::warn!(ino = ino.0, %error, "a locked file was not looked at anew");
        }
        Ok(self.open_inode(ino).map(|inode| inode.version()) != before)
    }

    /// Gives a lock of file `ino` back, once what was written to the file is stored.
    ///
    /// Errors: those of the volume. What became of writes is said to whoever flushes or closes.
    pub async fn unlock(&self, ino: Ino, unlock: Unlock) -> Result<(), VfsError> {
        let writers = self.writers_or_refuse()?;
        if writers.session.may_hold(ino, unlock) {
            self.flush_inode(ino).await;
            writers.session.unlock(ino, unlock).await?;
        }
        Ok(())
    }

    /// The first lock of a range that keeps `owner` from having `lock`; its process is 0 where it is another client's.
    pub async fn range_in_the_way(
        &self,
        ino: Ino,
        owner: u64,
        lock: &RangeLock,
    ) -> Result<Option<RangeLock>, VfsError> {
        Ok(self.writers_or_refuse()?.session.range_in_the_way(ino, owner, lock).await?)
    }
}
