//! Changes of names and attributes.

use shoal_format::{AclRule, Attr, FileType, Ino, Time};
use shoal_meta::{AclKind, AtimeMode, Caller, MetaError, NewInode, Session, SetAttr, XattrMode};
use shoal_runtime::clock;

use crate::error::VfsError;
use crate::vfs::Vfs;

impl Vfs {
    /// The client that changes the volume. Errors: `Denied` where it is only read.
    pub fn writer(&self) -> Result<&Session, VfsError> {
        match self.writers() {
            Some(writers) => Ok(&writers.session),
            None => Err(VfsError::Meta(MetaError::ReadOnly { at: self.meta().name().to_owned() })),
        }
    }

    /// Refuses unless the caller, if anything is checked of it here, has every permission in `wanted` on `ino`: see
    /// [`Meta::access`](shoal_meta::Meta::access).
    pub async fn access(&self, caller: &Caller, ino: Ino, wanted: u8) -> Result<(), VfsError> {
        if caller.check {
            self.meta().access(caller, ino, wanted).await?;
        }
        Ok(())
    }

    /// Creates `name` in directory `parent`: see [`Session::create`].
    pub async fn create(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &[u8],
        new: &NewInode,
        mode: u16,
    ) -> Result<(Ino, Attr), VfsError> {
        Ok(self.writer()?.create(caller, parent, name, new, mode).await?)
    }

    /// The regular file `name` in directory `parent`: a new one, or one that another client made meanwhile, on which the caller needs
    /// every permission in `wanted`.
    ///
    /// Errors: as [`Vfs::create`]; `Conflict` if the name exists and is no regular file.
    pub async fn create_or_find(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &[u8],
        mode: u16,
        wanted: u8,
    ) -> Result<(Ino, Attr), VfsError> {
        match self.create(caller, parent, name, &NewInode::File, mode).await {
            Err(error) if error.is_taken() => match self.lookup(parent, name).await? {
                Some((ino, attr)) if attr.kind == FileType::Regular => {
                    self.access(caller, ino, wanted).await?;
                    Ok((ino, attr))
                }
                _ => Err(error),
            },
            created => created,
        }
    }

    /// Gives file `ino` one more name: see [`Session::link`].
    pub async fn link(&self, caller: &Caller, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr, VfsError> {
        let asked_at = self.changes();
        let attr = self.writer()?.link(caller, ino, parent, name).await?;
        self.note_attr(ino, &attr, asked_at);
        Ok(self.with_pending(ino, attr))
    }

    /// Changes attributes of `ino`: see [`Session::setattr`].
    pub async fn setattr(&self, caller: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr, VfsError> {
        // Bytes written before count before: their time must not replace the one that is set now.
        self.flush_inode(ino).await;
        let asked_at = self.changes();
        let attr = self.writer()?.setattr(caller, ino, set).await?;
        self.note_attr(ino, &attr, asked_at);
        Ok(self.with_pending(ino, attr))
    }

    /// True if reading changes the time of the last access.
    pub(crate) fn notes_reads(&self) -> bool {
        self.is_writable() && self.options().atime != AtimeMode::Never
    }

    /// Notes that `ino`, which looked like `attr`, was opened to be read, as far as the mount wants that: see
    /// [`VfsOptions::atime`](crate::VfsOptions::atime). What cannot be noted is not missed by whoever reads.
    pub async fn note_read(&self, ino: Ino, attr: &Attr) {
        let (mode, now) = (self.options().atime, Time::since_epoch(clock::unix_now()));
        let Some(writers) = self.writers().filter(|_| mode.wants(attr, now)) else { return };
        let asked_at = self.changes();
        match writers.session.note_read(ino, mode).await {
            Ok(Some(attr)) => drop(self.note_attr(ino, &attr, asked_at)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%ino, %error, "the time of an access is not noted"),
        }
    }

    /// Sets or removes an ACL of `ino`: see [`Session::set_acl`].
    pub async fn set_acl(
        &self,
        caller: &Caller,
        ino: Ino,
        kind: AclKind,
        rule: Option<AclRule>,
    ) -> Result<(), VfsError> {
        let asked_at = self.changes();
        let attr = self.writer()?.set_acl(caller, ino, kind, rule).await?;
        self.note_attr(ino, &attr, asked_at);
        Ok(())
    }

    /// Sets an extended attribute: see [`Session::setxattr`].
    pub async fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), VfsError> {
        Ok(self.writer()?.setxattr(ino, name, value, mode).await?)
    }

    /// Removes an extended attribute: see [`Session::removexattr`].
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<(), VfsError> {
        Ok(self.writer()?.removexattr(ino, name).await?)
    }
}
