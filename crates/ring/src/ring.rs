//! The ring: members in, owners out.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use hashring::HashRing;
use shoal_types::{BlockId, NodeId};

use crate::balance;
use crate::position::{PROBES, fingerprint, point, probes};
use crate::weight::clamped;

/// First bytes of what [`Ring::epoch`] hashes: names the placement rules, so that other rules are another epoch.
const EPOCH_DOMAIN: &[u8] = b"shoal ring 2";

/// A node as the ring sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingMember {
    /// Which node.
    pub id: NodeId,
    /// Share of the key space relative to the others, `1..=WEIGHT_MAX`; 100 is one ordinary node.
    pub weight: u32,
}

/// An immutable snapshot of who owns which blocks. Cheap to clone. [`Ring::with`] gives the next one when members change.
#[derive(Clone)]
pub struct Ring(Arc<Inner>);

struct Inner {
    /// Finds the point that follows a place. It keeps its content to itself, hence the sorted copy below for walks.
    circle: HashRing<Point, AsPlaced>,
    /// Ascending by position, then by member; on one position only the first counts for lookups.
    points: Vec<Point>,
    /// Ascending by id, distinct.
    members: Vec<RingMember>,
    shares: OnceLock<Vec<f64>>,
    epoch: u64,
}

/// A point of the circle, and whose it is: an index in the ring's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    position: u64,
    member: u32,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.position);
    }
}

/// A place to look from.
struct Place(u64);

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Puts what is a position already where it says: positions are hashes, made by `position`.
#[derive(Clone)]
struct AsPlaced;

#[derive(Default)]
struct Placed(u64);

impl BuildHasher for AsPlaced {
    type Hasher = Placed;

    fn build_hasher(&self) -> Placed {
        Placed::default()
    }
}

impl Hasher for Placed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert_eq!(bytes.len(), 8, "only positions are placed");
    }

    fn write_u64(&mut self, position: u64) {
        self.0 = position;
    }
}

impl Ring {
    /// The ring of `members`, in any order. Weights are clamped to `1..=WEIGHT_MAX`; of two entries with the same id the one
    /// with the smaller weight counts.
    pub fn new(members: &[RingMember]) -> Ring {
        let members = canonical(members);
        let mut points: Vec<Point> = Vec::with_capacity(members.iter().map(|member| member.weight as usize).sum());
        (0u32..).zip(&members).for_each(|(index, member)| points.extend(points_of(index, member)));
        points.sort_unstable();
        Ring::of(members, points)
    }

    /// The ring of `members` as [`Ring::new`] makes it, for less where most of them are in this one with the same weight: with 1,000 nodes
    /// of which one changes, a quarter of the time.
    pub fn with(&self, members: &[RingMember]) -> Ring {
        let members = canonical(members);
        if members == self.0.members {
            return self.clone();
        }
        // Where each of the old members is among the new ones; none if it is gone or has another weight.
        let moved: Vec<Option<u32>> =
            self.0.members.iter().map(|old| members.binary_search(old).ok().map(|index| index as u32)).collect();
        let mut stays = vec![false; members.len()];
        moved.iter().flatten().for_each(|&index| stays[index as usize] = true);
        let mut fresh: Vec<Point> = Vec::new();
        for (index, member) in (0u32..).zip(&members).filter(|(index, _)| !stays[*index as usize]) {
            fresh.extend(points_of(index, member));
        }
        fresh.sort_unstable();
        let kept = self
            .0
            .points
            .iter()
            .filter_map(|old| moved[old.member as usize].map(|member| Point { position: old.position, member }));
        // Both are sorted: the old order of two members is their new one.
        let points = merged(kept, fresh);
        Ring::of(members, points)
    }

    /// The ring of canonical `members` and all their points in order.
    fn of(members: Vec<RingMember>, points: Vec<Point>) -> Ring {
        let mut distinct = points.clone();
        distinct.dedup_by_key(|point| point.position);
        let mut circle = HashRing::with_hasher(AsPlaced);
        circle.batch_add(distinct);
        let epoch = epoch(&members);
        Ring(Arc::new(Inner { circle, points, members, shares: OnceLock::new(), epoch }))
    }

