//! Writes, in one SQLite transaction that holds the write lock from its begin.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, Ino, SliceRecord};
use shoal_meta::{
    ChunkSlices, Counter, DirUsage, IdKind, MetaError, NewDentry, ParentCount, Records, SliceRef, Txn, Xattr, show_name,
};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe};

use crate::failure::{damaged, is_unique_violation};
use crate::insert::{Binding, Failed, Insert};
use crate::row::{bind_attr, stored};
use crate::schema::{DDL, FIRST_COUNTERS};
use crate::session::{Args, Link, Session, TxnLink, counter_name, id_name};

impl Session<TxnLink> {
    /// Inserts rows; a failure comes back with the rows of the statement that failed.
    async fn insert<'r, T: Sync>(
        &self,
        insert: &Insert,
        rows: &'r [T],
        bind: impl Fn(&mut SqliteArguments, &T) -> Binding + Send + Sync,
    ) -> Result<(), Failed<'r, T>> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut connection = self.link.connection().await.map_err(|error| Failed { error, rows })?;
        insert.run(&mut connection, rows, bind).await
    }

    async fn first_attr_taken(&self, attrs: &[(Ino, Attr)]) -> Result<MetaError, MetaError> {
        let inos: Vec<Ino> = attrs.iter().map(|(ino, _)| *ino).collect();
        let found = self.attrs(&inos).await?;
        let ino = inos.iter().zip(found).find(|(_, attr)| attr.is_some()).map(|(ino, _)| *ino);
        Ok(MetaError::Taken { what: format!("inode {}", ino.unwrap_or(Ino::NONE)) })
    }

    async fn first_name_taken(&self, dentries: &[NewDentry]) -> Result<MetaError, MetaError> {
        for new in dentries {
            if self.entry(new.parent, &new.name).await?.is_some() {
                return Ok(MetaError::Exists { parent: new.parent.0, name: show_name(&new.name) });
            }
        }
        Ok(damaged(&self.sql.at, "a name is both taken and free"))
    }
}

#[async_trait]
impl Txn for Session<TxnLink> {
    async fn create_schema(&self) -> Result<(), MetaError> {
        for statement in DDL {
            let text = statement.replace('@', &self.sql.prefix);
            let mut connection = self.link.connection().await.map_err(|error| self.failed(error))?;
            let done = sqlx::query(AssertSqlSafe(text)).persistent(false).execute(&mut *connection).await;
            done.map_err(|error| self.failed(error))?;
        }
        for (name, value) in FIRST_COUNTERS {
            self.execute(&self.sql.first_counter, Args::default().with(*name).with(*value)).await?;
        }
        Ok(())
    }

    async fn put_setting(&self, json: &str) -> Result<(), MetaError> {
        self.execute(&self.sql.put_setting, Args::default().with(json)).await.map(drop)
    }

    async fn take_ids(&self, kind: IdKind, n: u64) -> Result<Range<u64>, MetaError> {
        let name = id_name(kind);
        let args = Args::default().with(i64::try_from(n).unwrap_or(i64::MAX)).with(name);
        let next = self.row(&self.sql.take_ids, args, |row| row.int(0)).await?;
        // SQL engines store the next free id (spec section 12), so ours end where it now stands.
        let end = next.and_then(|next| u64::try_from(next).ok());
        let range = end.and_then(|end| Some(end.checked_sub(n)?..end));
        range.ok_or_else(|| damaged(&self.sql.at, &format!("counter {name} is missing or impossible")))
    }

    async fn add_counter(&self, counter: Counter, delta: i64) -> Result<(), MetaError> {
        let args = Args::default().with(counter_name(counter)).with(delta);
        self.execute(&self.sql.add_counter, args).await.map(drop)
    }

