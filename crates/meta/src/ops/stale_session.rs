//! Removing the records of a client that died (spec section 13).

use async_trait::async_trait;

use super::change::{Change, ChangeContext};
use crate::changelog::LogEntry;
use crate::effects::Effects;
use crate::engine::{Job, Txn};
use crate::error::MetaError;

/// Whether this client does a periodic job this time.
pub(crate) struct Elect {
    pub(crate) job: Job,
    /// Seconds that must have passed since the job was begun last.
    pub(crate) period: i64,
}

#[async_trait]
impl Change for Elect {
    type Output = bool;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(bool, Effects), MetaError> {
        let elected = txn.elect(self.job, context.now.secs, self.period).await?;
        if elected {
            let entry = || LogEntry::new("SET").bytes(self.job.counter_name().as_bytes()).with(context.now.secs);
            context.log(txn, entry).await?;
        }
        Ok((elected, Effects::default()))
    }
}

/// Removes an expired session whose removed files are let go of. False if it lives again or holds one.
pub(crate) struct ForgetSession {
    pub(crate) sid: u64,
}

#[async_trait]
impl Change for ForgetSession {
    type Output = bool;

    async fn run(&self, txn: &dyn Txn, context: &ChangeContext) -> Result<(bool, Effects), MetaError> {
        let expired = txn.expired_sessions(context.now.secs, usize::MAX).await?.contains(&self.sid);
        let done = expired && txn.sustained(self.sid).await?.is_empty();
        if done {
            txn.delete_session(self.sid).await?;
            context.log(txn, || LogEntry::new("CLEANSESSION").with(self.sid)).await?;
        }
        Ok((done, Effects::default()))
    }
}
