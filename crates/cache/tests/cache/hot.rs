//! A block in demand is read from several of its owners, and the first of them is not the only one that gives.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use shoal_cache::{CacheError, ClientCache};
use shoal_runtime::task;
use shoal_types::{BlockRange, Ctx};

use crate::support::*;

const NODES: u8 = 8;
const READERS: usize = 32;
const BLOCKS: u64 = 256;
const BYTES: u32 = 16 * KIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_one_file_load_all_nodes_alike() {
    let objects = Objects::new();
    let ring = Ring::start(NODES, &objects).await;
    let mut blocks = Vec::new();
    for i in 0..BLOCKS {
        let name = format!("file/{i}");
        blocks.push((plain(&name, BYTES), objects.put(&name, i, BYTES).await));
    }
    let blocks = Arc::new(blocks);
    // On a machine so busy no node is late.
    let patient = || ring.client_with(&objects, |config| config.hedge_percent = 0).0;
    let clients: Vec<ClientCache> = (0..READERS).map(|_| patient()).collect();
    let readers = clients.iter().map(|client| {
        let (client, blocks) = (client.clone(), blocks.clone());
        task::spawn("reader", async move {
            for (block, data) in blocks.iter() {
                assert!(read(&client, block, BlockRange::WHOLE).await.unwrap() == *data, "the right bytes");
            }
        })
    });
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    let given: Vec<u64> = ring.nodes.iter().map(|node| node.metric("shoal_net_sent_bytes_total")).collect();
    let (sum, most) = (given.iter().sum::<u64>(), given.iter().copied().max().unwrap_or(0));
    let ratio = most as f64 * f64::from(NODES) / sum as f64;
    println!("bytes given by each node: {given:?}; the most is {ratio:.2} of the mean; {} GETs", objects.gets());
    assert!(sum >= READERS as u64 * BLOCKS * u64::from(BYTES));
    assert!(ratio <= 1.25, "{ratio}");
    assert_eq!(objects.gets(), BLOCKS, "replicas took their blocks from the owners");
}

#[tokio::test]
async fn a_node_that_only_spreads_a_block_leaves_the_origin_to_its_owners() {
    let objects = Objects::new();
    let ring =
        Ring::start_changed(4, |_| objects.origins(), |config| config.peer_patience = Duration::from_millis(100)).await;
    let (key, data) = (key("hot"), objects.put("hot", 1, 1024 * KIB).await);
    ring.owner(&key, 0).turns(Mood::Hung);
    let spreads = &ring.owner(&key, 2).cache;
    for range in [BlockRange::WHOLE, BlockRange::new(600 * KIB, 4 * KIB)] {
        let refused = spreads.read_spread(&Ctx::foreground(), &key, range, 3).await;
        assert!(matches!(refused, Err(CacheError::NotOwner { .. })), "{refused:?}");
    }
    assert_eq!(objects.gets(), 0);
    let (_, got) = read_all(&ring.owner(&key, 1).cache, &key).await.unwrap();
    assert!(got == data && objects.gets() == 1, "the next owner asks the origin");
}