    /// The block's owner and then its replicas, nearest first: at most `n` distinct nodes, fewer if the ring has fewer.
    ///
    /// The order is that of the nodes' smallest distance from a place of the block, so a node that leaves leaves the rest as it is.
    pub fn owners(&self, block: BlockId, n: usize) -> Vec<NodeId> {
        let Inner { points, members, .. } = self.0.as_ref();
        let wanted = n.min(members.len());
        let mut owners: Vec<u32> = Vec::with_capacity(wanted);
        let places = probes(block);
        let mut walks = places.map(|place| self.first_at(place));
        // Every member has a point, so one turn of the circle meets them all.
        while owners.len() < wanted {
            let distance = |k: usize| points[walks[k]].position.wrapping_sub(places[k]);
            let nearest = (0..PROBES).min_by_key(|&k| distance(k)).expect("a block has places");
            let member = points[walks[nearest]].member;
            if !owners.contains(&member) {
                owners.push(member);
            }
            walks[nearest] = if walks[nearest] + 1 == points.len() { 0 } else { walks[nearest] + 1 };
        }
        owners.into_iter().map(|member| members[member as usize].id).collect()
    }

    /// The block's owner; `None` on an empty ring.
    pub fn owner(&self, block: BlockId) -> Option<NodeId> {
        let Inner { circle, members, .. } = self.0.as_ref();
        let following = probes(block).map(|place| circle.get(&Place(place)).map(|point| (place, point)));
        let nearest = following.into_iter().flatten().min_by_key(|(place, point)| point.position.wrapping_sub(*place));
        nearest.map(|(_, point)| members[point.member as usize].id)
    }

    /// Fingerprint of the members and weights: equal on every machine exactly where the owners are. Never 0.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Part of the key space `node` owns, `0.0..=1.0`, exact up to rounding; 0 for a stranger. The first call computes all of them.
    pub fn share(&self, node: NodeId) -> f64 {
        let Inner { shares, points, members, .. } = self.0.as_ref();
        let all = || balance::shares(points.iter().map(|point| (point.position, point.member)), members.len());
        self.index_of(node).map_or(0.0, |index| shares.get_or_init(all)[index])
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.0.members.len()
    }

    /// True if no node is in the ring.
    pub fn is_empty(&self) -> bool {
        self.0.members.is_empty()
    }

    /// The nodes and their (clamped) weights, ascending by id.
    pub fn members(&self) -> &[RingMember] {
        &self.0.members
    }

    /// True if `node` is in the ring.
    pub fn contains(&self, node: NodeId) -> bool {
        self.index_of(node).is_some()
    }

    fn index_of(&self, node: NodeId) -> Option<usize> {
        self.0.members.binary_search_by_key(&node, |member| member.id).ok()
    }

    /// Index of the first point at or after `place`, around the circle; 0 on an empty ring.
    fn first_at(&self, place: u64) -> usize {
        let index = self.0.points.partition_point(|point| point.position < place);
        if index == self.0.points.len() { 0 } else { index }
    }
}

impl Default for Ring {
    fn default() -> Ring {
        Ring::new(&[])
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} nodes, epoch {:016x})", self.len(), self.epoch())
    }
}

/// Sorted, distinct, with weights in bounds.
fn canonical(members: &[RingMember]) -> Vec<RingMember> {
    let mut members: Vec<RingMember> =
        members.iter().map(|member| RingMember { id: member.id, weight: clamped(member.weight) }).collect();
    members.sort_unstable();
    members.dedup_by_key(|member| member.id);
    members
}

/// One point for each unit of weight.
fn points_of(index: u32, member: &RingMember) -> impl Iterator<Item = Point> {
    let id = member.id;
    (0..member.weight).map(move |number| Point { position: point(id, number), member: index })
}

/// Two ascending sequences as one.
fn merged(kept: impl Iterator<Item = Point>, fresh: Vec<Point>) -> Vec<Point> {
    let mut all = Vec::with_capacity(kept.size_hint().1.unwrap_or(0) + fresh.len());
    let mut fresh = fresh.into_iter().peekable();
    for point in kept {
        while let Some(earlier) = fresh.next_if(|fresh| *fresh < point) {
            all.push(earlier);
        }
        all.push(point);
    }
    all.extend(fresh);
    all
}

fn epoch(members: &[RingMember]) -> u64 {
    let mut bytes = Vec::with_capacity(EPOCH_DOMAIN.len() + 8 + members.len() * 20);
    bytes.extend_from_slice(EPOCH_DOMAIN);
    bytes.extend_from_slice(&(PROBES as u64).to_le_bytes());
    for member in members {
        bytes.extend_from_slice(&member.id.0);
        bytes.extend_from_slice(&member.weight.to_le_bytes());
    }
    fingerprint(&bytes).max(1)
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
