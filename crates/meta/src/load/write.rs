//! Writes what a dump holds, some thousand records a transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use shoal_format::{Attr, ClientRole, Ino, Settings};

use super::batch::{Batch, Totals};
use crate::engine::{Serial, SessionRecord, Txn};
use crate::error::MetaError;
use crate::ops::{count_owners, put_owners};
use crate::record::{Counter, IdKind, ParentCount, SliceRef};
use crate::retry::Operation;

/// Files with several names that get their counts in one transaction.
pub(super) const LINKED_PER_TXN: usize = 1000;

/// Makes the tables, and makes sure that nothing is in them.
pub(super) struct Begin<'a> {
    pub(super) at: &'a str,
    pub(super) settings: &'a Settings,
}

#[async_trait]
impl Operation for Begin<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        self.settings.check_client_as(ClientRole::ReadOnly)?;
        txn.create_schema().await?;
        if let Some(json) = txn.setting().await? {
            let name = Settings::parse(&json).map_or_else(|_| "unknown".to_owned(), |settings| settings.name);
            return Err(MetaError::VolumeExists { name, at: self.at.to_owned() });
        }
        if txn.attr(Ino::ROOT).await?.is_some() || !txn.scan_dentries(&[], 1).await?.records.is_empty() {
            return Err(MetaError::NotEmpty { at: self.at.to_owned() });
        }
        Ok(())
    }
}

/// Writes a batch.
pub(super) struct WriteBatch<'a>(pub(super) &'a Batch);

#[async_trait]
impl Operation for WriteBatch<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let batch = self.0;
        txn.insert_dentries(&batch.dentries).await?;
        txn.insert_attrs(&batch.attrs).await?;
        txn.insert_symlinks(&batch.symlinks).await?;
        txn.put_xattrs(&batch.xattrs).await?;
        txn.append_slices(&batch.chunks).await?;
        txn.insert_slice_refs(&batch.new_slices).await?;
        let unknown = txn.add_slice_refs(&counted(&batch.more_refs)).await?;
        if let Some(slice) = unknown.first() {
            return Err(MetaError::Corrupt { what: format!("slice {} is named twice and is not there", slice.id) });
        }
        txn.add_parents(&batch.parents).await?;
        txn.put_dir_usage(&batch.usage).await?;
        txn.insert_deleted_files(&batch.deleted_files).await?;
        for (sid, ino) in &batch.sustained {
            // Its client is not one of this volume: others are to clean up behind it.
            txn.put_session(&SessionRecord { sid: *sid, expire: 1, info: Bytes::from_static(b"{}") }).await?;
            txn.insert_sustained(*sid, &[*ino]).await?;
        }
        Ok(())
    }
}

fn counted(refs: &[SliceRef]) -> Vec<SliceRef> {
    let mut counts: BTreeMap<(u64, u32), u32> = BTreeMap::new();
    refs.iter().for_each(|slice| *counts.entry((slice.id, slice.size)).or_default() += slice.count);
    counts.into_iter().map(|((id, size), count)| SliceRef { id, size, count }).collect()
}

/// Writes link counts and first parents of files with several names.
pub(super) struct WriteLinked<'a>(pub(super) &'a [(Ino, u32)]);

#[async_trait]
impl Operation for WriteLinked<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let inos: Vec<Ino> = self.0.iter().map(|(ino, _)| *ino).collect();
        let found = txn.attrs_locked(&inos).await?;
        let (mut attrs, mut parents) = (Vec::new(), Vec::new());
        for ((ino, nlink), attr) in self.0.iter().zip(found) {
            let attr = attr.ok_or_else(|| MetaError::no_inode(*ino))?;
            parents.push(ParentCount { ino: *ino, parent: attr.parent, count: 1 });
            attrs.push((*ino, Attr { nlink: *nlink, parent: Ino::NONE, ..attr }));
        }
        txn.update_attrs(&attrs).await?;
        txn.add_parents(&parents).await
    }
}

/// Writes what is known only at the end, and the setting: until then there is no volume.
pub(super) struct Finish<'a> {
    pub(super) settings: &'a Settings,
    pub(super) totals: &'a Totals,
}

#[async_trait]
impl Operation for Finish<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let totals = self.totals;
        // Engines give no ids out without a volume.
        txn.put_setting(&self.settings.to_json()).await?;
        txn.load_acls(&totals.acls).await?;
        txn.put_quotas(&totals.quotas).await?;
        if self.settings.user_group_quota {
            put_owners(txn, &count_owners(txn).await?).await?;
        }
        txn.add_counter(Counter::UsedSpace, totals.space).await?;
        txn.add_counter(Counter::TotalInodes, totals.inodes).await?;
        for (kind, next) in [(IdKind::Inode, totals.next_inode), (IdKind::Slice, totals.next_slice)] {
            let free = txn.next_id(kind).await?;
            if next > free {
                txn.take_ids(kind, next - free).await?;
            }
        }
        txn.raise_serial(Serial::TrashDir, totals.last_trash).await
    }
}
