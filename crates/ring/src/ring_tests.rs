//! The ring's promises. Random inputs come from a fixed SplitMix64, so every run sees the same ones.

use shoal_types::{BlockId, NodeId};

use super::*;
use crate::WEIGHT_MAX;

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
    let point = |byte, number| point(NodeId([byte; 16]), number);
    assert_eq!(point(1, 0), 0x33d3_5bff_3f57_3bcd);
    assert_eq!(point(1, 1), 0xaf21_ccb9_5168_f92e);
    assert_eq!(point(255, 159), 0x7058_9be6_97af_ef68);
    let places = probes(BlockId(*b"0123456789abcdef"));
    assert_eq!(places[..3], [0x94c3_7404_a91f_a7b4, 0x7ba4_1515_53c4_ad83, 0xdde9_b0aa_20e5_c9b7]);
    assert_eq!(places[7], 0xbdb8_179c_bab7_1064);
}

#[test]
fn owners_and_epochs_are_pinned() {
    let ring = Ring::new(&three());
    assert_eq!(ring.epoch(), 0xe054_5010_7e35_fdc8);
    assert_eq!(Ring::default().epoch(), 0x268e_58bb_0798_23c7);
    let owners: Vec<Vec<u8>> =
        (0..8).map(|byte| ring.owners(BlockId([byte; 16]), 3).iter().map(|node| node.0[0]).collect()).collect();
    // Computed by an implementation of SipHash and of the walk that shares no code with this one.
    assert_eq!(owners, [[1, 2, 3], [2, 3, 1], [2, 3, 1], [2, 3, 1], [2, 3, 1], [2, 1, 3], [2, 1, 3], [1, 2, 3]]);
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
    }
}

#[test]
fn two_nodes_on_one_position_are_told_apart_alike_everywhere() {
    // No two ids are known whose points meet, so the points are made up.
    let members: Vec<RingMember> = three().into_iter().map(|member| RingMember { weight: 1, ..member }).collect();
    let points = [(7, 0), (7, 1), (9, 2)].map(|(position, member)| Point { position, member });
    let ring = Ring::of(members.clone(), points.to_vec());
    let mut rng = Rng(5);
    let mut met = false;
    for _ in 0..100 {
        let block = rng.block();
        let owners = ring.owners(block, 3);
        assert_eq!(ring.owner(block), owners.first().copied());
        if owners[0] == members[0].id {
            met = true;
            assert_eq!(owners[1], members[1].id, "the other one on the same position is the next");
        }
    }
    assert!(met);
}

