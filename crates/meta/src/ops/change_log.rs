//! Removing entries of the change log that are older, or more, than the volume keeps (spec section 20).

use async_trait::async_trait;

use super::change::{Change, ChangeContext};
use crate::changelog::logged_at;
use crate::effects::Effects;
use crate::engine::Txn;
use crate::error::MetaError;

/// Entries looked at, and at most removed for their age, in one transaction.
const PAGE: usize = 10_000;

/// Removes what is too much of the change log; true if there may be more.
pub(crate) struct TrimChanges;

#[async_trait]
impl Change for TrimChanges {
    type Output = bool;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(bool, Effects), MetaError> {
        let (settings, mut end) = (&context.settings, 0);
        if let Ok(lines) = u64::try_from(settings.change_log_max_lines)
            && lines > 0
        {
            end = txn.newest_change().await?.saturating_sub(lines);
        }
        let mut more = false;
        if settings.change_log_max_age > 0 {
            let edge = context.now.secs.saturating_sub(settings.change_log_max_age);
            let page = txn.changes(end, PAGE).await?;
            let old = page.iter().take_while(|change| logged_at(&change.entry).is_some_and(|at| at < edge));
            let old: Vec<u64> = old.map(|change| change.version).collect();
            more = old.len() == PAGE;
            end = old.last().copied().unwrap_or(end);
        }
        if end > 0 {
            txn.remove_changes(end).await?;
        }
        Ok((more, Effects::default()))
    }
}
