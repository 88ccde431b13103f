//! A ring as large as wanted: how evenly it is loaded, what a join moves, what gossip costs. On demand; see `src/lib.rs`.

use std::time::Duration;

use shoal_cluster::View;
use shoal_runtime::{clock, rng};
use shoal_types::{BlockId, NodeId};

use crate::node;
use crate::scenarios::{nodes, seeds, storm};
use crate::world::{Size, World, simulate};

/// Blocks that are placed to see what moves: the share of a node of a thousand is then known to within 3 %.
const PLACED: usize = 1_000_000;

/// First owners of many random blocks.
fn owners(view: &View, blocks: &[BlockId]) -> Vec<Option<NodeId>> {
    blocks.iter().map(|block| view.ring.owner(*block)).collect()
}

/// Standard deviation of the nodes' exact shares of the key space, relative to their mean.
fn imbalance(view: &View) -> f64 {
    let n = view.members.len() as f64;
    let shares = view.members.iter().map(|member| view.ring.share(member.id) * n);
    (shares.map(|share| (share - 1.0) * (share - 1.0)).sum::<f64>() / n).sqrt()
}

/// Bytes of gossip a node and second over `time`: the average, and of the node that sends most.
async fn gossip(world: &mut World, time: Duration) -> (f64, f64) {
    let numbers: Vec<u32> = world.nodes.keys().copied().collect();
    let sent = |world: &World| -> Vec<u64> {
        numbers.iter().map(|number| world.net.sent(node::addr(*number)).gossip_bytes).collect()
    };
    let before = sent(world);
    world.rest(time).await;
    let rates = sent(world).into_iter().zip(before).map(|(after, before)| (after - before) as f64 / time.as_secs_f64());
    let rates: Vec<f64> = rates.collect();
    (rates.iter().sum::<f64>() / rates.len() as f64, rates.iter().copied().fold(0.0, f64::max))
}

#[test]
#[ignore = "minutes, and gigabytes of memory: run it with --release and SHOAL_SIM_NODES"]
fn a_large_ring_is_even_moves_little_and_gossips_cheaply() {
    let size = Size::new(nodes(1000), 20, 5000);
    for seed in seeds(&[1]) {
        let outcome = simulate("a_large_ring", seed, size, async |world| {
            let n = world.nodes.len() as f64;
            world.rest(Duration::from_secs(10)).await;
            let (mean, most) = gossip(world, Duration::from_secs(20)).await;
            println!("    {n} nodes: gossip {mean:.0} bytes a node and second, at most {most:.0}");
            let view = world.view().unwrap();
            let deviation = imbalance(&view);
            println!("    standard deviation of load {:.2} %", 100.0 * deviation);
            assert!(deviation <= 0.05, "{deviation}");

            let blocks: Vec<BlockId> = (0..PLACED).map(|_| BlockId(rng::id16())).collect();
            let before = owners(&view, &blocks);
            let joined = node::id(world.join().await);
            let began = clock::now();
            world.agree("after a join").await;
            println!("    a join is in every view after {:?}", clock::now() - began);
            let after = owners(&world.view().unwrap(), &blocks);
            let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
            let stray = before.iter().zip(&after).filter(|(before, after)| before != after && **after != Some(joined));
            assert_eq!(stray.count(), 0, "blocks move to the newcomer only");
            let moved = moved as f64 / PLACED as f64 * (n + 1.0);
            println!("    a join moves {moved:.3} / N of all blocks");
            assert!(moved <= 1.1, "{moved}");

            let number = world.pick();
            world.ledger.storm();
            world.kill(number);
            println!("    a killed node is out of every view after {:?}", world.notice(number).await);
            storm(world).await;
        });
        outcome.check("a_large_ring", seed, size);
    }
}
