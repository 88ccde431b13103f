//! Bulk load: many new inodes in one transaction.

use std::collections::HashMap;

use async_trait::async_trait;
use shoal_format::{Attr, Ino, Settings, Time};

use super::acl::inherit_acl;
use super::acl_rules::AclRules;
use super::create::created;
use super::import_plan::{ImportBatch, Plan};
use super::setattr::entry as set_attributes;
use super::settings::settings_for_change;
use super::settle::{Limits, settle, write_effects};
use super::write::written;
use crate::changelog::{LogEntry, LogWriter};
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::IdKind;
use crate::retry::Operation;

/// Writes a batch.
pub(crate) struct Import<'a> {
    pub(crate) at: &'a str,
    pub(crate) batch: &'a ImportBatch,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
}

#[async_trait]
impl Operation for Import<'_> {
    type Output = ();

    async fn run(&self, txn: &dyn Txn) -> Result<(), MetaError> {
        let settings = settings_for_change(txn, self.at).await?;
        import(txn, &settings, self.batch, self.log, self.now).await
    }
}

/// Writes `batch` into the volume of `settings`.
pub(crate) async fn import(
    txn: &dyn Txn,
    settings: &Settings,
    batch: &ImportBatch,
    log: &LogWriter,
    now: Time,
) -> Result<(), MetaError> {
    check_ids(txn, batch).await?;
    let external = batch.external();
    let found = txn.attrs_locked(&external).await?;
    let existing: HashMap<Ino, Attr> =
        external.into_iter().zip(found).filter_map(|(ino, attr)| Some((ino, attr?))).collect();
    let mut plan = Plan::new(batch, &existing, now)?;
    inherit_acls(txn, batch, &existing, &mut plan.attrs).await?;

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
    }
    let mut effects = Effects::default();
    plan.attrs.iter().for_each(|(_, attr)| effects.inode_added(attr));
    // Quotas are charged with what is new anywhere; statistics of new directories are complete already.
    effects.dirs = plan.added_usage.iter().copied().collect();
    effects.trees = plan.new_usage.iter().copied().collect();
    let limits = Limits::load_for(txn, settings, &effects).await?;
    settle(txn, settings, &limits, &mut effects).await?;
    write_effects(txn, settings, &effects).await?;
    if settings.change_log {
        for entry in entries(batch, &plan, now) {
            log.append(txn, settings, now, || entry).await?;
        }
    }
    Ok(())
}

/// What new inodes have from default ACLs of directories of the volume: from the top down, since new directories hand them on.
async fn inherit_acls(
    txn: &dyn Txn,
    batch: &ImportBatch,
    existing: &HashMap<Ino, Attr>,
    attrs: &mut [(Ino, Attr)],
) -> Result<(), MetaError> {
    let mut above: Vec<(Ino, Attr)> = existing.iter().map(|(ino, attr)| (*ino, attr.clone())).collect();
    above.retain(|(_, attr)| attr.default_acl != 0);
    if above.is_empty() {
        return Ok(());
    }
    let rules = AclRules::default();
    // Attributes are in the order of entries.
    let mut children: HashMap<Ino, Vec<usize>> = HashMap::new();
    batch.entries.iter().enumerate().for_each(|(at, entry)| children.entry(entry.parent).or_default().push(at));
    while let Some((dir, dir_attr)) = above.pop() {
        for at in children.remove(&dir).unwrap_or_default() {
            let (ino, attr) = &mut attrs[at];
            inherit_acl(txn, &rules, *ino, attr, &dir_attr).await?;
            if attr.default_acl != 0 {
                above.push((*ino, attr.clone()));
            }
        }
    }
    Ok(())
}

/// The log entries of a batch: what a client would have done one by one.
fn entries(batch: &ImportBatch, plan: &Plan, now: Time) -> Vec<LogEntry> {
    let attrs: HashMap<Ino, &Attr> = plan.attrs.iter().chain(&plan.changed).map(|(ino, attr)| (*ino, attr)).collect();
    let mut log = Vec::new();
    for new in &batch.entries {
        let (ino, &Attr { uid, gid, kind, mode, .. }) = (new.ino, &new.attr);
        let target: &[u8] = new.symlink.as_deref().unwrap_or_default();
        let entry = created(new.parent, &new.name, (uid, gid), kind, mode).with(0).bytes(target);
        log.push(entry.bytes(b"linux").with(true).result(ino));
        for (index, slices) in &new.chunks {
            let each = slices.iter().zip(1..);
            log.extend(each.map(|(record, n)| written(ino, *index, record, new.attr.mtime).result(n)));
        }
        log.extend(
            new.xattrs.iter().map(|xattr| LogEntry::new("SETXATTR").with(ino).bytes(&xattr.0).bytes(&xattr.1).with(0)),
        );
        let times = new.attr.atime != now || new.attr.mtime != now;
        if let Some(attr) = attrs.get(&ino).filter(|_| times) {
            log.push(set_attributes(ino, EVERYTHING, attr));
        }
    }
    let mut names: HashMap<Ino, u32> = HashMap::new();
    for link in batch.links.iter().rev() {
        // The last of a file's names made it what it is now.
        let later = names.entry(link.ino).or_default();
        let nlink = attrs.get(&link.ino).map_or(0, |attr| attr.nlink.saturating_sub(*later));
        *later += 1;
        log.push(LogEntry::new("LINK").with(link.ino).with(link.parent).bytes(&link.name).with(true).result(nlink));
    }
    log
}

/// Mode, owner, group and both times.
const EVERYTHING: u32 = 1 | 2 | 4 | 16 | 32;

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
