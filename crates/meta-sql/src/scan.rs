//! Reads of whole tables and of what belongs to many inodes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{AclRule, Attr, Ino};
use shoal_meta::{
    ChunkSlices, DelayedSlices, DeletedFile, DirUsage, MetaError, NewDentry, ScanPage, ScanRecords, Serial, SliceRef,
    Xattr,
};

use crate::args::Args;
use crate::failure::damaged;
use crate::link::Link;
use crate::removal_statements::serial_name;
use crate::row::Columns;
use crate::schema::ATTRS_PER_QUERY;
use crate::session::{Session, or_empty};

impl<L: Link> Session<L> {
    /// A page of a scan. `decode` gives a record and the number in the column that the scan goes by.
    async fn page<T>(
        &self,
        statement: &Arc<str>,
        from: &[u8],
        limit: usize,
        decode: impl Fn(Columns<'_, L::Driver>) -> Result<(i64, T), MetaError> + Send,
    ) -> Result<ScanPage<T>, MetaError> {
        let after = from.first_chunk().map_or(i64::MIN, |place| i64::from_be_bytes(*place));
        let args = Args::default().with(after).with(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = or_empty(self.rows(statement, args, decode).await)?;
        let last = rows.last().filter(|_| rows.len() >= limit).map(|(place, _)| *place);
        let next = last.map(|place| Bytes::copy_from_slice(&place.to_be_bytes()));
        Ok(ScanPage { records: rows.into_iter().map(|(_, record)| record).collect(), next })
    }

    /// Every row that belongs to one of `inos`.
    async fn rows_of<T>(
        &self,
        statement: &Arc<str>,
        inos: &[Ino],
        decode: impl Fn(Columns<'_, L::Driver>) -> Result<T, MetaError> + Send + Sync,
    ) -> Result<Vec<T>, MetaError> {
        let mut found = Vec::new();
        for part in inos.chunks(ATTRS_PER_QUERY) {
            let last = part.last().copied().unwrap_or(Ino::NONE);
            let padded = part.iter().copied().chain(std::iter::repeat(last)).take(ATTRS_PER_QUERY);
            let args = padded.fold(Args::default(), Args::ino);
            found.extend(self.rows(statement, args, &decode).await?);
        }
        Ok(found)
    }
}

#[async_trait]
impl<L: Link> ScanRecords for Session<L> {
    async fn scan_attrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Attr)>, MetaError> {
        self.page(&self.sql.scan.attrs, from, limit, |row| {
            let attr = row.attr(0)?.ok_or_else(|| damaged(row.at, "an inode is NULL"))?;
            Ok((row.int(0)?, attr))
        })
        .await
    }

    async fn scan_dentries(&self, from: &[u8], limit: usize) -> Result<ScanPage<NewDentry>, MetaError> {
        self.page(&self.sql.scan.dentries, from, limit, |row| {
            Ok((row.int(4)?, NewDentry { parent: row.ino(3)?, name: row.bytes(0)?, dentry: row.dentry()? }))
        })
        .await
    }

    async fn scan_chunks(&self, from: &[u8], limit: usize) -> Result<ScanPage<ChunkSlices>, MetaError> {
        self.page(&self.sql.scan.chunks, from, limit, |row| {
            Ok((row.int(3)?, ChunkSlices { ino: row.ino(0)?, index: row.number(1, "indx")?, slices: row.slices(2)? }))
        })
        .await
    }

    async fn scan_symlinks(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, Bytes)>, MetaError> {
        self.page(&self.sql.scan.symlinks, from, limit, |row| Ok((row.int(1)?, (row.ino(1)?, row.bytes(0)?)))).await
    }

    async fn scan_xattrs(&self, from: &[u8], limit: usize) -> Result<ScanPage<Xattr>, MetaError> {
        self.page(&self.sql.scan.xattrs, from, limit, |row| {
            Ok((row.int(3)?, Xattr { ino: row.ino(0)?, name: row.bytes(1)?, value: row.bytes(2)? }))
        })
        .await
    }

    async fn scan_slice_refs(&self, from: &[u8], limit: usize) -> Result<ScanPage<SliceRef>, MetaError> {
        self.page(&self.sql.scan.slice_refs, from, limit, |row| {
            let count = u32::try_from(row.int(1)?.max(0)).unwrap_or(u32::MAX);
            Ok((row.int(2)?, SliceRef { id: row.number(2, "chunkid")?, size: row.number(0, "size")?, count }))
        })
        .await
    }

    async fn scan_delayed(&self, from: &[u8], limit: usize) -> Result<ScanPage<DelayedSlices>, MetaError> {
        self.page(&self.sql.scan.delayed, from, limit, |row| {
            let slices = DelayedSlices::decode(&row.bytes(1)?);
            let slices = slices.ok_or_else(|| damaged(row.at, "a list of delayed slices holds a part of one"))?;
            Ok((row.int(2)?, DelayedSlices { id: row.number(2, "chunkid")?, at: row.int(0)?, slices }))
        })
        .await
    }

    async fn scan_deleted_files(&self, from: &[u8], limit: usize) -> Result<ScanPage<DeletedFile>, MetaError> {
        self.page(&self.sql.scan.deleted_files, from, limit, |row| {
            Ok((row.int(2)?, DeletedFile { ino: row.ino(2)?, length: row.number(0, "length")?, removed: row.int(1)? }))
        })
        .await
    }

    async fn scan_sustained(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u64, Ino)>, MetaError> {
        self.page(&self.sql.scan.sustained, from, limit, |row| Ok((row.int(2)?, (row.number(0, "sid")?, row.ino(1)?))))
            .await
    }

    async fn scan_dir_usage(&self, from: &[u8], limit: usize) -> Result<ScanPage<(Ino, DirUsage)>, MetaError> {
        self.page(&self.sql.scan.dir_usage, from, limit, |row| {
            let usage = DirUsage { length: row.int(0)?, space: row.int(1)?, inodes: row.int(2)? };
            Ok((row.int(3)?, (row.ino(3)?, usage)))
        })
        .await
    }

    async fn scan_acls(&self, from: &[u8], limit: usize) -> Result<ScanPage<(u32, AclRule)>, MetaError> {
        self.page(&self.sql.scan.acls, from, limit, |row| Ok((row.int(6)?, (row.number(6, "id")?, row.acl()?)))).await
    }

    async fn last_serial(&self, serial: Serial) -> Result<u64, MetaError> {
        let args = Args::default().with(serial_name(serial));
        let last = self.row(&self.sql.counter, args, |row| row.int(0)).await?.unwrap_or(0);
        Ok(u64::try_from(last).unwrap_or(0))
    }

    async fn symlinks_of(&self, inos: &[Ino]) -> Result<Vec<(Ino, Bytes)>, MetaError> {
        self.rows_of(&self.sql.scan.symlinks_of, inos, |row| Ok((row.ino(0)?, row.bytes(1)?))).await
    }

    async fn xattrs_of(&self, inos: &[Ino]) -> Result<Vec<Xattr>, MetaError> {
        self.rows_of(&self.sql.scan.xattrs_of, inos, |row| {
            Ok(Xattr { ino: row.ino(0)?, name: row.bytes(1)?, value: row.bytes(2)? })
        })
        .await
    }

    async fn chunks_of(&self, inos: &[Ino]) -> Result<Vec<ChunkSlices>, MetaError> {
        self.rows_of(&self.sql.scan.chunks_of, inos, |row| {
            Ok(ChunkSlices { ino: row.ino(0)?, index: row.number(1, "indx")?, slices: row.slices(2)? })
        })
        .await
    }
}
