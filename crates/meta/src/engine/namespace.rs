//! Writes of names, inodes and what belongs to them (spec sections 7 and 8).

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino};

use crate::error::MetaError;
use crate::record::{DirTouch, NewDentry, ParentCount, Xattr};

/// Writes names and attributes.
#[async_trait]
pub trait NamespaceTxn: Send + Sync {
    /// Attributes of inodes, in their order, that nobody else changes before this transaction ends. Engines lock in the order
    /// of inodes, so that transactions do not wait for each other in a circle; ask for all of an operation's inodes at once.
    async fn attrs_locked(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError>;
    /// Attributes of inodes, in their order, that nobody removes before this transaction ends; what they say may change. Other
    /// transactions hold the same inodes at the same time.
    async fn attrs_held(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError>;
    /// Adds to link counts of directories and sets their times, without a lock before: what else they hold may have
    /// changed meanwhile. `NotFound` names the first that is gone.
    async fn touch_dirs(&self, dirs: &[DirTouch]) -> Result<(), MetaError>;
    /// Attributes of new inodes. `Conflict` names the first that exists.
    async fn insert_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError>;
    /// Replaces the attributes of existing inodes, which this transaction has locked.
    async fn update_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError>;
    /// New names. `Conflict` ([`MetaError::Exists`]) names the first that exists.
    async fn insert_dentries(&self, dentries: &[NewDentry]) -> Result<(), MetaError>;
    /// Targets of new symbolic links.
    async fn insert_symlinks(&self, links: &[(Ino, Bytes)]) -> Result<(), MetaError>;
    /// Sets extended attributes.
    async fn put_xattrs(&self, xattrs: &[Xattr]) -> Result<(), MetaError>;
    /// Removes one extended attribute; false if there is none.
    async fn delete_xattr(&self, ino: Ino, name: &[u8]) -> Result<bool, MetaError>;
    /// Records an ACL rule; gives its id, which is greater than that of every other.
    async fn insert_acl(&self, rule: &AclRule) -> Result<u32, MetaError>;
    /// Adds to the parents' counts of hard-linked files.
    async fn add_parents(&self, parents: &[ParentCount]) -> Result<(), MetaError>;
}
