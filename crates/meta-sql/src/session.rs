//! Reads, on a connection of the pool or on that of a transaction: the same statements.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino, SliceRecord};
use shoal_meta::{ChunkSlices, Counter, DirEntry, DirUsage, Entry, IdKind, MetaError, ParentCount, Records};

use crate::args::Args;
use crate::driver::{Answer, Driver, Want};
use crate::failure::Failure;
use crate::link::{Link, RowOf, TxnLink};
use crate::meaning::Meaning;
use crate::row::Columns;
use crate::schema::ATTRS_PER_QUERY;
use crate::statements::Statements;

/// Statements over a link.
pub(crate) struct Session<L> {
    pub(crate) link: L,
    pub(crate) sql: Arc<Statements>,
}

impl<L: Link> Session<L> {
    /// The error for a driver's error on this database.
    pub(crate) fn failed(&self, error: Failure) -> MetaError {
        self.link.failed(&self.sql.at, error)
    }

    async fn run(&self, want: Want, text: &Arc<str>, args: &Args<'_>) -> Result<Answer<RowOf<L>>, MetaError> {
        self.link.run(want, text, args).await.map_err(|error| self.failed(error))
    }

    /// The first row of a query, if any.
    pub(crate) async fn row<T>(
        &self,
        text: &Arc<str>,
        args: Args<'_>,
        decode: impl Fn(Columns<'_, L::Driver>) -> Result<T, MetaError> + Send,
    ) -> Result<Option<T>, MetaError> {
        let answer = self.run(Want::Row, text, &args).await?;
        answer.rows.first().map(|row| decode(Columns { row, at: &self.sql.at })).transpose()
    }

    /// Every row of a query.
    pub(crate) async fn rows<T>(
        &self,
        text: &Arc<str>,
        args: Args<'_>,
        decode: impl Fn(Columns<'_, L::Driver>) -> Result<T, MetaError> + Send,
    ) -> Result<Vec<T>, MetaError> {
        let answer = self.run(Want::Rows, text, &args).await?;
        answer.rows.iter().map(|row| decode(Columns { row, at: &self.sql.at })).collect()
    }

    /// Runs a statement; gives how many rows it found.
    pub(crate) async fn execute(&self, text: &Arc<str>, args: Args<'_>) -> Result<u64, MetaError> {
        Ok(self.run(Want::Count, text, &args).await?.count)
    }

    /// Runs a statement that counts a number up; gives the number, `None` if there is none.
    pub(crate) async fn count_up(&self, text: &Arc<str>, args: Args<'_>) -> Result<Option<i64>, MetaError> {
        let answer = self.run(Want::Counted, text, &args).await?;
        match answer.rows.first() {
            Some(row) => (Columns::<L::Driver> { row, at: &self.sql.at }).nullable(0),
            None => Ok(answer.counted),
        }
    }
}

impl<L: TxnLink> Session<L> {
    /// Runs a write, now or later.
    pub(crate) async fn write(&self, text: &Arc<str>, args: Args<'_>) -> Result<(), MetaError> {
        self.write_for(Meaning::Plain, text, args).await
    }

    /// The same for one whose failure has a meaning.
    pub(crate) async fn write_for(&self, meaning: Meaning, text: &Arc<str>, args: Args<'_>) -> Result<(), MetaError> {
        self.link.write(text, &args, meaning).await.map_err(|error| self.failed(error))
    }
}

impl<L: Link> Session<L> {
    /// Attributes of inodes, in their order, by a query for [`ATTRS_PER_QUERY`] of them.
    pub(crate) async fn attrs_by(&self, query: &Arc<str>, inos: &[Ino]) -> Result<Vec<Option<Attr>>, MetaError> {
        let mut found = HashMap::with_capacity(inos.len());
        for part in inos.chunks(ATTRS_PER_QUERY) {
            let last = part.last().copied().unwrap_or(Ino::NONE);
            let padded = part.iter().copied().chain(std::iter::repeat(last)).take(ATTRS_PER_QUERY);
            let args = padded.fold(Args::default(), Args::ino);
            let rows = self.rows(query, args, |row| row.attr(0)).await?;
            found.extend(rows.into_iter().flatten());
        }
        Ok(inos.iter().map(|ino| found.get(ino).cloned()).collect())
    }
}

/// A table that older volumes lack holds nothing.
pub(crate) fn or_empty<T: Default>(result: Result<T, MetaError>) -> Result<T, MetaError> {
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
        self.attrs_by(&self.sql.attrs, inos).await
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
        if !L::Driver::DIALECT.is_text(name) {
            return Ok(None);
        }
        self.row(&self.sql.xattr, Args::default().ino(ino).name(name), |row| row.bytes(0)).await
    }

    async fn xattr_names(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
        let mut names = self.rows(&self.sql.xattr_names, Args::default().ino(ino), |row| row.bytes(0)).await?;
        // Text columns of the servers sort by their collation.
        names.sort_unstable();
        Ok(names)
    }

    async fn slices(&self, ino: Ino, index: u32) -> Result<Vec<SliceRecord>, MetaError> {
        let args = Args::default().ino(ino).with(i64::from(index));
        Ok(self.row(&self.sql.slices, args, |row| row.slices(0)).await?.unwrap_or_default())
    }

    async fn slice_count(&self, ino: Ino, index: u32) -> Result<u32, MetaError> {
        let args = Args::default().ino(ino).with(i64::from(index));
        let bytes = self.row(&self.sql.slices_len, args, |row| row.int(0)).await?.unwrap_or(0);
        Ok((bytes / SliceRecord::BYTES as i64) as u32)
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

    async fn acls(&self, after: u32) -> Result<Vec<(u32, AclRule)>, MetaError> {
        let args = Args::default().with(i64::from(after));
        or_empty(self.rows(&self.sql.acls, args, |row| Ok((row.number(6, "id")?, row.acl()?))).await)
    }

    async fn dir_usage(&self, dir: Ino) -> Result<Option<DirUsage>, MetaError> {
        let decode =
            |row: Columns<'_, L::Driver>| Ok(DirUsage { length: row.int(0)?, space: row.int(1)?, inodes: row.int(2)? });
        or_empty(self.row(&self.sql.dir_usage, Args::default().ino(dir), decode).await)
    }

    async fn parents(&self, ino: Ino) -> Result<Vec<ParentCount>, MetaError> {
        self.rows(&self.sql.parents, Args::default().ino(ino), |row| {
            Ok(ParentCount { ino, parent: row.ino(0)?, count: row.int(1)? })
        })
        .await
    }
}
