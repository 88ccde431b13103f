//! Names and attributes.

use shoal_format::{AclRule, Attr, Ino};

use super::Session;
use crate::error::MetaError;
use crate::ops::{
    AclKind, AtimeMode, Caller, ChangeAttr, Create, Link, NewInode, NoteRead, PutAcl, PutXattr, RemoveXattr, SetAttr,
    XattrMode,
};

impl Session {
    /// Creates `name` in directory `parent`, with permission bits `mode` less the caller's umask. Group, set-group-id bit of
    /// directories, trash flag and tier are inherited. Returns the new inode.
    ///
    /// Errors: `Conflict` if the name exists; `NotFound` or `Invalid` if `parent` is no directory; `Denied` in the trash, in an
    /// immutable directory or without permission; `NoSpace` at a limit or quota.
    pub async fn create(
        &self,
        caller: &Caller,
        parent: Ino,
        name: &[u8],
        new: &NewInode,
        mode: u16,
    ) -> Result<(Ino, Attr), MetaError> {
        let ino = self.new_inode().await?;
        let attr = self.change(&Create { caller, parent, name, new, mode, ino }).await?;
        Ok((ino, attr))
    }

    /// Gives file `ino` one more name, `name` in directory `parent`. Returns its attributes.
    ///
    /// Errors: as [`Session::create`]; `Denied` also for directories, protected files and those in the trash.
    pub async fn link(&self, caller: &Caller, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr, MetaError> {
        self.change(&Link { caller, ino, parent, name }).await
    }

    /// Changes attributes of `ino`; returns all of them. A new owner takes set-id bits from a file.
    ///
    /// Errors: `NotFound`; `Denied` where only an owner or root may, for protected inodes and those in the trash.
    pub async fn setattr(&self, caller: &Caller, ino: Ino, set: &SetAttr) -> Result<Attr, MetaError> {
        self.change(&ChangeAttr { caller, ino, set }).await
    }

    /// Notes that `ino` was read, if `mode` wants that; returns its attributes if that changed them.
    ///
    /// Errors: `NotFound`.
    pub async fn note_read(&self, ino: Ino, mode: AtimeMode) -> Result<Option<Attr>, MetaError> {
        self.change(&NoteRead { ino, mode }).await
    }

    /// Sets extended attribute `name` of `ino`.
    ///
    /// Errors: `NotFound`, also where `mode` wants it to be there; `Conflict` where it must not; `Invalid` for what cannot be
    /// stored; `Denied` for protected inodes.
    pub async fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<(), MetaError> {
        self.change(&PutXattr { ino, name, value, mode }).await
    }

    /// Removes extended attribute `name` of `ino`. Errors: `NotFound`; `Denied` for protected inodes.
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<(), MetaError> {
        self.change(&RemoveXattr { ino, name }).await
    }

    /// Sets the ACL of `ino` that `kind` says, or removes it; returns the inode's attributes: an access rule shows in the mode, and one
    /// that a mode can say is only there.
    ///
    /// Errors: `NotFound`; `Invalid` on a volume without ACLs and for symbolic links; `Denied` for anybody but the owner and root, for
    /// default rules of what is no directory, for protected inodes and those in the trash.
    pub async fn set_acl(
        &self,
        caller: &Caller,
        ino: Ino,
        kind: AclKind,
        rule: Option<AclRule>,
    ) -> Result<Attr, MetaError> {
        self.change(&PutAcl { caller, ino, kind, rule }).await
    }

    /// Refuses unless the caller has every permission in `wanted` (see [`MAY_READ`](crate::MAY_READ)) on `ino`.
    pub async fn access(&self, caller: &Caller, ino: Ino, wanted: u8) -> Result<(), MetaError> {
        self.meta().access(caller, ino, wanted).await
    }
}
