//! Which tiers of which nodes hold blocks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use shoal_cluster::Member;
use shoal_net::Endpoint;
use shoal_types::{BlockKey, NodeId, Tier};
use shoal_wire::{Request, Response, batches};

use crate::nodes::Nodes;

/// The tier of each of some keys, in their order; `None` where a key is not held.
type Tiers = Vec<Option<Tier>>;

/// Each owner of any of `keys` with its tier for each key, by node id. A node that does not answer is left out.
pub(crate) async fn locate(nodes: &Nodes, keys: &[BlockKey]) -> Vec<(Arc<Member>, Tiers)> {
    let mut owned: BTreeMap<NodeId, (Arc<Member>, Vec<usize>)> = BTreeMap::new();
    for (index, key) in keys.iter().enumerate() {
        for owner in nodes.owners(key).0 {
            owned.entry(owner.id).or_insert_with(|| (owner, Vec::new())).1.push(index);
        }
    }
    let ask = owned.into_values().map(|(node, indices)| async move {
        let asked = indices.iter().map(|&index| keys[index].clone()).collect();
        let held = held(&nodes.peers.endpoint, nodes.patience.whole, &node, asked).await?;
        let mut tiers = vec![None; keys.len()];
        indices.into_iter().zip(held).for_each(|(index, tier)| tiers[index] = tier);
        Some((node, tiers))
    });
    join_all(ask).await.into_iter().flatten().collect()
}

/// What `node` says of `keys`, in their order; `None` if it does not answer as it must, each time within `patience`.
pub(crate) async fn held(endpoint: &Endpoint, patience: Duration, node: &Member, keys: Vec<BlockKey>) -> Option<Tiers> {
    let mut held = Vec::with_capacity(keys.len());
    for batch in batches(keys) {
        let asked = batch.len();
        match endpoint.call(node.addr, &Request::Has { keys: batch }, patience).await {
            Ok(Response::Has { tiers }) if tiers.len() == asked => held.extend(tiers),
            Ok(_) => {
                tracing::warn!(node = %node.name, "node answered something else than was asked");
                return None;
            }
            Err(error) => {
                tracing::debug!(node = %node.name, %error, "node does not say what it holds");
                return None;
            }
        }
    }
    Some(held)
}
