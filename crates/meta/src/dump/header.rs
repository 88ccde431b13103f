//! What stands before the tree: setting, counters, what waits to be deleted, quotas.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use shoal_format::Settings;

use super::Sink;
use super::text::go_escapes;
use crate::engine::{Records, Serial};
use crate::error::MetaError;
use crate::meta::Meta;
use crate::quota::{Quota, QuotaKind};
use crate::record::{Counter, IdKind};

/// Records read at once.
const PAGE: usize = 1000;

pub(super) async fn write(meta: &Meta, keep_secrets: bool, out: &mut Sink) -> Result<(), MetaError> {
    let records = meta.engine().records();
    let mut settings = meta.settings().await?;
    if !keep_secrets {
        settings.remove_secrets();
    }
    out.put(b"{\n").await?;
    member(out, "Setting", &setting(&settings)?, ",\n").await?;
    member(out, "Counters", &counters(records).await?, ",\n").await?;
    sustained(records, out).await?;
    deleted_files(records, out).await?;
    quotas(records, out).await
}

fn setting(settings: &Settings) -> Result<Value, MetaError> {
    let broken = |error| MetaError::Corrupt { what: format!("the setting cannot be written as JSON: {error}") };
    serde_json::from_str(&settings.to_json()).map_err(broken)
}

async fn counters(records: &dyn Records) -> Result<Value, MetaError> {
    Ok(json!({
        "usedSpace": records.counter(Counter::UsedSpace).await?,
        "usedInodes": records.counter(Counter::TotalInodes).await?,
        "nextInodes": records.next_id(IdKind::Inode).await?,
        "nextChunk": records.next_id(IdKind::Slice).await?,
        "nextSession": records.last_serial(Serial::Session).await?,
        "nextTrash": records.last_serial(Serial::TrashDir).await?,
    }))
}

/// Which removed files each session holds open. They have no name, so the tree does not hold them.
async fn sustained(records: &dyn Records, out: &mut Sink) -> Result<(), MetaError> {
    let mut held: Vec<(u64, Vec<u64>)> = Vec::new();
    let mut from = Bytes::new();
    loop {
        let page = records.scan_sustained(&from, PAGE).await?;
        for (sid, ino) in page.records {
            match held.iter_mut().find(|(known, _)| *known == sid) {
                Some((_, inos)) => inos.push(ino.0),
                None => held.push((sid, vec![ino.0])),
            }
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    if !held.is_empty() {
        tracing::warn!("removed files that are still open are not part of a dump: unmount the volume first to be sure");
    }
    let list = held.into_iter().map(|(sid, inodes)| json!({ "sid": sid, "inodes": inodes })).collect();
    member(out, "Sustained", &Value::Array(list), ",\n").await
}

/// Files whose data is still to be deleted, one by one: there may be millions.
async fn deleted_files(records: &dyn Records, out: &mut Sink) -> Result<(), MetaError> {
    out.put(b"  \"DelFiles\": [").await?;
    let (mut from, mut begin) = (Bytes::new(), "\n");
    loop {
        let page = records.scan_deleted_files(&from, PAGE).await?;
        for file in &page.records {
            let (ino, length, removed) = (file.ino, file.length, file.removed);
            let text = format!(
                "{begin}    {{\n      \"inode\": {ino},\n      \"length\": {length},\n      \"expire\": {removed}\n    }}"
            );
            out.put(text.as_bytes()).await?;
            begin = ",\n";
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let end: &[u8] = if begin == "\n" { b"],\n" } else { b"\n  ],\n" };
    out.put(end).await
}

/// Limits by the text of their numbers, as Go sorts keys; nothing where there are none. Users and groups have use without them.
async fn quotas(records: &dyn Records, out: &mut Sink) -> Result<(), MetaError> {
    for (name, kind) in [("Quotas", QuotaKind::Dir), ("UserQuotas", QuotaKind::User), ("GroupQuotas", QuotaKind::Group)]
    {
        let quotas = records.quotas(kind).await?;
        let limited = quotas.iter().filter(|quota| kind == QuotaKind::Dir || quota.is_limited());
        let limits = |quota: &Quota| json!({ "maxSpace": quota.max_space, "maxInodes": quota.max_inodes });
        let sorted: BTreeMap<_, _> = limited.map(|quota| (quota.key.number().to_string(), limits(quota))).collect();
        if !sorted.is_empty() {
            member(out, name, &Value::Object(Map::from_iter(sorted)), ",\n").await?;
        }
    }
    Ok(())
}

/// A member of the outermost object, as Go indents it.
async fn member(out: &mut Sink, name: &str, value: &Value, end: &str) -> Result<(), MetaError> {
    let text = format!("{value:#}").replace('\n', "\n  ");
    out.put(format!("  \"{name}\": {}{end}", go_escapes(text)).as_bytes()).await
}
