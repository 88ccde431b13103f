//! Taking ids in batches (spec section 12).

use std::ops::Range;

use async_trait::async_trait;
use shoal_format::Time;

use super::settings::settings;
use crate::changelog::{LogEntry, LogWriter};
use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::IdKind;
use crate::retry::Operation;

/// Most ids of one batch: far above any use, far below where the counter could overflow.
const IDS_MAX: u64 = 1 << 32;

/// Takes `n` ids of a kind.
pub(crate) struct TakeIds<'a> {
    pub(crate) at: &'a str,
    pub(crate) log: &'a LogWriter,
    pub(crate) now: Time,
    pub(crate) kind: IdKind,
    pub(crate) n: u64,
}

#[async_trait]
impl Operation for TakeIds<'_> {
    type Output = Range<u64>;

    async fn run(&self, txn: &dyn Txn) -> Result<Range<u64>, MetaError> {
        if !(1..=IDS_MAX).contains(&self.n) {
            return Err(MetaError::invalid(format!("{} ids cannot be taken at once, 1 to {IDS_MAX} can", self.n)));
        }
        let ids = txn.take_ids(self.kind, self.n).await?;
        let name = match self.kind {
            IdKind::Inode => "nextInode",
            IdKind::Slice => "nextChunk",
        };
        let settings = settings(txn, self.at).await?;
        let entry = || LogEntry::new("INCR_COUNTER").bytes(name.as_bytes()).with(self.n);
        self.log.append(txn, &settings, self.now, entry).await?;
        Ok(ids)
    }
}
