//! Removals.

use async_trait::async_trait;
use shoal_format::Ino;
use shoal_meta::{DeletedFile, MetaError, OldDentry, RemovalRecords, RemovalTxn};

use crate::args::Args;
use crate::link::{Link, TxnLink};
use crate::meaning::Meaning;
use crate::removal_statements::{DeleteByInode, INODES_PER_DELETE};
use crate::session::Session;

#[async_trait]
impl<L: Link> RemovalRecords for Session<L> {
    async fn deleted_files(&self, before: i64, limit: usize) -> Result<Vec<DeletedFile>, MetaError> {
        let args = Args::default().with(before).with(i64::try_from(limit).unwrap_or(i64::MAX));
        self.rows(&self.sql.removal.deleted_files, args, |row| {
            Ok(DeletedFile { ino: row.ino(0)?, length: row.number(1, "length")?, removed: row.int(2)? })
        })
        .await
    }
}

impl<L: TxnLink> Session<L> {
    async fn delete_by_inode(&self, delete: &DeleteByInode, inos: &[Ino]) -> Result<(), MetaError> {
        for part in inos.chunks(INODES_PER_DELETE) {
            match part {
                [ino] => self.write(&delete.one, Args::default().ino(*ino)).await?,
                _ => {
                    let last = part.last().copied().unwrap_or(Ino::NONE);
                    let padded = part.iter().copied().chain(std::iter::repeat(last)).take(INODES_PER_DELETE);
                    self.write(&delete.many, padded.fold(Args::default(), Args::ino)).await?
                }
            };
        }
        Ok(())
    }
}

#[async_trait]
impl<L: TxnLink> RemovalTxn for Session<L> {
    async fn delete_dentries(&self, dentries: &[OldDentry]) -> Result<(), MetaError> {
        for old in dentries {
            let args = Args::default().ino(old.parent).with(&old.name[..]).ino(old.ino);
            self.write_for(Meaning::OldName, &self.sql.removal.delete_dentry, args).await?;
        }
        Ok(())
    }

    async fn delete_attrs(&self, inos: &[Ino]) -> Result<(), MetaError> {
        self.delete_by_inode(&self.sql.removal.delete_attrs, inos).await
    }

    async fn delete_symlinks(&self, inos: &[Ino]) -> Result<(), MetaError> {
        self.delete_by_inode(&self.sql.removal.delete_symlinks, inos).await
    }

    /// SQL derives the parents of hard links from dentries (spec section 8.3).
    async fn delete_xattrs_and_parents(&self, inos: &[Ino]) -> Result<(), MetaError> {
        self.delete_by_inode(&self.sql.removal.delete_xattrs, inos).await
    }

    async fn delete_dir_quotas(&self, dirs: &[Ino]) -> Result<(), MetaError> {
        self.delete_by_inode(&self.sql.removal.delete_dir_quotas, dirs).await
    }

    async fn delete_dir_records(&self, dirs: &[Ino]) -> Result<(), MetaError> {
        self.delete_by_inode(&self.sql.removal.delete_dir_usage, dirs).await?;
        self.delete_dir_quotas(dirs).await
    }

    async fn insert_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError> {
        for file in files {
            let length = i64::try_from(file.length).unwrap_or(i64::MAX);
            let args = Args::default().ino(file.ino).with(length).with(file.removed);
            self.write(&self.sql.removal.insert_deleted_file, args).await?;
        }
        Ok(())
    }

    async fn remove_deleted_files(&self, files: &[DeletedFile]) -> Result<(), MetaError> {
        let inos: Vec<Ino> = files.iter().map(|file| file.ino).collect();
        self.delete_by_inode(&self.sql.removal.delete_deleted_files, &inos).await
    }
}
