//! The ring's promises. Random inputs come from a fixed SplitMix64, so every run sees the same ones.

use shoal_types::{BlockId, NodeId};

use super::*;
use crate::moved_share;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn id(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }

    fn members(&mut self, n: usize) -> Vec<RingMember> {
        (0..n).map(|_| RingMember { id: NodeId(self.id()), weight: 100 }).collect()
    }

    fn block(&mut self) -> BlockId {
        BlockId(self.id())
    }
}

/// Three nodes with ids that are easy to read: 16 times the byte 1, 2, 3.
fn three() -> Vec<RingMember> {
    (1..=3).map(|byte| RingMember { id: NodeId([byte; 16]), weight: 100 }).collect()
}

#[test]
fn positions_are_pinned() {
    // The hash itself: SipHash-2-4 with zero keys over the 8 bytes of 1u64.
    assert_eq!(fingerprint(&1u64.to_le_bytes()), 0x8004_c5a6_9410_5f5e);
    let vnode = |byte, number| position(Vnode { node: NodeId([byte; 16]), number });
    assert_eq!(vnode(1, 0), 0x33d3_5bff_3f57_3bcd);
    assert_eq!(vnode(1, 1), 0xaf21_ccb9_5168_f92e);
    assert_eq!(vnode(255, 159), 0x7058_9be6_97af_ef68);
    assert_eq!(position(Point(BlockId(*b"0123456789abcdef"))), 0x94c3_7404_a91f_a7b4);
}

#[test]
fn owners_and_epochs_are_pinned() {
    let ring = Ring::new(&three());
    assert_eq!(ring.epoch(), 0x8bf9_dc9c_c43c_9f45);
    assert_eq!(Ring::default().epoch(), 0x9e1b_5d67_5ba9_3b9c);
    let owners: Vec<Vec<u8>> =
        (0..8).map(|byte| ring.owners(BlockId([byte; 16]), 3).iter().map(|node| node.0[0]).collect()).collect();
    // Computed by an implementation of SipHash and of the walk that shares no code with this one.
    assert_eq!(owners, [[2, 1, 3], [2, 1, 3], [2, 3, 1], [2, 3, 1], [3, 2, 1], [3, 2, 1], [2, 1, 3], [2, 1, 3]]);
}

#[test]
fn walk_and_hashring_agree_on_the_owner() {
    for seed in 0..20u64 {
        let mut rng = Rng(seed);
        let nodes = 1 + (rng.next() % 40) as usize;
        let mut members = rng.members(nodes);
        for member in &mut members {
            member.weight = (rng.next() % 300) as u32;
        }
        let ring = Ring::new(&members);
        for _ in 0..500 {
            let block = rng.block();
            let walked = ring.owners(block, 1);
            assert_eq!(ring.owner(block), walked.first().copied(), "seed {seed}, block {block}");
        }
        // On a vnode's own position the vnode itself is the owner.
        for (&at, &node) in ring.positions.iter().zip(&ring.nodes) {
            assert_eq!(ring.owner_at(at), Some(ring.members[node as usize].id), "seed {seed}");
        }
    }
}

#[test]
fn owners_are_distinct_and_extend_each_other() {
    let mut rng = Rng(1);
    let ring = Ring::new(&rng.members(7));
    for _ in 0..500 {
        let block = rng.block();
        let all = ring.owners(block, usize::MAX);
        let mut sorted = all.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 7);
        for n in 0..=7 {
            assert_eq!(ring.owners(block, n), all[..n]);
        }
    }
}

#[test]
fn replica_is_the_owner_after_the_owner_left() {
    let mut rng = Rng(2);
    let members = rng.members(9);
    let ring = Ring::new(&members);
    for _ in 0..200 {
        let block = rng.block();
        let owners = ring.owners(block, 2);
        let rest: Vec<RingMember> = members.iter().copied().filter(|member| member.id != owners[0]).collect();
        assert_eq!(Ring::new(&rest).owner(block), Some(owners[1]));
    }
}

#[test]
fn order_and_duplicates_of_the_input_do_not_matter() {
    let mut members = three();
    let ring = Ring::new(&members);
    members.reverse();
    members.push(members[1]);
    let again = Ring::new(&members);
    assert_eq!(again.epoch(), ring.epoch());
    assert_eq!(again.positions, ring.positions);
    assert_eq!(again.len(), 3);
}

#[test]
fn epoch_follows_members_and_weights() {
    let base = Ring::new(&three()).epoch();
    let mut heavier = three();
    heavier[0].weight = 101;
    assert_ne!(Ring::new(&heavier).epoch(), base);
    assert_ne!(Ring::new(&three()[..2]).epoch(), base);
    let mut over = three();
    let mut most = three();
    over[0].weight = WEIGHT_MAX + 5;
    most[0].weight = WEIGHT_MAX;
    assert_eq!(Ring::new(&over).epoch(), Ring::new(&most).epoch(), "equal placement is an equal epoch");
}