#[test]
fn ring_made_from_another_is_the_one_made_anew() {
    for seed in 0..30u64 {
        let mut rng = Rng(seed);
        let nodes = 1 + (rng.next() % 30) as usize;
        let mut members = rng.members(nodes);
        let mut ring = Ring::default();
        for _ in 0..20 {
            let at = (rng.next() % members.len() as u64) as usize;
            match rng.next() % 4 {
                0 => members.extend(rng.members(1)),
                1 if members.len() > 1 => drop(members.swap_remove(at)),
                2 => members[at].weight = 1 + (rng.next() % 300) as u32,
                _ => {}
            }
            ring = ring.with(&members);
            let anew = Ring::new(&members);
            assert_eq!(ring.0.points, anew.0.points, "seed {seed}");
            assert_eq!((ring.members(), ring.epoch()), (anew.members(), anew.epoch()), "seed {seed}");
            let block = rng.block();
            assert_eq!(ring.owner(block), anew.owner(block), "seed {seed}");
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
    assert_eq!(again.0.points, ring.0.points);
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
}

#[test]
fn lone_node_owns_everything() {
    let ring = Ring::new(&three()[..1]);
    assert_eq!(ring.share(NodeId([1; 16])), 1.0);
    assert_eq!(ring.owners(BlockId([9; 16]), 5), [NodeId([1; 16])]);
}

#[test]
fn shares_match_where_blocks_fall() {
    let mut rng = Rng(3);
    let mut members = rng.members(5);
    members[4].weight = 200;
    let ring = Ring::new(&members);
    let sum: f64 = members.iter().map(|member| ring.share(member.id)).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    const BLOCKS: usize = 30_000;
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
fn join_moves_blocks_to_the_newcomer_only_and_its_share_of_them() {
    for n in [1usize, 2, 3, 10, 50] {
        let mut rng = Rng(n as u64);
        let members = rng.members(n + 1);
        let small = Ring::new(&members[..n]);
        let large = Ring::new(&members);
        let newcomer = members[n].id;
        const BLOCKS: usize = 8_000;
        let mut moved = 0;
        for _ in 0..BLOCKS {
            let block = rng.block();
            let (before, after) = (small.owner(block), large.owner(block));
            assert!(before == after || after == Some(newcomer), "a block moved between old nodes");
            moved += usize::from(before != after);
        }
        let (moved, share) = (moved as f64 / BLOCKS as f64, large.share(newcomer));
        assert!((moved - share).abs() < 0.02, "{n} nodes: moved {moved}, share {share}");
        assert!(share < 1.2 / (n + 1) as f64, "{n} nodes: the newcomer's share is near 1/(n+1), was {share}");
    }
}

#[test]
fn more_weight_takes_blocks_and_gives_none_away() {
    let mut rng = Rng(6);
    let mut members = rng.members(10);
    let before = Ring::new(&members);
    members[3].weight = 150;
    let after = Ring::new(&members);
    for _ in 0..2000 {
        let block = rng.block();
        let owners = (before.owner(block), after.owner(block));
        assert!(owners.0 == owners.1 || owners.1 == Some(members[3].id));
    }
    assert!(after.share(members[3].id) > before.share(members[3].id) * 1.3);
}

#[test]
fn every_node_counts_however_light() {
    let members: Vec<RingMember> = Rng(8).members(20).iter().map(|m| RingMember { weight: 1, ..*m }).collect();
    let ring = Ring::new(&members);
    assert_eq!(ring.owners(BlockId([3; 16]), usize::MAX).len(), 20);
    assert!(members.iter().all(|member| ring.share(member.id) > 0.0));
}

/// Standard deviation of the nodes' shares relative to what their weights say, and the fullest.
fn imbalance(ring: &Ring) -> (f64, f64) {
    let weights: f64 = ring.members().iter().map(|member| f64::from(member.weight)).sum();
    let relative = ring.members().iter().map(|member| ring.share(member.id) * weights / f64::from(member.weight));
    let relative: Vec<f64> = relative.collect();
    let variance = relative.iter().map(|x| (x - 1.0).powi(2)).sum::<f64>() / relative.len() as f64;
    (variance.sqrt(), relative.iter().copied().fold(0.0, f64::max))
}

#[test]
fn balance_is_what_the_docs_say() {
    for (nodes, rings) in [(3usize, 20u64), (10, 20), (100, 5), (1000, 1)] {
        let all = (0..rings).map(|seed| imbalance(&Ring::new(&Rng(seed * 1000 + nodes as u64).members(nodes))));
        let sums = all.fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let (deviation, fullest) = (sums.0 / rings as f64, sums.1 / rings as f64);
        println!("balance of {nodes} nodes: stddev {:.1} %, fullest {fullest:.2}x", deviation * 100.0);
        assert!(deviation < 0.035, "{nodes} nodes: {deviation}");
        assert!(fullest < 1.12, "{nodes} nodes: {fullest}");
    }
}

#[test]
fn mixed_weights_are_balanced_too() {
    let mut rng = Rng(12);
    let mut members = rng.members(1000);
    members.iter_mut().for_each(|member| member.weight = [25, 100, 300][(rng.next() % 3) as usize]);
    let (deviation, fullest) = imbalance(&Ring::new(&members));
    println!(
        "balance of 1000 nodes of weights 25, 100 and 300: stddev {:.1} %, fullest {fullest:.2}x",
        deviation * 100.0
    );
    assert!(deviation < 0.05, "{deviation}");
}

/// What a thousand nodes cost, and what joins move: checked against blocks that are really looked up.
#[test]
#[expect(clippy::disallowed_methods, reason = "this crate knows no clock, and the test prints what a ring costs")]
fn a_thousand_nodes_are_balanced_and_a_join_moves_its_share() {
    const NODES: usize = 1000;
    let mut rng = Rng(1);
    let members = rng.members(NODES + 5);
    let begun = std::time::Instant::now();
    let ring = Ring::new(&members[..NODES]);
    let built = begun.elapsed();
    let (deviation, fullest) = imbalance(&ring);
    println!("{NODES} nodes: stddev of load {:.2} %, fullest {fullest:.3}x; built in {built:?}", deviation * 100.0);
    assert!(deviation <= 0.05, "{deviation}");

    for newcomer in NODES..NODES + 5 {
        let mut more = members[..NODES].to_vec();
        more.push(members[newcomer]);
        let begun = std::time::Instant::now();
        let larger = ring.with(&more);
        let updated = begun.elapsed();
        const BLOCKS: usize = 4_000;
        let (mut moved, mut elsewhere) = (0, 0);
        for _ in 0..BLOCKS {
            let block = rng.block();
            let (before, after) = (ring.owner(block), larger.owner(block));
            moved += usize::from(before != after);
            elsewhere += usize::from(before != after && after != Some(members[newcomer].id));
        }
        // All that moves goes to the newcomer, so its share, which is exact, is what moves; the sample agrees with it.
        let share = larger.share(members[newcomer].id) * (NODES + 1) as f64;
        println!(
            "a join moves {share:.3}/N of the blocks ({moved} of {BLOCKS} looked up); ring updated in {updated:?}"
        );
        assert_eq!(elsewhere, 0);
        assert!(share <= 1.1, "{share}");
    }
    let begun = std::time::Instant::now();
    const LOOKUPS: u32 = 4_000;
    let found = (0..LOOKUPS).filter(|_| ring.owners(rng.block(), 2).len() == 2).count();
    println!("owner and replica found in {:?}", begun.elapsed() / LOOKUPS);
    assert_eq!(found, LOOKUPS as usize);
}
