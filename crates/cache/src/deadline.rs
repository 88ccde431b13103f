//! A request's deadline over the work done for it.

use shoal_runtime::clock;
use shoal_types::{BlockKey, Ctx};

use crate::error::CacheError;

/// `work`, or `Timeout` once `ctx.deadline` has passed; without a deadline as long as `work` takes.
pub(crate) async fn in_time<T>(
    ctx: &Ctx,
    key: &BlockKey,
    work: impl Future<Output = Result<T, CacheError>>,
) -> Result<T, CacheError> {
    let Some(deadline) = ctx.deadline else { return work.await };
    let waited = deadline.saturating_duration_since(clock::now());
    let late = |_| Err(CacheError::Timeout { key: key.clone(), waited });
    clock::timeout(waited, work).await.unwrap_or_else(late)
}
