//! Quotas: a table for directories, one for users and groups (spec section 22).

use async_trait::async_trait;
use shoal_format::Ino;
use shoal_meta::{DirUsage, MetaError, Quota, QuotaKey, QuotaKind, QuotaRecords, QuotaTxn};

use crate::args::Args;
use crate::driver::Driver;
use crate::link::{Link, TxnLink};
use crate::row::Columns;
use crate::session::{Session, or_empty};

/// What the table of users and groups calls them.
const USER: i64 = 1;
const GROUP: i64 = 2;

/// Kind and number of a user or group as they are stored; the inode of a directory.
fn stored(key: QuotaKey) -> Result<(i64, i64), Ino> {
    match key {
        QuotaKey::Dir(ino) => Err(ino),
        QuotaKey::User(uid) => Ok((USER, i64::from(uid))),
        QuotaKey::Group(gid) => Ok((GROUP, i64::from(gid))),
    }
}

/// A quota from the columns behind its key.
fn quota<D: Driver>(row: &Columns<'_, D>, key: QuotaKey, first: usize) -> Result<Quota, MetaError> {
    let (max_space, max_inodes) = (row.int(first)?, row.int(first + 1)?);
    Ok(Quota { key, max_space, max_inodes, used_space: row.int(first + 2)?, used_inodes: row.int(first + 3)? })
}

fn key_args<'a>((kind, number): (i64, i64)) -> Args<'a> {
    Args::default().with(kind).with(number)
}

#[async_trait]
impl<L: Link> QuotaRecords for Session<L> {
    async fn quotas(&self, kind: QuotaKind) -> Result<Vec<Quota>, MetaError> {
        let sql = &self.sql.quotas;
        or_empty(match kind {
            QuotaKind::Dir => {
                let decode = |row: Columns<'_, L::Driver>| quota(&row, QuotaKey::Dir(row.ino(0)?), 1);
                self.rows(&sql.of_dirs, Args::default(), decode).await
            }
            QuotaKind::User => {
                let decode = |row: Columns<'_, L::Driver>| quota(&row, QuotaKey::User(row.number(0, "qkey")?), 1);
                self.rows(&sql.of_owners, Args::default().with(USER), decode).await
            }
            QuotaKind::Group => {
                let decode = |row: Columns<'_, L::Driver>| quota(&row, QuotaKey::Group(row.number(0, "qkey")?), 1);
                self.rows(&sql.of_owners, Args::default().with(GROUP), decode).await
            }
        })
    }

    async fn quota(&self, key: QuotaKey) -> Result<Option<Quota>, MetaError> {
        let decode = |row: Columns<'_, L::Driver>| quota(&row, key, 0);
        or_empty(match stored(key) {
            Err(dir) => self.row(&self.sql.quotas.of_dir, Args::default().ino(dir), decode).await,
            Ok(owner) => self.row(&self.sql.quotas.of_owner, key_args(owner), decode).await,
        })
    }
}

#[async_trait]
impl<L: TxnLink> QuotaTxn for Session<L> {
    async fn add_quota_usage(&self, usage: &[(QuotaKey, DirUsage)]) -> Result<(), MetaError> {
        let sql = &self.sql.quotas;
        for (key, more) in usage {
            match stored(*key) {
                Err(dir) => {
                    let args = Args::default().with(more.space).with(more.inodes).ino(dir);
                    self.write(&sql.add_dir, args).await?;
                }
                Ok(owner) => {
                    let args = key_args(owner).with(-1i64).with(-1i64).with(more.space).with(more.inodes);
                    self.write(&sql.add_owner, args).await?;
                }
            }
        }
        Ok(())
    }

    async fn put_quotas(&self, quotas: &[Quota]) -> Result<(), MetaError> {
        let sql = &self.sql.quotas;
        for Quota { key, max_space, max_inodes, used_space, used_inodes } in quotas {
            let (text, args) = match stored(*key) {
                Err(dir) => (&sql.put_dir, Args::default().ino(dir)),
                Ok(owner) => (&sql.put_owner, key_args(owner)),
            };
            let args = args.with(*max_space).with(*max_inodes).with(*used_space).with(*used_inodes);
            self.write(text, args).await?;
        }
        Ok(())
    }
}
