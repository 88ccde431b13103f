//! Writes of names, inodes and what belongs to them.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino};
use shoal_meta::{DirTouch, MetaError, NamespaceTxn, NewDentry, ParentCount, Xattr};

use super::Overlaid;
use crate::commit::number;
use crate::keys::{ACL_IDS, ACLS};
use crate::overlay::{Cell, New};
use crate::records::Space;
use crate::view::Care;

#[async_trait]
impl NamespaceTxn for Space<Overlaid> {
    async fn attrs_locked(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        self.attrs_with(inos, Care::Exact).await
    }

    async fn attrs_held(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        self.attrs_with(inos, Care::Held).await
    }

    async fn touch_dirs(&self, dirs: &[DirTouch]) -> Result<(), MetaError> {
        let inos: Vec<Ino> = dirs.iter().map(|touch| touch.ino).collect();
        for (touch, attr) in dirs.iter().zip(self.attrs_with(&inos, Care::Held).await?) {
            attr.ok_or(MetaError::NoInode { ino: touch.ino.0 })?;
            self.0.state().touch(Cell::Value(self.base().keys.attr(touch.ino)), touch);
        }
        Ok(())
    }

    async fn insert_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        for (ino, attr) in attrs {
            state.insert(Cell::Value(self.base().keys.attr(*ino)), attr.encode(), New::Inode(*ino))?;
        }
        Ok(())
    }

    async fn update_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        attrs.iter().for_each(|(ino, attr)| state.put(Cell::Value(self.base().keys.attr(*ino)), attr.encode()));
        Ok(())
    }

    async fn insert_dentries(&self, dentries: &[NewDentry]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        for NewDentry { parent, name, dentry } in dentries {
            let new = New::Name { parent: *parent, name: name.clone() };
            let bytes = Bytes::copy_from_slice(&dentry.encode());
            state.insert(Cell::Field(self.base().keys.dentries(*parent), name.clone()), bytes, new)?;
        }
        Ok(())
    }

    async fn insert_symlinks(&self, links: &[(Ino, Bytes)]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        links.iter().for_each(|(ino, to)| state.put(Cell::Value(self.base().keys.symlink(*ino)), to.clone()));
        Ok(())
    }

    async fn put_xattrs(&self, xattrs: &[Xattr]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        for Xattr { ino, name, value } in xattrs {
            state.put(Cell::Field(self.base().keys.xattrs(*ino), name.clone()), value.clone());
        }
        Ok(())
    }

    async fn delete_xattr(&self, ino: Ino, name: &[u8]) -> Result<bool, MetaError> {
        let (key, name) = (self.base().keys.xattrs(ino), Bytes::copy_from_slice(name));
        let found = self.field(&key, name.clone(), Care::Held).await?.is_some();
        if found {
            self.0.state().remove(Cell::Field(key, name));
        }
        Ok(found)
    }

    async fn insert_acl(&self, rule: &AclRule) -> Result<u32, MetaError> {
        let (last, rules) = (self.base().keys.single(ACL_IDS), self.base().keys.single(ACLS));
        let id = self.number(last.clone(), Care::Exact).await?.saturating_add(1);
        let taken = u32::try_from(id).map_err(|_| self.base().damaged(format!("{last} is impossible")))?;
        let mut state = self.0.state();
        state.put(Cell::Value(last), number(id));
        state.put(Cell::Field(rules, number(id)), rule.encode());
        Ok(taken)
    }

    async fn add_parents(&self, parents: &[ParentCount]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        for ParentCount { ino, parent, count } in parents {
            let cell = Cell::Field(self.base().keys.parents(*ino), number(parent));
            state.add(cell, *count).map_err(|error| self.0.no_number(error))?;
        }
        Ok(())
    }
}