    async fn insert_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let done = self.insert(&self.sql.insert_attrs, attrs, |args, (ino, attr)| bind_attr(args, *ino, attr)).await;
        match done {
            Err(failed) if is_unique_violation(&failed.error) => Err(self.first_attr_taken(failed.rows).await?),
            other => other.map_err(|failed| self.failed(failed.error)),
        }
    }

    async fn update_attrs(&self, attrs: &[(Ino, Attr)]) -> Result<(), MetaError> {
        let done = self.insert(&self.sql.update_attrs, attrs, |args, (ino, attr)| bind_attr(args, *ino, attr)).await;
        done.map_err(|failed| self.failed(failed.error))
    }

    async fn insert_dentries(&self, dentries: &[NewDentry]) -> Result<(), MetaError> {
        let bind = |args: &mut SqliteArguments, new: &NewDentry| {
            Arguments::add(args, stored(new.parent.0)?)?;
            Arguments::add(args, &new.name[..])?;
            Arguments::add(args, stored(new.dentry.ino.0)?)?;
            Arguments::add(args, i64::from(new.dentry.kind as u8))
        };
        match self.insert(&self.sql.insert_dentries, dentries, bind).await {
            Err(failed) if is_unique_violation(&failed.error) => Err(self.first_name_taken(failed.rows).await?),
            other => other.map_err(|failed| self.failed(failed.error)),
        }
    }

    async fn insert_symlinks(&self, links: &[(Ino, Bytes)]) -> Result<(), MetaError> {
        let bind = |args: &mut SqliteArguments, (ino, target): &(Ino, Bytes)| {
            Arguments::add(args, stored(ino.0)?)?;
            Arguments::add(args, &target[..])
        };
        self.insert(&self.sql.insert_symlinks, links, bind).await.map_err(|failed| self.failed(failed.error))
    }

    async fn put_xattrs(&self, xattrs: &[Xattr]) -> Result<(), MetaError> {
        let bind = |args: &mut SqliteArguments, xattr: &Xattr| {
            Arguments::add(args, stored(xattr.ino.0)?)?;
            Arguments::add(args, &xattr.name[..])?;
            Arguments::add(args, &xattr.value[..])
        };
        self.insert(&self.sql.put_xattrs, xattrs, bind).await.map_err(|failed| self.failed(failed.error))
    }

    async fn append_slices(&self, chunks: &[ChunkSlices]) -> Result<(), MetaError> {
        let bind = |args: &mut SqliteArguments, chunk: &ChunkSlices| {
            Arguments::add(args, stored(chunk.ino.0)?)?;
            Arguments::add(args, i64::from(chunk.index))?;
            Arguments::add(args, SliceRecord::encode_list(&chunk.slices))
        };
        self.insert(&self.sql.append_slices, chunks, bind).await.map_err(|failed| self.failed(failed.error))
    }

    async fn insert_slice_refs(&self, refs: &[SliceRef]) -> Result<(), MetaError> {
        let bind = |args: &mut SqliteArguments, slice: &SliceRef| {
            Arguments::add(args, stored(slice.id)?)?;
            Arguments::add(args, i64::from(slice.size))?;
            Arguments::add(args, i64::from(slice.count))
        };
        match self.insert(&self.sql.insert_slice_refs, refs, bind).await {
            Err(failed) if is_unique_violation(&failed.error) => {
                let (first, last) = (failed.rows.first().map_or(0, |r| r.id), failed.rows.last().map_or(0, |r| r.id));
                let what =
                    if first == last { format!("slice {first}") } else { format!("a slice in {first}..={last}") };
                Err(MetaError::Taken { what })
            }
            other => other.map_err(|failed| self.failed(failed.error)),
        }
    }

    /// SQL derives the parents of hard links from dentries (spec section 8.3).
    async fn add_parents(&self, _parents: &[ParentCount]) -> Result<(), MetaError> {
        Ok(())
    }

    async fn put_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<(), MetaError> {
        let bind = |args: &mut SqliteArguments, (dir, usage): &(Ino, DirUsage)| {
            Arguments::add(args, stored(dir.0)?)?;
            Arguments::add(args, usage.length)?;
            Arguments::add(args, usage.space)?;
            Arguments::add(args, usage.inodes)
        };
        self.insert(&self.sql.put_dir_usage, usage, bind).await.map_err(|failed| self.failed(failed.error))
    }

    async fn add_dir_usage(&self, usage: &[(Ino, DirUsage)]) -> Result<Vec<Ino>, MetaError> {
        let mut unknown = Vec::new();
        for (dir, more) in usage {
            let args = Args::default().with(more.length).with(more.space).with(more.inodes).ino(*dir);
            if self.execute(&self.sql.add_dir_usage, args).await? == 0 {
                unknown.push(*dir);
            }
        }
        Ok(unknown)
    }

    async fn add_quota_usage(&self, dir: Ino, space: i64, inodes: i64) -> Result<(), MetaError> {
        self.execute(&self.sql.add_quota, Args::default().with(space).with(inodes).ino(dir)).await.map(drop)
    }

    async fn commit(self: Box<Self>) -> Result<(), MetaError> {
        let session = *self;
        let at = session.sql.at.clone();
        session.link.0.into_inner().commit().await.map_err(|error| crate::failure::failed(&at, error))
    }
}