#[test]
fn empty_ring_owns_nothing() {
    let ring = Ring::new(&[]);
    let block = BlockId([9; 16]);
    assert_eq!(ring.owner(block), None);
    assert!(ring.owners(block, 3).is_empty());
    assert_eq!(ring.len(), 0);
    assert!(ring.is_empty());
    assert_eq!(ring.share(NodeId([1; 16])), 0.0);
    assert_eq!(ring.owner_at(5), None);
}

#[test]
fn lone_node_owns_everything() {
    let ring = Ring::new(&three()[..1]);
    assert_eq!(ring.share(NodeId([1; 16])), 1.0);
    assert_eq!(ring.owners(BlockId([9; 16]), 5), [NodeId([1; 16])]);
    assert_eq!(moved_share(&Ring::default(), &ring), 1.0);
    assert_eq!(moved_share(&Ring::default(), &Ring::default()), 0.0);
}

#[test]
fn shares_match_where_blocks_fall() {
    let mut rng = Rng(3);
    let mut members = rng.members(5);
    members[4].weight = 200;
    let ring = Ring::new(&members);
    let sum: f64 = members.iter().map(|member| ring.share(member.id)).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    const BLOCKS: usize = 100_000;
    let mut counts = vec![0usize; members.len()];
    for _ in 0..BLOCKS {
        let owner = ring.owner(rng.block()).unwrap();
        counts[members.iter().position(|member| member.id == owner).unwrap()] += 1;
    }
    for (member, count) in members.iter().zip(counts) {
        let seen = count as f64 / BLOCKS as f64;
        assert!((seen - ring.share(member.id)).abs() < 0.01, "{seen} of {}", ring.share(member.id));
    }
}

#[test]
fn share_follows_the_weight() {
    let mut rng = Rng(4);
    let mut sum = 0.0;
    for _ in 0..20 {
        let mut members = rng.members(10);
        members[0].weight = 200;
        sum += Ring::new(&members).share(members[0].id);
    }
    let mean = sum / 20.0;
    assert!((mean - 2.0 / 11.0).abs() < 0.01, "{mean}");
}

#[test]
fn join_and_leave_move_exactly_the_share_of_that_node() {
    for n in [1usize, 2, 3, 10, 50] {
        let mut rng = Rng(n as u64);
        let members = rng.members(n + 1);
        let small = Ring::new(&members[..n]);
        let large = Ring::new(&members);
        let share = large.share(members[n].id);
        let moved = moved_share(&small, &large);
        assert!((moved - share).abs() < 1e-12, "{n} nodes: moved {moved}, share {share}");
        assert!((moved_share(&large, &small) - share).abs() < 1e-12);
        assert!(share < 1.6 / (n + 1) as f64, "{n} nodes: the newcomer's share is near 1/(n+1), was {share}");
        for _ in 0..300 {
            let block = rng.block();
            let (before, after) = (small.owner(block), large.owner(block));
            assert!(before == after || after == Some(members[n].id), "a block moved between old nodes");
        }
    }
}

#[test]
fn weight_change_moves_only_its_difference() {
    let mut rng = Rng(6);
    let mut members = rng.members(10);
    let before = Ring::new(&members);
    members[3].weight = 150;
    let after = Ring::new(&members);
    let grown = after.share(members[3].id) - before.share(members[3].id);
    assert!((moved_share(&before, &after) - grown).abs() < 1e-12);
}

#[test]
fn imbalance_is_what_the_docs_say() {
    for nodes in [3usize, 10, 100] {
        let (mut deviation, mut fullest) = (0.0f64, 0.0f64);
        const RINGS: u64 = 20;
        for seed in 0..RINGS {
            let members = Rng(seed * 1000 + nodes as u64).members(nodes);
            let ring = Ring::new(&members);
            let relative: Vec<f64> = members.iter().map(|member| ring.share(member.id) * nodes as f64).collect();
            deviation += (relative.iter().map(|x| (x - 1.0).powi(2)).sum::<f64>() / nodes as f64).sqrt();
            fullest += relative.iter().copied().fold(0.0, f64::max);
        }
        let (deviation, fullest) = (deviation / RINGS as f64, fullest / RINGS as f64);
        println!("{VNODES_PER_100} vnodes, {nodes} nodes: stddev {:.1} %, fullest {fullest:.2}x", deviation * 100.0);
        assert!(deviation < 0.10, "{nodes} nodes: {deviation}");
        assert!(fullest < 1.30, "{nodes} nodes: {fullest}");
    }
}
