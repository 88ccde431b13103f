//! Writes of names, inodes and what belongs to them.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino};

use super::txn::MemTxn;
use crate::engine::{NamespaceTxn, Records};
use crate::error::MetaError;
use crate::record::{DirTouch, NewDentry, ParentCount, Xattr};

#[async_trait]
impl NamespaceTxn for MemTxn {
    /// There is one writer at a time.
    async fn attrs_locked(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        self.attrs(inos).await
    }

    /// There is one writer at a time.
    async fn attrs_held(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        self.attrs(inos).await
    }

    async fn touch_dirs(&self, dirs: &[DirTouch]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for touch in dirs {
            let attr = state.attrs.get_mut(&touch.ino).ok_or_else(|| MetaError::no_inode(touch.ino))?;
            attr.nlink = attr.nlink.saturating_add_signed(touch.nlink);
            (attr.mtime, attr.ctime) = (touch.mtime, touch.ctime);
        }
        Ok(())
    }

    async fn insert_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for (ino, attr) in attrs {
            if state.attrs.insert(*ino, attr.clone()).is_some() {
                return Err(MetaError::Taken { what: format!("inode {ino}") });
            }
        }
        Ok(())
    }

    async fn update_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        self.state.lock().attrs.extend(attrs.iter().cloned());
        Ok(())
    }

    async fn insert_dentries(&self, dentries: &[NewDentry]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for new in dentries {
            if state.dentries.insert((new.parent, new.name.clone()), new.dentry).is_some() {
                return Err(MetaError::exists(new.parent, &new.name));
            }
        }
        Ok(())
    }

    async fn insert_symlinks(&self, links: &[(Ino, Bytes)]) -> Result<(), MetaError> {
        self.state.lock().symlinks.extend(links.iter().cloned());
        Ok(())
    }

    async fn put_xattrs(&self, xattrs: &[Xattr]) -> Result<(), MetaError> {
        let pairs = xattrs.iter().map(|xattr| ((xattr.ino, xattr.name.clone()), xattr.value.clone()));
        self.state.lock().xattrs.extend(pairs);
        Ok(())
    }

    async fn delete_xattr(&self, ino: Ino, name: &[u8]) -> Result<bool, MetaError> {
        Ok(self.state.lock().xattrs.remove(&(ino, Bytes::copy_from_slice(name))).is_some())
    }

    async fn insert_acl(&self, rule: &AclRule) -> Result<u32, MetaError> {
        let mut state = self.state.lock();
        let id = state.acls.last_key_value().map_or(0, |(last, _)| *last) + 1;
        state.acls.insert(id, rule.clone());
        Ok(id)
    }

    async fn add_parents(&self, parents: &[ParentCount]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for record in parents {
            *state.parents.entry((record.ino, record.parent)).or_default() += record.count;
        }
        Ok(())
    }
}
