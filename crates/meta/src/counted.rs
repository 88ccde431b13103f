//! An engine whose transactions are counted.

use std::sync::Arc;

use async_trait::async_trait;
use shoal_runtime::metrics::Registry;

use crate::engine::{Accounting, Engine, Records, Txn};
use crate::error::MetaError;
use crate::metrics::MetaMetrics;

#[derive(Debug)]
struct Counted {
    inner: Arc<dyn Engine>,
    metrics: MetaMetrics,
}

/// `inner`, counted in `registry`.
pub fn counted(inner: Arc<dyn Engine>, registry: &Registry) -> Arc<dyn Engine> {
    Arc::new(Counted { inner, metrics: MetaMetrics::register(registry) })
}

#[async_trait]
impl Engine for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn records(&self) -> &dyn Records {
        self.inner.records()
    }

    fn accounting(&self) -> Accounting {
        self.inner.accounting()
    }

    async fn begin(&self) -> Result<Box<dyn Txn>, MetaError> {
        self.metrics.transactions.add(1);
        self.inner.begin().await
    }

    async fn sync(&self) -> Result<(), MetaError> {
        self.inner.sync().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
