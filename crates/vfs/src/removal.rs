//! Removing and renaming, and files that are removed while they are open.

use shoal_format::Ino;
use shoal_meta::{Caller, Place, RenameMode, Session};

use crate::error::VfsError;
use crate::open_file::OpenFile;
use crate::vfs::Vfs;

impl Vfs {
    /// Removes `name`, which is no directory, from directory `parent`: see [`Session::unlink`].
    pub async fn unlink(&self, caller: &Caller, parent: Ino, name: &[u8]) -> Result<(), VfsError> {
        let (ino, _) = self.remover()?.unlink(caller, parent, name).await?;
        self.forget_opened(ino);
        Ok(())
    }

    /// Removes the empty directory `name` from directory `parent`: see [`Session::rmdir`].
    pub async fn rmdir(&self, caller: &Caller, parent: Ino, name: &[u8]) -> Result<(), VfsError> {
        self.remover()?.rmdir(caller, parent, name).await?;
        Ok(())
    }

    /// Moves a name: see [`Session::rename`].
    pub async fn rename(
        &self,
        caller: &Caller,
        from: Place<'_>,
        to: Place<'_>,
        mode: RenameMode,
    ) -> Result<(), VfsError> {
        let renamed = self.remover()?.rename(caller, from, to, mode).await?;
        self.forget_opened(renamed.ino);
        match (mode, renamed.replaced) {
            (_, Some((ino, _))) => self.forget_opened(ino),
            (RenameMode::Exchange, None) => self.forget_all_opened(),
            (_, None) => {}
        }
        Ok(())
    }

    /// Forgets `file`, whose handle the kernel gave back: what is still pending of it is stored first, and if it was removed and
    /// this was its last handle, it goes. Errors: what became of its writes; a removed file that could not be let go of goes when the
    /// session ends.
    pub async fn release(&self, file: &OpenFile) -> Result<(), VfsError> {
        let ino = file.inode.ino;
        let flushed = if self.is_writable() { self.flush(file).await } else { Ok(()) };
        self.close(file);
        if let Some(writers) = self.writers() {
            writers.session.release(ino).await?;
        }
        flushed
    }

    /// From now on `ino` counts as open: before its attribute is asked for, so that whoever removes it meanwhile keeps it.
    pub(crate) fn hold(&self, ino: Ino) {
        if let Some(writers) = self.writers() {
            writers.session.opened(ino);
        }
    }

    /// Takes [`Vfs::hold`] back for what could not be opened.
    pub(crate) async fn let_go(&self, ino: Ino) {
        let Some(writers) = self.writers() else { return };
        if let Err(error) = writers.session.release(ino).await {
            tracing::warn!(ino = ino.0, %error, "a removed file goes when the session ends");
        }
    }

    fn remover(&self) -> Result<&Session, VfsError> {
        Ok(&self.writers_or_refuse()?.session)
    }
}
