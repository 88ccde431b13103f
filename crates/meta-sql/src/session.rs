//! Reads, on a connection of the pool or on that of a transaction: the same statements.

use std::collections::HashMap;
use std::ops::{DerefMut, Range};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino, SliceRecord};
use shoal_meta::{ChunkSlices, Counter, DirEntry, DirQuota, DirUsage, Entry, IdKind, MetaError, ParentCount, Records};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Sqlite, Type};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::failure::failed;
use crate::row::{Columns, stored};
use crate::statements::{ATTRS_PER_QUERY, Statements};

/// Where a statement runs.
pub(crate) trait Link: Send + Sync {
    /// A connection for one statement.
    type Guard<'a>: DerefMut<Target = SqliteConnection> + Send
    where
        Self: 'a;

    /// Waits for a connection.
    fn connection(&self) -> impl Future<Output = Result<Self::Guard<'_>, sqlx::Error>> + Send;
}

/// Any connection of a pool: each statement sees the newest commit.
impl Link for SqlitePool {
    type Guard<'a> = PoolConnection<Sqlite>;

    async fn connection(&self) -> Result<PoolConnection<Sqlite>, sqlx::Error> {
        self.acquire().await
    }
}

/// The one connection of a transaction.
pub(crate) struct TxnLink(pub(crate) Mutex<sqlx::Transaction<'static, Sqlite>>);

impl Link for TxnLink {
    type Guard<'a> = MappedMutexGuard<'a, SqliteConnection>;

    async fn connection(&self) -> Result<MappedMutexGuard<'_, SqliteConnection>, sqlx::Error> {
        Ok(MutexGuard::map(self.0.lock().await, |txn| &mut **txn))
    }
}

/// Statements over a link.
pub(crate) struct Session<L> {
    pub(crate) link: L,
    pub(crate) sql: Arc<Statements>,
}

/// Arguments of a statement.
#[derive(Default)]
pub(crate) struct Args(SqliteArguments, Option<sqlx::error::BoxDynError>);

impl Args {
    pub(crate) fn with<'t, T: Encode<'t, Sqlite> + Type<Sqlite>>(mut self, value: T) -> Args {
        if let Err(error) = Arguments::add(&mut self.0, value) {
            self.1 = Some(error);
        }
        self
    }

    pub(crate) fn ino(self, ino: Ino) -> Args {
        match stored(ino.0) {
            Ok(value) => self.with(value),
            Err(error) => Args(self.0, Some(error)),
        }
    }

    fn finish(self) -> Result<SqliteArguments, sqlx::Error> {
        self.1.map_or(Ok(self.0), |error| Err(sqlx::Error::Encode(error)))
    }
}

impl<L: Link> Session<L> {
    /// The error for a driver's error on this database.
    pub(crate) fn failed(&self, error: sqlx::Error) -> MetaError {
        failed(&self.sql.at, error)
    }

    /// The first row of a query, if any.
    pub(crate) async fn row<T>(
        &self,
        text: &Arc<str>,
        args: Args,
        decode: impl Fn(Columns<'_>) -> Result<T, MetaError> + Send,
    ) -> Result<Option<T>, MetaError> {
        let row = self.fetch_one(text, args).await.map_err(|error| self.failed(error))?;
        row.map(|row| decode(Columns { row: &row, at: &self.sql.at })).transpose()
    }

    /// Every row of a query.
    async fn rows<T>(
        &self,
        text: &Arc<str>,
        args: Args,
        decode: impl Fn(Columns<'_>) -> Result<T, MetaError> + Send,
    ) -> Result<Vec<T>, MetaError> {
        let rows = self.fetch_all(text, args).await.map_err(|error| self.failed(error))?;
        rows.iter().map(|row| decode(Columns { row, at: &self.sql.at })).collect()
    }

    /// Runs a statement; gives how many rows it changed.
    pub(crate) async fn execute(&self, text: &Arc<str>, args: Args) -> Result<u64, MetaError> {
        let run = async {
            let mut connection = self.link.connection().await?;
            sqlx::query_with(AssertSqlSafe(text.clone()), args.finish()?).execute(&mut *connection).await
        };
        Ok(run.await.map_err(|error| self.failed(error))?.rows_affected())
    }

    async fn fetch_one(&self, text: &Arc<str>, args: Args) -> Result<Option<SqliteRow>, sqlx::Error> {
        let mut connection = self.link.connection().await?;
        sqlx::query_with(AssertSqlSafe(text.clone()), args.finish()?).fetch_optional(&mut *connection).await
    }

    async fn fetch_all(&self, text: &Arc<str>, args: Args) -> Result<Vec<SqliteRow>, sqlx::Error> {
        let mut connection = self.link.connection().await?;
        sqlx::query_with(AssertSqlSafe(text.clone()), args.finish()?).fetch_all(&mut *connection).await
    }
}

/// A table that older volumes lack holds nothing.
fn or_empty<T: Default>(result: Result<T, MetaError>) -> Result<T, MetaError> {
    match result {
        Err(MetaError::NoVolume { .. }) => Ok(T::default()),
        other => other,
    }
}

/// Name of a counter's row.
pub(crate) fn counter_name(counter: Counter) -> &'static str {
    match counter {
        Counter::UsedSpace => "usedSpace",
        Counter::TotalInodes => "totalInodes",
    }
}

/// Name of the row that holds the next free id.
pub(crate) fn id_name(kind: IdKind) -> &'static str {
    match kind {
        IdKind::Inode => "nextInode",
        IdKind::Slice => "nextChunk",
    }
}

