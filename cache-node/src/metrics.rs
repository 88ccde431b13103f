//! What an operator sees of the node as a whole.

use shoal_runtime::metrics::{Gauge, Registry};

/// The node's own metrics.
#[derive(Debug, Clone)]
pub(crate) struct NodeMetrics {
    /// 1 from the moment the node is leaving.
    pub(crate) draining: Gauge,
}

impl NodeMetrics {
    pub(crate) fn register(registry: &Registry) -> NodeMetrics {
        NodeMetrics {
            draining: registry
                .gauge("shoal_node_draining", "1 while this node hands its blocks over to leave the ring"),
        }
    }
}
