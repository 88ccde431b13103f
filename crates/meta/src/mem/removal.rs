//! Records of removals.

use async_trait::async_trait;
use shoal_format::Ino;

use super::NAME;
use super::txn::MemTxn;
use super::view::View;
use crate::engine::{DeletedFile, OldDentry, RemovalRecords, RemovalTxn};
use crate::error::MetaError;
use crate::quota::QuotaKey;

#[async_trait]
impl<V: View> RemovalRecords for V {
    async fn deleted_files(&self, before: i64, limit: usize) -> Result<Vec<DeletedFile>, MetaError> {
        self.read(|state| {
            let all = state.deleted_files.iter();
            let mut old: Vec<DeletedFile> = all
                .map(|(ino, (length, removed))| DeletedFile { ino: *ino, length: *length, removed: *removed })
                .filter(|file| file.removed < before)
                .collect();
            old.sort_by_key(|file| (file.removed, file.ino));
            old.truncate(limit);
            old
        })
    }
}

#[async_trait]
impl RemovalTxn for MemTxn {
    async fn delete_dentries(&self, dentries: &[OldDentry]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for old in dentries {
            let removed = state.dentries.remove(&(old.parent, old.name.clone()));
            if removed.is_none_or(|dentry| dentry.ino != old.ino) {
                return Err(MetaError::Contended { at: NAME.to_owned() });
            }
        }
        Ok(())
    }

    async fn delete_attrs(&self, inos: &[Ino]) -> Result<(), MetaError> {
        self.state.lock().attrs.retain(|ino, _| !inos.contains(ino));
        Ok(())
    }

    async fn delete_symlinks(&self, inos: &[Ino]) -> Result<(), MetaError> {
        self.state.lock().symlinks.retain(|ino, _| !inos.contains(ino));
        Ok(())
    }

    async fn delete_xattrs_and_parents(&self, inos: &[Ino]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        state.xattrs.retain(|(ino, _), _| !inos.contains(ino));
        state.parents.retain(|(ino, _), _| !inos.contains(ino));
        Ok(())
    }

    async fn delete_dir_quotas(&self, dirs: &[Ino]) -> Result<(), MetaError> {
        self.state.lock().quotas.retain(|key, _| !dirs.iter().any(|dir| *key == QuotaKey::Dir(*dir)));
        Ok(())
    }

    async fn delete_dir_records(&self, dirs: &[Ino]) -> Result<(), MetaError> {
        self.state.lock().usage.retain(|dir, _| !dirs.contains(dir));
        self.delete_dir_quotas(dirs).await
    }

    async fn insert_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError> {
        let records = files.iter().map(|file| (file.ino, (file.length, file.removed)));
        self.state.lock().deleted_files.extend(records);
        Ok(())
    }

    async fn remove_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        for file in files {
            state.deleted_files.remove(&file.ino);
        }
        Ok(())
    }
}
