//! Bulk load: many new inodes in one transaction.

use std::collections::HashMap;

use async_trait::async_trait;
use shoal_format::{Attr, Ino, Settings, Time};

use super::import_plan::{ImportBatch, Plan};
use super::settings::settings_for_change;
use super::usage::{add_dir_usage, charge_quotas};
use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::record::{Counter, IdKind};
use crate::retry::Operation;

/// Writes a batch.
pub(crate) struct Import<'a> {
    pub(crate) at: &'a str,
    pub(crate) batch: &'a ImportBatch,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for Import<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let settings = settings_for_change(txn, self.at).await?;
        import(txn, &settings, self.batch, self.now).await
    }
}

/// Writes `batch` into the volume of `settings`.
pub(crate) async fn import(
    txn: &dyn Txn,
    settings: &Settings,
    batch: &ImportBatch,
    now: Time,
) -> Result<(), MetaError> {
    check_ids(txn, batch).await?;
    let external = batch.external();
    let found = txn.attrs(&external).await?;
    let existing: HashMap<Ino, Attr> =
        external.into_iter().zip(found).filter_map(|(ino, attr)| Some((ino, attr?))).collect();
    let plan = Plan::new(batch, &existing, now)?;
    check_capacity(txn, settings, &plan).await?;

    txn.insert_dentries(&plan.dentries).await?;
    txn.insert_attrs(&plan.attrs).await?;
    txn.insert_symlinks(&plan.symlinks).await?;
    txn.put_xattrs(&plan.xattrs).await?;
    txn.append_slices(&plan.chunks).await?;
    txn.insert_slice_refs(&plan.slices).await?;
    txn.add_parents(&plan.parents).await?;
    txn.update_attrs(&plan.changed).await?;
    if settings.dir_stats {
        txn.put_dir_usage(&plan.new_usage).await?;
        add_dir_usage(txn, &plan.added_usage).await?;
        charge_quotas(txn, &[&plan.new_usage[..], &plan.added_usage].concat()).await?;
    }
    txn.add_counter(Counter::UsedSpace, plan.space).await?;
    txn.add_counter(Counter::TotalInodes, plan.attrs.len() as i64).await
}

/// Refuses ids that nobody handed out: a real client would hand them out again.
async fn check_ids(txn: &dyn Txn, batch: &ImportBatch) -> Result<(), MetaError> {
    let inode = batch.entries.iter().map(|entry| entry.ino.0).max().unwrap_or(0);
    if inode >= txn.next_id(IdKind::Inode).await? && inode > 0 {
        return Err(MetaError::invalid(format!("inode {inode} was never taken")));
    }
    let records = batch.entries.iter().flat_map(|entry| &entry.chunks).flat_map(|(_, slices)| slices);
    let slice = records.map(|record| record.id).max().unwrap_or(0);
    if slice >= txn.next_id(IdKind::Slice).await? && slice > 0 {
        return Err(MetaError::invalid(format!("slice {slice} was never taken")));
    }
    Ok(())
}

async fn check_capacity(records: &dyn Records, settings: &Settings, plan: &Plan) -> Result<(), MetaError> {
    let exceeded =
        |limit: u64, used: i64, more: i64| limit > 0 && used.saturating_add(more) as i128 > i128::from(limit);
    let volume = &settings.name;
    if exceeded(settings.capacity, records.counter(Counter::UsedSpace).await?, plan.space) {
        let limit = settings.capacity;
        return Err(MetaError::NoSpace { what: format!("volume `{volume}` holds at most {limit} bytes") });
    }
    if exceeded(settings.inodes, records.counter(Counter::TotalInodes).await?, plan.attrs.len() as i64) {
        let limit = settings.inodes;
        return Err(MetaError::NoSpace { what: format!("volume `{volume}` holds at most {limit} inodes") });
    }
    Ok(())
}
