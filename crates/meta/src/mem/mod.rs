//! A metadata database in memory, for tests: the key-value convention for parents and references, real transactions.
//!
//! One writer at a time, as SQLite; readers see the last committed state. A transaction works on a copy of everything,
//! which is fine for the thousands of inodes of a test and for nothing else.

mod accounting;
mod changelog;
mod data;
mod detached;
mod load;
mod locks;
mod namespace;
mod quotas;
mod removal;
mod scan;
mod sessions;
mod state;
mod txn;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use shoal_format::AclRule;

use self::state::State;
use self::txn::MemTxn;
use self::view::Committed;
use crate::engine::{Accounting, Engine, Records, Txn};
use crate::error::MetaError;
use crate::quota::Quota;

const NAME: &str = "mem://";

/// A database in memory. Clones of the `Arc` share it.
#[derive(Debug, Default)]
pub struct MemEngine {
    records: Committed,
    writer: Arc<tokio::sync::Mutex<()>>,
    failing_commits: Arc<AtomicU32>,
    batched: bool,
    lost_answers: Arc<AtomicU32>,
}

impl MemEngine {
    /// An empty database, without a volume.
    pub fn new() -> Arc<MemEngine> {
        Arc::new(MemEngine::default())
    }

    /// An empty database whose clients sum use up before they write it, as those of databases with many writers do.
    pub fn batched() -> Arc<MemEngine> {
        Arc::new(MemEngine { batched: true, ..MemEngine::default() })
    }

    /// Lets the next `n` commits fail as contended, as an optimistic database does.
    pub fn fail_commits(&self, n: u32) {
        self.failing_commits.store(n, Ordering::Relaxed);
    }

    /// Lets the next `n` commits take place and fail as unavailable, as where a connection breaks before the answer.
    pub fn lose_answers(&self, n: u32) {
        self.lost_answers.store(n, Ordering::Relaxed);
    }

    /// Sets a quota, with whatever use it says.
    pub fn set_quota(&self, quota: Quota) {
        let mut state = self.records.0.write();
        Arc::make_mut(&mut state).quotas.insert(quota.key, quota);
    }

    /// Stores an ACL rule under an id.
    pub fn set_acl(&self, id: u32, rule: AclRule) {
        let mut state = self.records.0.write();
        Arc::make_mut(&mut state).acls.insert(id, rule);
    }
}

#[async_trait]
impl Engine for MemEngine {
    fn name(&self) -> &str {
        NAME
    }

    fn records(&self) -> &dyn Records {
        &self.records
    }

    fn accounting(&self) -> Accounting {
        if self.batched { Accounting::Batched } else { Accounting::InTransaction }
    }

    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError> {
        let turn = self.writer.clone().lock_owned().await;
        let state = Mutex::new(State::clone(&self.records.0.read()));
        let (failing_commits, lost_answers) = (self.failing_commits.clone(), self.lost_answers.clone());
        Ok(Box::new(MemTxn { state, committed: self.records.clone(), failing_commits, lost_answers, _turn: turn }))
    }

    async fn sync(&self) -> Result<(), MetaError> {
        Ok(())
    }

    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use shoal_format::{AclRule, FileType, Ino};
    use shoal_types::ErrorKind;

    use super::*;
    use crate::meta::Meta;
    use crate::testing::sample::{BatchBuilder, attr, settings};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_conforms() {
        crate::testing::conformance(|| async { MemEngine::new() as Arc<dyn Engine> }).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_whose_use_is_summed_up_conforms() {
        crate::testing::conformance(|| async { MemEngine::batched() as Arc<dyn Engine> }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn contended_commits_are_tried_again_but_not_for_ever() {
        let engine = MemEngine::new();
        let meta = Meta::new(engine.clone());
        meta.init(&settings(), false).await.unwrap();
        engine.fail_commits(10);
        assert_eq!(meta.alloc_inodes(5).await.unwrap(), 2..7);
        engine.fail_commits(1000);
        assert_eq!(meta.alloc_inodes(5).await.unwrap_err().kind(), ErrorKind::Unavailable);
        engine.fail_commits(0);
        assert_eq!(meta.alloc_inodes(5).await.unwrap(), 7..12);
    }

    #[tokio::test]
    async fn acl_rules_show_as_extended_attributes() {
        let engine = MemEngine::new();
        let meta = Meta::new(engine.clone());
        meta.init(&settings(), false).await.unwrap();
        let rule = AclRule { owner: Some(7), mask: Some(5), ..AclRule::default() };
        engine.set_acl(3, rule.clone());
        let f = meta.alloc_inodes(2).await.unwrap().start;
        let mut with_rule = attr(FileType::Regular, 0o644);
        with_rule.access_acl = 3;
        let mut dangling = attr(FileType::Regular, 0o644);
        dangling.access_acl = 4;
        let batch = BatchBuilder::new().entry(1, b"a", f, with_rule).entry(1, b"b", f + 1, dangling);
        meta.import(batch.build()).await.unwrap();
        let name = b"system.posix_acl_access";
        assert_eq!(meta.getxattr(Ino(f), name).await.unwrap().unwrap(), rule.to_xattr());
        assert_eq!(meta.listxattr(Ino(f)).await.unwrap(), [&name[..]]);
        assert_eq!(meta.getxattr(Ino(f), b"system.posix_acl_default").await.unwrap(), None);
        assert_eq!(meta.getxattr(Ino(f + 1), name).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
