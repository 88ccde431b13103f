//! Taking ids in batches (spec section 12).

use std::ops::Range;

use async_trait::async_trait;

use crate::engine::Txn;
use crate::error::MetaError;
use crate::record::IdKind;
use crate::retry::Operation;

/// Most ids of one batch: far above any use, far below where the counter could overflow.
const IDS_MAX: u64 = 1 << 32;

/// Takes `n` ids of a kind.
pub(crate) struct TakeIds {
    pub(crate) kind: IdKind,
    pub(crate) n: u64,
}

#[async_trait]
impl Operation for TakeIds {
    type Output = Range<u64>;

    async fn run(&self, txn: &dyn Txn) -> Result<Range<u64>, MetaError> {
        if !(1..=IDS_MAX).contains(&self.n) {
            return Err(MetaError::invalid(format!("{} ids cannot be taken at once, 1 to {IDS_MAX} can", self.n)));
        }
        txn.take_ids(self.kind, self.n).await
    }
}
