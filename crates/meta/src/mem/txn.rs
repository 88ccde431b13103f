//! A transaction: a copy of everything, and the only writer's turn.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use shoal_types::ErrorKind;
use tokio::sync::OwnedMutexGuard;

use super::NAME;
use super::state::{State, first_id};
use super::view::{Committed, View};
use crate::engine::{Records, Txn};
use crate::error::MetaError;
use crate::record::IdKind;

pub(super) struct MemTxn {
    pub(super) state: Mutex<State>,
    pub(super) committed: Committed,
    pub(super) failing_commits: Arc<AtomicU32>,
    pub(super) lost_answers: Arc<AtomicU32>,
    pub(super) _turn: OwnedMutexGuard<()>,
}

impl View for MemTxn {
    fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.lock())
    }
}

#[async_trait]
impl Txn for MemTxn {
    async fn create_schema(&self) -> Result<(), MetaError> {
        self.state.lock().has_schema = true;
        Ok(())
    }

    async fn drop_schema(&self) -> Result<(), MetaError> {
        *self.state.lock() = State::default();
        Ok(())
    }

    async fn put_setting(&self, json: &str) -> Result<(), MetaError> {
        self.state.lock().setting = Some(json.to_owned());
        Ok(())
    }

    async fn take_ids(&self, kind: IdKind, n: u64) -> Result<Range<u64>, MetaError> {
        self.next_id(kind).await?;
        let mut state = self.state.lock();
        let next = state.next_ids.entry(kind).or_insert_with(|| first_id(kind));
        let first = *next;
        *next += n;
        Ok(first..*next)
    }

    async fn commit(self: Box<Self>) -> Result<(), MetaError> {
        if counted_down(&self.failing_commits) {
            return Err(MetaError::Contended { at: NAME.to_owned() });
        }
        *self.committed.0.write() = Arc::new(self.state.into_inner());
        if counted_down(&self.lost_answers) {
            let (at, detail) = (NAME.to_owned(), "the connection broke".to_owned());
            return Err(MetaError::Database { at, detail, kind: ErrorKind::Unavailable });
        }
        Ok(())
    }
}

/// True, and one less, unless it is zero.
fn counted_down(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
}
