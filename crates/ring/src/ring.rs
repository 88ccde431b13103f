//! The ring: members in, owners out.

use hashring::HashRing;
use shoal_types::{BlockId, NodeId};

use crate::position::{Point, Vnode, fingerprint, position};
use crate::weight::{VNODES_PER_100, WEIGHT_MAX, vnodes};

/// First bytes of what [`Ring::epoch`] hashes: names the placement rules, so that other rules are another epoch.
const EPOCH_DOMAIN: &[u8] = b"shoal ring 1";

/// A node as the ring sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingMember {
    /// Which node.
    pub id: NodeId,
    /// Share of the key space relative to the others, `1..=WEIGHT_MAX`; 100 is one ordinary node.
    pub weight: u32,
}

/// An immutable snapshot of who owns which blocks. Build a new one when members change; share it behind an `Arc`.
#[derive(Clone)]
pub struct Ring {
    /// Owner lookup; private in its crate, hence the sorted copy below for everything else.
    circle: HashRing<Vnode>,
    /// Positions of all vnodes, ascending and distinct.
    positions: Vec<u64>,
    /// `nodes[i]` is the index in `members` of the node at `positions[i]`.
    nodes: Vec<u32>,
    /// Ascending by id, distinct.
    members: Vec<RingMember>,
    /// Part of the key space of `members[i]`; sums to 1.
    shares: Vec<f64>,
    epoch: u64,
}

impl Ring {
    /// The ring of `members`, in any order. Weights are clamped to `1..=WEIGHT_MAX`; of two entries with the same id the one
    /// with the smaller weight counts.
    pub fn new(members: &[RingMember]) -> Ring {
        let members = canonical(members);
        let points = points(&members);
        let mut circle = HashRing::new();
        circle.batch_add(points.iter().map(|point| point.vnode).collect());
        let positions: Vec<u64> = points.iter().map(|point| point.position).collect();
        let nodes: Vec<u32> = points.iter().map(|point| point.member).collect();
        let shares = shares(&positions, &nodes, members.len());
        let epoch = epoch(&members);
        Ring { circle, positions, nodes, members, shares, epoch }
    }

    /// The block's owner and then its replicas, nearest first: at most `n` distinct nodes, fewer if the ring has fewer.
    pub fn owners(&self, block: BlockId, n: usize) -> Vec<NodeId> {
        let wanted = n.min(self.members.len());
        let mut owners = Vec::with_capacity(wanted);
        let start = self.first_at(position(Point(block)));
        // Every member has a vnode, so one turn of the circle meets them all.
        for &node in self.nodes[start..].iter().chain(&self.nodes[..start]) {
            if owners.len() == wanted {
                break;
            }
            let id = self.members[node as usize].id;
            if !owners.contains(&id) {
                owners.push(id);
            }
        }
        owners
    }

    /// The block's owner; `None` on an empty ring.
    pub fn owner(&self, block: BlockId) -> Option<NodeId> {
        self.circle.get(&Point(block)).map(|vnode| vnode.node)
    }

    /// Fingerprint of the members and weights: equal on every machine exactly where the owners are. Never 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Part of the key space `node` owns, `0.0..=1.0`, exact up to rounding; 0 for a stranger.
    pub fn share(&self, node: NodeId) -> f64 {
        self.index_of(node).map_or(0.0, |index| self.shares[index])
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True if no node is in the ring.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The nodes and their (clamped) weights, ascending by id.
    pub fn members(&self) -> &[RingMember] {
        &self.members
    }

    /// True if `node` is in the ring.
    pub fn contains(&self, node: NodeId) -> bool {
        self.index_of(node).is_some()
    }

    /// Positions of all vnodes, ascending.
    pub(crate) fn positions(&self) -> &[u64] {
        &self.positions
    }

    /// The node that owns `position`; `None` on an empty ring.
    pub(crate) fn owner_at(&self, position: u64) -> Option<NodeId> {
        let node = *self.nodes.get(self.first_at(position))?;
        Some(self.members[node as usize].id)
    }

    fn index_of(&self, node: NodeId) -> Option<usize> {
        self.members.binary_search_by_key(&node, |member| member.id).ok()
    }

    /// Index of the first vnode at or after `position`, around the circle; 0 on an empty ring.
    fn first_at(&self, position: u64) -> usize {
        let index = self.positions.partition_point(|&at| at < position);
        if index == self.positions.len() { 0 } else { index }
    }
}

impl Default for Ring {
    fn default() -> Ring {
        Ring::new(&[])
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} nodes, epoch {:016x})", self.members.len(), self.epoch)
    }
}

/// Sorted, distinct, with weights in bounds.
fn canonical(members: &[RingMember]) -> Vec<RingMember> {
    let mut members: Vec<RingMember> =
        members.iter().map(|member| RingMember { id: member.id, weight: member.weight.clamp(1, WEIGHT_MAX) }).collect();
    members.sort_unstable();
    members.dedup_by_key(|member| member.id);
    members
}

struct PlacedVnode {
    position: u64,
    member: u32,
    vnode: Vnode,
}

/// All vnodes by position. Where two fall on one position the node with the smaller id keeps it, so that the owner never
/// depends on the order of a sort or on where a binary search lands.
fn points(members: &[RingMember]) -> Vec<PlacedVnode> {
    let total: usize = members.iter().map(|member| vnodes(member.weight) as usize).sum();
    let mut points = Vec::with_capacity(total);
    for (member, &RingMember { id, weight }) in (0u32..).zip(members) {
        for number in 0..vnodes(weight) {
            let vnode = Vnode { node: id, number };
            points.push(PlacedVnode { position: position(vnode), member, vnode });
        }
    }
    points.sort_unstable_by_key(|point| (point.position, point.member, point.vnode.number));
    points.dedup_by_key(|point| point.position);
    points
}

/// Each member's sum of arcs, as a part of the circle. A vnode owns the arc from the vnode before it (excluded) to itself.
fn shares(positions: &[u64], nodes: &[u32], members: usize) -> Vec<f64> {
    const CIRCLE: f64 = 18_446_744_073_709_551_616.0; // 2^64
    let mut arcs = vec![0u128; members];
    let mut before = positions.last().copied().unwrap_or(0);
    for (&at, &node) in positions.iter().zip(nodes) {
        let arc = at.wrapping_sub(before);
        // A single vnode is its own predecessor and owns the whole circle, which wraps to 0.
        arcs[node as usize] += if positions.len() == 1 { 1u128 << 64 } else { u128::from(arc) };
        before = at;
    }
    arcs.into_iter().map(|arc| arc as f64 / CIRCLE).collect()
}

fn epoch(members: &[RingMember]) -> u64 {
    let mut bytes = Vec::with_capacity(EPOCH_DOMAIN.len() + 4 + members.len() * 20);
    bytes.extend_from_slice(EPOCH_DOMAIN);
    bytes.extend_from_slice(&VNODES_PER_100.to_le_bytes());
    for member in members {
        bytes.extend_from_slice(&member.id.0);
        bytes.extend_from_slice(&member.weight.to_le_bytes());
    }
    fingerprint(&bytes).max(1)
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
