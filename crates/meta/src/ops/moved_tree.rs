//! Use of a tree that moves between directories: quotas above its old place lose it, those above the new one gain it
//! (spec section 16.3).

use shoal_format::Ino;

use super::readdir::PAGE;
use super::usage::with_ancestors;
use crate::effects::Effects;
use crate::engine::Records;
use crate::error::MetaError;
use crate::quota::{QuotaKey, QuotaKind};
use crate::record::DirUsage;

/// Charges quotas with everything below directory `tree`, which moves from one directory to another; the directory itself is
/// charged as its parents' child. Counts the tree only where the two places have different quotas above them.
pub(crate) async fn charge_moved_tree(
    records: &dyn Records,
    tree: Ino,
    from: Ino,
    to: Ino,
    effects: &mut Effects,
) -> Result<(), MetaError> {
    let quotas = records.quotas(QuotaKind::Dir).await?;
    if quotas.is_empty() {
        return Ok(());
    }
    let above = async |dir: Ino| -> Result<Vec<QuotaKey>, MetaError> {
        let chain = with_ancestors(records, dir).await?;
        Ok(chain.into_iter().map(QuotaKey::Dir).filter(|key| quotas.iter().any(|quota| quota.key == *key)).collect())
    };
    if above(from).await? == above(to).await? {
        return Ok(());
    }
    let below = match quotas.iter().find(|quota| quota.key == QuotaKey::Dir(tree)) {
        Some(own) => own.usage(),
        None => use_below(records, tree).await?,
    };
    effects.trees.entry(from).or_default().add(below.negated());
    effects.trees.entry(to).or_default().add(below);
    Ok(())
}

/// What lies below `tree`, counted name by name.
pub(crate) async fn use_below(records: &dyn Records, tree: Ino) -> Result<DirUsage, MetaError> {
    let (mut total, mut pending) = (DirUsage::default(), vec![tree]);
    while let Some(dir) = pending.pop() {
        let mut after = bytes::Bytes::new();
        loop {
            let page = records.entries(dir, &after, PAGE).await?;
            for entry in &page {
                let Some(attr) = &entry.attr else { continue };
                total.add(DirUsage::of(attr));
                if attr.is_dir() {
                    pending.push(entry.ino);
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.name.clone(),
                _ => break,
            }
        }
    }
    Ok(total)
}
