//! Records of locks.

use async_trait::async_trait;
use shoal_format::{Ino, LockMode, RangeLock};

use super::txn::MemTxn;
use super::view::View;
use crate::engine::{LockHolder, LockRecords, LockTxn};
use crate::error::MetaError;

/// Every holder is at or after this one.
const FIRST: LockHolder = LockHolder { sid: 0, owner: 0 };

#[async_trait]
impl<V: View> LockRecords for V {
    async fn flocks(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError> {
        self.read(|state| {
            let locks = state.flocks.range((ino, FIRST)..).take_while(|((of, _), _)| *of == ino);
            locks.map(|((_, holder), mode)| (*holder, *mode)).collect()
        })
    }

    async fn plocks(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError> {
        self.read(|state| {
            let locks = state.plocks.range((ino, FIRST)..).take_while(|((of, _), _)| *of == ino);
            locks.map(|((_, holder), locks)| (*holder, locks.clone())).collect()
        })
    }
}

#[async_trait]
impl LockTxn for MemTxn {
    async fn flocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, LockMode)>, MetaError> {
        self.flocks(ino).await
    }

    async fn plocks_locked(&self, ino: Ino) -> Result<Vec<(LockHolder, Vec<RangeLock>)>, MetaError> {
        self.plocks(ino).await
    }

    async fn put_flock(&self, ino: Ino, holder: LockHolder, mode: Option<LockMode>) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        match mode {
            Some(mode) => drop(state.flocks.insert((ino, holder), mode)),
            None => drop(state.flocks.remove(&(ino, holder))),
        }
        Ok(())
    }

    async fn put_plocks(&self, ino: Ino, holder: LockHolder, locks: &[RangeLock]) -> Result<(), MetaError> {
        let mut state = self.state.lock();
        if locks.is_empty() {
            state.plocks.remove(&(ino, holder));
        } else {
            state.plocks.insert((ino, holder), locks.to_vec());
        }
        Ok(())
    }
}
