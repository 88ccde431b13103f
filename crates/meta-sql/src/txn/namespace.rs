//! Writes of names, inodes and what belongs to them.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino};
use shoal_meta::{DirTouch, MetaError, NamespaceTxn, NewDentry, ParentCount, Records, Xattr, show_name};

use crate::args::Args;
use crate::driver::Driver;
use crate::failure::damaged;
use crate::insert::Failed;
use crate::link::TxnLink;
use crate::meaning::{Meaning, plain};
use crate::row::{bind_acl, bind_attr};
use crate::session::Session;

impl<L: TxnLink> Session<L> {
    /// The first of `attrs` that exists, which is why inserting them failed.
    async fn taken_attr(&self, failed: Failed<'_, (Ino, Attr)>) -> Result<MetaError, MetaError> {
        let inos: Vec<Ino> = failed.rows.iter().map(|(ino, _)| *ino).collect();
        let ino = match failed.error.taken_key() {
            Some(key) => key.parse().ok().map(Ino),
            None => {
                let found = self.attrs(&inos).await?;
                inos.iter().zip(found).find(|(_, attr)| attr.is_some()).map(|(ino, _)| *ino)
            }
        };
        Ok(MetaError::Taken { what: format!("inode {}", ino.unwrap_or(Ino::NONE)) })
    }

    /// The first of `dentries` that exists, which is why inserting them failed.
    async fn taken_name(&self, failed: Failed<'_, NewDentry>) -> Result<MetaError, MetaError> {
        let exists = |new: &NewDentry| MetaError::Exists { parent: new.parent.0, name: show_name(&new.name) };
        match (failed.rows, failed.error.taken_key()) {
            (many, Some(key)) => {
                let is = |new: &&NewDentry| key == format!("{}, \\x{}", new.parent.0, hex(&new.name));
                if let Some(new) = many.iter().find(is) {
                    return Ok(exists(new));
                }
            }
            (many, None) => {
                for new in many {
                    if self.entry(new.parent, &new.name).await?.is_some() {
                        return Ok(exists(new));
                    }
                }
            }
        }
        Ok(damaged(&self.sql.at, "a name is both taken and free"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait]
impl<L: TxnLink> NamespaceTxn for Session<L> {
    async fn attrs_locked(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        if let [ino] = inos {
            let row = self.row(&self.sql.attr_locked, Args::default().ino(*ino), |row| row.attr(0)).await?;
            return Ok(vec![row.flatten().map(|(_, attr)| attr)]);
        }
        let mut ordered = inos.to_vec();
        ordered.sort_unstable();
        ordered.dedup();
        let found = self.attrs_by(&self.sql.attrs_locked, &ordered).await?;
        let at = |ino: &Ino| ordered.binary_search(ino).ok().and_then(|at| found[at].clone());
        Ok(inos.iter().map(at).collect())
    }

    async fn attrs_held(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        let mut held = Vec::with_capacity(inos.len());
        for ino in inos {
            let row = self.row(&self.sql.attr_held, Args::default().ino(*ino), |row| row.attr(0)).await?;
            held.push(row.flatten().map(|(_, attr)| attr));
        }
        Ok(held)
    }

    async fn touch_dirs(&self, dirs: &[DirTouch]) -> Result<(), MetaError> {
        for touch in dirs {
            let ((mtime, mtime_rest), (ctime, ctime_rest)) = (touch.mtime.to_micros(), touch.ctime.to_micros());
            let args = Args::default().with(i64::from(touch.nlink)).with(mtime).with(i64::from(mtime_rest));
            let args = args.with(ctime).with(i64::from(ctime_rest)).ino(touch.ino);
            self.write_for(Meaning::Directory(touch.ino), &self.sql.touch_dir, args).await?;
        }
        Ok(())
    }

    async fn insert_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let bind = |args: &mut Args<'_>, (ino, attr): &(Ino, Attr)| bind_attr(args, *ino, attr);
        let done = self.insert(&self.sql.insert_attrs, attrs, bind, |(ino, _)| Meaning::Inode(*ino)).await;
        match done {
            Err(failed) if failed.error.is_unique_violation() => Err(self.taken_attr(failed).await?),
            other => other.map_err(|failed| self.failed(failed.error)),
        }
    }

    async fn update_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let bind = |args: &mut Args<'_>, (ino, attr): &(Ino, Attr)| bind_attr(args, *ino, attr);
        let done = self.insert(&self.sql.update_attrs, attrs, bind, plain).await;
        done.map_err(|failed| self.failed(failed.error))
    }

    async fn insert_dentries(&self, dentries: &[NewDentry]) -> Result<(), MetaError> {
        fn bind<'r>(args: &mut Args<'r>, new: &'r NewDentry) {
            args.put_u64(new.parent.0);
            args.put(&new.name[..]);
            args.put_u64(new.dentry.ino.0);
            args.put(i64::from(new.dentry.kind as u8));
        }
        match self.insert(&self.sql.insert_dentries, dentries, bind, Meaning::name).await {
            Err(failed) if failed.error.is_unique_violation() => Err(self.taken_name(failed).await?),
            other => other.map_err(|failed| self.failed(failed.error)),
        }
    }

    async fn insert_symlinks(&self, links: &[(Ino, Bytes)]) -> Result<(), MetaError> {
        fn bind<'r>(args: &mut Args<'r>, (ino, target): &'r (Ino, Bytes)) {
            args.put_u64(ino.0);
            args.put(&target[..]);
        }
        self.insert(&self.sql.insert_symlinks, links, bind, plain).await.map_err(|failed| self.failed(failed.error))
    }

    async fn put_xattrs(&self, xattrs: &[Xattr]) -> Result<(), MetaError> {
        fn bind<'r>(args: &mut Args<'r>, xattr: &'r Xattr) {
            args.put_u64(xattr.ino.0);
            args.put_name(&xattr.name);
            args.put(&xattr.value[..]);
        }
        if let Some(xattr) = xattrs.iter().find(|xattr| !L::Driver::DIALECT.is_text(&xattr.name)) {
            let name = show_name(&xattr.name);
            let what = format!(
                "extended attribute `{name}` cannot be stored: its name is no UTF-8, and {} holds text",
                self.sql.at
            );
            return Err(MetaError::Invalid { what });
        }
        self.insert(&self.sql.put_xattrs, xattrs, bind, plain).await.map_err(|failed| self.failed(failed.error))
    }

    async fn delete_xattr(&self, ino: Ino, name: &[u8]) -> Result<bool, MetaError> {
        if !L::Driver::DIALECT.is_text(name) {
            return Ok(false);
        }
        Ok(self.execute(&self.sql.delete_xattr, Args::default().ino(ino).name(name)).await? > 0)
    }

    async fn insert_acl(&self, rule: &AclRule) -> Result<u32, MetaError> {
        let mut args = Args::default();
        bind_acl(&mut args, rule);
        let id = self.count_up(&self.sql.insert_acl, args).await?;
        let id = id.and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| damaged(&self.sql.at, "a new ACL rule has no possible id"))
    }

    /// SQL derives the parents of hard links from dentries (spec section 8.3).
    async fn add_parents(&self, _parents: &[ParentCount]) -> Result<(), MetaError> {
        Ok(())
    }
}