#[async_trait]
impl<L: Link> Records for Session<L> {
    async fn setting(&self) -> Result<Option<String>, MetaError> {
        or_empty(self.row(&self.sql.setting, Args::default(), |row| row.text(0)).await)
    }

    async fn counter(&self, counter: Counter) -> Result<i64, MetaError> {
        let args = Args::default().with(counter_name(counter));
        Ok(self.row(&self.sql.counter, args, |row| row.int(0)).await?.unwrap_or(0))
    }

    async fn next_id(&self, kind: IdKind) -> Result<u64, MetaError> {
        let args = Args::default().with(id_name(kind));
        let next = self.row(&self.sql.counter, args, |row| row.int(0)).await?.unwrap_or(0);
        Ok(u64::try_from(next).unwrap_or(0))
    }

    async fn attr(&self, ino: Ino) -> Result<Option<Attr>, MetaError> {
        let row = self.row(&self.sql.attr, Args::default().ino(ino), |row| row.attr(0)).await?;
        Ok(row.flatten().map(|(_, attr)| attr))
    }

    async fn attrs(&self, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        let mut found = HashMap::with_capacity(inos.len());
        for part in inos.chunks(ATTRS_PER_QUERY) {
            let last = part.last().copied().unwrap_or(Ino::NONE);
            let padded = part.iter().copied().chain(std::iter::repeat(last)).take(ATTRS_PER_QUERY);
            let args = padded.fold(Args::default(), Args::ino);
            let rows = self.rows(&self.sql.attrs, args, |row| row.attr(0)).await?;
            found.extend(rows.into_iter().flatten());
        }
        Ok(inos.iter().map(|ino| found.get(ino).cloned()).collect())
    }

    async fn entry(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>, MetaError> {
        let args = Args::default().ino(parent).with(name);
        self.row(&self.sql.entry, args, |row| {
            Ok(Entry { dentry: row.dentry()?, attr: row.attr(3)?.map(|(_, attr)| attr) })
        })
        .await
    }

    async fn entries(&self, dir: Ino, after: &[u8], limit: usize) -> Result<Vec<DirEntry>, MetaError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let args = Args::default().ino(dir).with(after).with(limit);
        self.rows(&self.sql.entries, args, |row| row.listed()).await
    }

    async fn symlink(&self, ino: Ino) -> Result<Option<Bytes>, MetaError> {
        self.row(&self.sql.symlink, Args::default().ino(ino), |row| row.bytes(0)).await
    }

    async fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.row(&self.sql.xattr, Args::default().ino(ino).with(name), |row| row.bytes(0)).await
    }

    async fn xattr_names(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
        self.rows(&self.sql.xattr_names, Args::default().ino(ino), |row| row.bytes(0)).await
    }

    async fn slices(&self, ino: Ino, index: u32) -> Result<Vec<SliceRecord>, MetaError> {
        let args = Args::default().ino(ino).with(i64::from(index));
        Ok(self.row(&self.sql.slices, args, |row| row.slices(0)).await?.unwrap_or_default())
    }

    async fn chunks(&self, ino: Ino, range: Range<u32>) -> Result<Vec<ChunkSlices>, MetaError> {
        let args = Args::default().ino(ino).with(i64::from(range.start)).with(i64::from(range.end));
        self.rows(&self.sql.chunks, args, |row| {
            Ok(ChunkSlices { ino, index: row.number(0, "indx")?, slices: row.slices(1)? })
        })
        .await
    }

    async fn acl(&self, id: u32) -> Result<Option<AclRule>, MetaError> {
        or_empty(self.row(&self.sql.acl, Args::default().with(i64::from(id)), |row| row.acl()).await)
    }

    async fn dir_usage(&self, dir: Ino) -> Result<Option<DirUsage>, MetaError> {
        let decode = |row: Columns<'_>| Ok(DirUsage { length: row.int(0)?, space: row.int(1)?, inodes: row.int(2)? });
        or_empty(self.row(&self.sql.dir_usage, Args::default().ino(dir), decode).await)
    }

    async fn dir_quotas(&self) -> Result<Vec<DirQuota>, MetaError> {
        let decode = |row: Columns<'_>| {
            let (max_space, max_inodes) = (row.int(1)?, row.int(2)?);
            Ok(DirQuota { ino: row.ino(0)?, max_space, max_inodes, used_space: row.int(3)?, used_inodes: row.int(4)? })
        };
        or_empty(self.rows(&self.sql.dir_quotas, Args::default(), decode).await)
    }

    async fn parents(&self, ino: Ino) -> Result<Vec<ParentCount>, MetaError> {
        self.rows(&self.sql.parents, Args::default().ino(ino), |row| {
            Ok(ParentCount { ino, parent: row.ino(0)?, count: row.int(1)? })
        })
        .await
    }
}
