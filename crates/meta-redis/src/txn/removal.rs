//! Removals.

use async_trait::async_trait;
use shoal_format::{Dentry, Ino};
use shoal_meta::{DeletedFile, MetaError, OldDentry, RemovalTxn};

use super::Overlaid;
use crate::commit::number;
use crate::keys::{DELETED_FILES, DIR_QUOTA, DIR_QUOTA_USED, DIR_USAGE};
use crate::overlay::Cell;
use crate::records::{Space, deleted_member};
use crate::view::Care;

impl Space<Overlaid> {
    /// Removes directories' fields of some hashes.
    fn remove_fields(&self, hashes: &[&str], dirs: &[Ino]) {
        let mut state = self.0.state();
        for name in hashes {
            dirs.iter().for_each(|dir| state.remove(Cell::Field(self.base().keys.single(name), number(dir))));
        }
    }
}

#[async_trait]
impl RemovalTxn for Space<Overlaid> {
    async fn delete_dentries(&self, dentries: &[OldDentry]) -> Result<(), MetaError> {
        for OldDentry { parent, name, ino } in dentries {
            let key = self.base().keys.dentries(*parent);
            let found = self.field(&key, name.clone(), Care::Exact).await?;
            let found = found.map(|dentry| Dentry::decode(&dentry)).transpose()?;
            if found.is_none_or(|dentry| dentry.ino != *ino) {
                return Err(MetaError::Contended { at: self.base().at().to_owned() });
            }
            self.0.state().remove(Cell::Field(key, name.clone()));
        }
        Ok(())
    }

    async fn delete_attrs(&self, inos: &[Ino]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        inos.iter().for_each(|ino| state.remove(Cell::Value(self.base().keys.attr(*ino))));
        Ok(())
    }

    async fn delete_symlinks(&self, inos: &[Ino]) -> Result<(), MetaError> {
        let mut state = self.0.state();
        inos.iter().for_each(|ino| state.remove(Cell::Value(self.base().keys.symlink(*ino))));
        Ok(())
    }

    async fn delete_xattrs_and_parents(&self, inos: &[Ino]) -> Result<(), MetaError> {
        let (mut state, keys) = (self.0.state(), &self.base().keys);
        inos.iter().flat_map(|ino| [keys.xattrs(*ino), keys.parents(*ino)]).for_each(|key| state.clear(key));
        Ok(())
    }

    async fn delete_dir_quotas(&self, dirs: &[Ino]) -> Result<(), MetaError> {
        self.remove_fields(&[DIR_QUOTA, DIR_QUOTA_USED[0], DIR_QUOTA_USED[1]], dirs);
        Ok(())
    }

    async fn delete_dir_records(&self, dirs: &[Ino]) -> Result<(), MetaError> {
        self.remove_fields(&DIR_USAGE, dirs);
        self.delete_dir_quotas(dirs).await
    }

    async fn insert_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError> {
        let (mut state, key) = (self.0.state(), self.base().keys.single(DELETED_FILES));
        files.iter().for_each(|file| state.rank(key.clone(), deleted_member(file), Some(file.removed)));
        Ok(())
    }

    async fn remove_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError> {
        let (mut state, key) = (self.0.state(), self.base().keys.single(DELETED_FILES));
        files.iter().for_each(|file| state.rank(key.clone(), deleted_member(file), None));
        Ok(())
    }
}
