//! Counters of the metadata layer.

use shoal_runtime::metrics::{Counter, Registry};

/// Metrics of one client's metadata.
#[derive(Debug)]
pub(crate) struct MetaMetrics {
    /// Transactions begun.
    pub transactions: Counter,
}

impl MetaMetrics {
    pub(crate) fn register(registry: &Registry) -> MetaMetrics {
        let help = "Write transactions begun in the metadata database; one that was in another's way counts again";
        MetaMetrics { transactions: registry.counter("shoal_meta_transactions_total", help) }
    }
}
