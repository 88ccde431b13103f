//! A client and the nodes of a ring over real sockets: whatever a node does, a reader gets the right bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use shoal_cache::{Block, ClientCache, ClientCacheConfig, Origins};
use shoal_cluster::{View, ViewWatch};
use shoal_format::Settings;
use shoal_net::Role;
use shoal_object::ObjectStore;
use shoal_object::fault::FaultStore;
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::{BlockRange, ErrorKind, Tier};
use shoal_wire::Status;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_clients_on_one_cold_file_cost_one_get_a_block() {
    let objects = Objects::new();
    let mut blocks = Vec::new();
    for i in 0..6 {
        let name = format!("a{i}");
        blocks.push((plain(&name, 2 * MIB), objects.put(&name, i, 2 * MIB).await));
    }
    let blocks = Arc::new(blocks);
    let ring = Ring::start(3, &objects).await;
    let gate = objects.0.hold_bodies_after(0);
    let clients: Vec<ClientCache> = (0..8).map(|_| ring.client(&objects)).collect();
    let readers: Vec<_> = clients
        .iter()
        .map(|client| {
            let (client, blocks) = (client.clone(), blocks.clone());
            task::spawn("client", async move {
                for (block, data) in blocks.iter() {
                    assert_eq!(read(&client, block, BlockRange::WHOLE).await.unwrap(), data);
                }
            })
        })
        .collect();
    gate.reached(1).await;
    gate.release();
    for reader in join_all(readers).await {
        reader.unwrap();
    }
    assert_eq!(objects.gets(), 6);
    for client in &clients {
        assert_eq!(client.counts().bytes_from(Tier::Peer), 6 * u64::from(2 * MIB));
        assert_eq!((client.counts().total_bytes(), client.counts().origin_requests), (6 * u64::from(2 * MIB), 0));
    }
    let served: u64 = ring.nodes.iter().map(|node| node.cache.counts().total_bytes()).sum();
    // Clients that find a block in demand read it from a replica too, which takes it from its owner.
    let blocks = served / u64::from(2 * MIB);
    assert!((8 * 6..=8 * 6 + 2 * 6).contains(&blocks), "{blocks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_reach_a_client_while_the_owner_still_fetches() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let ring = Ring::start(1, &objects).await;
    let client = ring.client(&objects);
    let gate = objects.0.hold_bodies_after(u64::from(2 * MIB));
    let block = plain("a", 4 * MIB);
    let window = BlockRange::new(200 * KIB, 1000);
    assert_eq!(read(&client, &block, window).await.unwrap(), cut(&data, window));
    let whole = {
        let (client, block) = (client.clone(), block.clone());
        task::spawn("whole", async move { read(&client, &block, BlockRange::WHOLE).await })
    };
    // Joins the fetch of the whole block and is served before its end.
    let early = BlockRange::new(500 * KIB, 700 * KIB);
    assert_eq!(read(&client, &block, early).await.unwrap(), cut(&data, early));
    assert!(!whole.is_finished());
    gate.release();
    assert_eq!(whole.await.unwrap().unwrap(), data);
    assert_eq!(objects.gets(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_reads_move_windows_from_the_owner() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let ring = Ring::start(1, &objects).await;
    let client = ring.client(&objects);
    let range = BlockRange::new(3 * MIB + 70, 4 * KIB);
    assert_eq!(read(&client, &plain("a", 4 * MIB), range).await.unwrap(), cut(&data, range));
    assert_eq!(ring.nodes[0].cache.counts().total_bytes(), u64::from(64 * KIB));
    let have = async || ring.nodes[0].cache.has(&[key("a")])[0].is_some();
    wait_until_async("the owner filled the whole block", PATIENCE, have).await;
}

/// Reads `blocks` through `client` and checks every byte.
async fn check(client: &ClientCache, blocks: &[(Block, Bytes)]) {
    for (block, data) in blocks {
        assert_eq!(read(client, block, BlockRange::WHOLE).await.unwrap(), data);
    }
    let delivered: u64 = blocks.iter().map(|(_, data)| data.len() as u64).sum();
    assert_eq!(client.counts().total_bytes(), delivered);
    assert_eq!(client.counts().errors, 0);
}

async fn some_blocks(objects: &Objects, count: u64, len: u32) -> Vec<(Block, Bytes)> {
    let mut blocks = Vec::new();
    for i in 0..count {
        let name = format!("a{i}");
        blocks.push((plain(&name, len), objects.put(&name, i, len).await));
    }
    blocks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_owner_costs_time_and_then_is_left_alone() {
    let objects = Objects::new();
    let blocks = some_blocks(&objects, 12, 200 * KIB).await;
    let ring = Ring::start(2, &objects).await;
    let (view, _deaf) = ring.view_without(node_id(1));
    let registry = Registry::new();
    let config =
        ClientCacheConfig { memory: 128 << 20, peer_timeout: Duration::from_millis(300), ..Default::default() };
    let client = ClientCache::new(config, objects.0.clone(), Some(ring.peers_with(view.clone())), &registry);
    let owned = blocks.iter().filter(|(block, _)| view.owners(&block.key, 1)[0].id == node_id(1)).count();
    assert!(owned > 1, "the dead node owns some of the blocks");
    check(&client, &blocks).await;
    let failed: u64 = ["hung", "timeout", "unavailable"].iter().map(|reason| skips(&registry, reason)).sum();
    assert!(failed >= 1 && failed + skips(&registry, "back_off") >= owned as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_there_and_gives_nothing_is_passed_over() {
    let objects = Objects::new();
    let blocks = some_blocks(&objects, 6, 200 * KIB).await;
    let ring = Ring::start(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = Duration::from_millis(500));
    ring.nodes[0].turns(Mood::Hung);
    check(&client, &blocks).await;
    assert!(skips(&registry, "slow") + skips(&registry, "timeout") + skips(&registry, "hung") >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_ring_that_hangs_leaves_the_origin() {
    let objects = Objects::new();
    let blocks = some_blocks(&objects, 4, 200 * KIB).await;
    let ring = Ring::start(2, &objects).await;
    let (client, _) = ring.client_with(&objects, |config| config.peer_timeout = Duration::from_millis(200));
    ring.nodes.iter().for_each(|node| node.turns(Mood::Hung));
    check(&client, &blocks).await;
    assert_eq!(client.counts().bytes_from(Tier::Origin), 4 * u64::from(200 * KIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_every_kind_lead_to_the_next_place() {
    let objects = Objects::new();
    let reasons = [
        (Status::Busy, "busy"),
        (Status::Unavailable, "unavailable"),
        (Status::NotOwner, "not_owner"),
        (Status::Corrupt, "corrupt"),
        (Status::Timeout, "timeout"),
        (Status::Denied, "denied"),
        (Status::Internal, "other"),
        (Status::NotFound, "not_found"),
    ];
    let ring = Ring::start(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |_| {});
    for (i, (status, reason)) in reasons.into_iter().enumerate() {
        let name = format!("a{i}");
        let data = objects.put(&name, i as u64, 100_000).await;
        let block = plain(&name, 100_000);
        let owner = ring.owner(&block.key, 0);
        owner.turns(Mood::Refuses(status));
        assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data, "{reason}");
        assert_eq!(skips(&registry, reason), 1, "{reason}");
        owner.turns(Mood::Honest);
    }
    assert_eq!(skips(&registry, "back_off"), 0, "a node that answers is well");
    let counts = client.counts();
    assert_eq!(counts.bytes_from(Tier::Origin), 100_000, "only after `not found` the replica is not asked");
    assert_eq!(counts.total_bytes(), 800_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_continued_by_the_next_place() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let block = plain("a", 2 * MIB);
    let ring = Ring::start(2, &objects).await;
    let client = ring.client(&objects);
    ring.owner(&block.key, 0).turns(Mood::Breaks(500_000, Status::Unavailable));
    ring.owner(&block.key, 1).turns(Mood::Breaks(700_000, Status::Unavailable));
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    // What was under way when a stream is reset may be lost, so the split between the places is not for a test to know.
    assert_eq!(client.counts().total_bytes(), u64::from(2 * MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_a_body_that_stalls_count_under_the_node_and_the_rest_under_the_origin() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let block = plain("a", 2 * MIB);
    let ring = Ring::start(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    let [owner, replica] = [0, 1].map(|place| ring.owner(&block.key, place));
    owner.cache.warm(&shoal_types::Ctx::warm_up(), &block.key, None).await.unwrap();
    owner.turns(Mood::Stalls(500_000));
    replica.turns(Mood::Refuses(Status::Busy));
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    let counts = client.counts();
    assert_eq!((counts.bytes_from(Tier::Peer), counts.total_bytes()), (500_000, u64::from(2 * MIB)));
    assert_eq!(objects.0.counts().bytes, u64::from(4 * MIB) - 500_000, "the origin gave only the rest");
    assert_eq!((skips(&registry, "slow"), skips(&registry, "busy")), (1, 1));
    assert_eq!(hedges(&registry, "won"), 1, "the origin was asked while the owner was silent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_before_a_failed_checksum_are_fetched_again() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let block = plain("a", 2 * MIB);
    let ring = Ring::start(2, &objects).await;
    let client = ring.client(&objects);
    ring.owner(&block.key, 0).turns(Mood::Breaks(MIB, Status::Corrupt));
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    let replica = ring.owner(&block.key, 1);
    assert_eq!(replica.cache.counts().total_bytes(), u64::from(2 * MIB), "the replica gave all of it");
    assert_eq!(client.counts().total_bytes(), u64::from(2 * MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lies_about_lengths_is_passed_over() {
    let objects = Objects::new();
    let blocks = some_blocks(&objects, 4, 300_000).await;
    let ring = Ring::start(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |_| {});
    ring.nodes.iter().for_each(|node| node.turns(Mood::Claims(299_999)));
    check(&client, &blocks).await;
    assert!(skips(&registry, "corrupt") >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encoded_blocks_survive_nodes_that_lie() {
    let objects = Objects::new();
    let plain_bytes: Bytes = (0..2_000_000u32).map(|i| (i / 1000) as u8).collect();
    let mut settings = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
    settings.compression = "zstd".into();
    let codec = settings.codec(None).unwrap();
    let stored = codec.encode(plain_bytes.clone()).unwrap();
    let stored_len = stored.len() as u32;
    let ring = Ring::start(2, &objects).await;
    let moods = [
        Mood::Honest,
        Mood::Garbles,
        Mood::Claims(stored_len / 2),
        Mood::Claims(MIB),
        Mood::Breaks(stored_len / 3, Status::Unavailable),
    ];
    for (i, mood) in moods.into_iter().enumerate() {
        // A client of its own, so that no node is left alone because of the round before.
        let client = ring.client(&objects);
        let name = format!("z{i}");
        objects.0.put(&name, stored.clone()).await.unwrap();
        let block = Block { key: key(&name), plain_len: plain_bytes.len() as u32, codec: codec.clone() };
        ring.nodes.iter().for_each(|node| node.turns(mood.clone()));
        let range = BlockRange::new(1_000_000, 5000);
        assert_eq!(read(&client, &block, range).await.unwrap(), cut(&plain_bytes, range), "{mood:?}");
        assert_eq!(client.counts().total_bytes(), 5000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nodes_do_not_find_the_origin_may_have() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 100_000).await;
    let empty = FaultStore::over_memory();
    let elsewhere = |_| {
        let origins = Origins::default();
        origins.add(ORIGIN, empty.clone());
        origins
    };
    let ring = Ring::start_with(2, elsewhere).await;
    let client = ring.client(&objects);
    assert_eq!(read(&client, &plain("a", 100_000), BlockRange::WHOLE).await.unwrap(), data);
    assert_eq!(empty.counts().gets, 1, "one node's word is enough to ask the origin");
    let error = failure(&client, &plain("none", 100), BlockRange::WHOLE).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // A node that does not know the origin at all.
    let ring = Ring::start_with(2, |_| Origins::default()).await;
    let client = ring.client(&objects);
    assert_eq!(read(&client, &plain("a", 100_000), BlockRange::WHOLE).await.unwrap(), data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_another_view_than_the_nodes_reads_all_the_same() {
    let objects = Objects::new();
    let blocks = some_blocks(&objects, 20, 100_000).await;
    let ring = Ring::start(5, &objects).await;
    // The client has not heard of most of the ring: many blocks lie elsewhere than it thinks.
    let known = View::new(1, ring.view.members[..2].to_vec());
    let registry = Registry::new();
    let config = ClientCacheConfig { peer_timeout: LONG, ..Default::default() };
    let client = ClientCache::new(config, objects.0.clone(), Some(ring.peers_with(known)), &registry);
    check(&client, &blocks).await;
    assert!(skips(&registry, "not_owner") > 0);
    let empty = Registry::new();
    let alone = ring.peers_with(View::empty());
    let client = ClientCache::new(ClientCacheConfig::default(), objects.0.clone(), Some(alone), &empty);
    check(&client, &blocks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_that_changes_in_mid_read_disturbs_nobody() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let block = plain("a", 2 * MIB);
    let ring = Ring::start(3, &objects).await;
    let before = ring.client(&objects);
    let gate = objects.0.hold_bodies_after(u64::from(MIB));
    let reader = {
        let (client, block) = (before.clone(), block.clone());
        task::spawn("reader", async move { read(&client, &block, BlockRange::WHOLE).await })
    };
    gate.reached(1).await;
    // The owner leaves: who sees that asks the next one, while the first read still runs on the old owner.
    let owner = ring.owner(&block.key, 0).id;
    let members = ring.view.members.iter().filter(|member| member.id != owner).cloned().collect();
    let views = ViewWatch::fixed(View::new(2, members));
    let peers = shoal_cache::Peers { endpoint: ring.ca.endpoint(Role::Client, "later"), views };
    let after = ClientCache::new(ClientCacheConfig::default(), objects.0.clone(), Some(peers), &Registry::new());
    let later = {
        let (client, block) = (after.clone(), block.clone());
        task::spawn("later", async move { read(&client, &block, BlockRange::WHOLE).await })
    };
    gate.release();
    assert_eq!(reader.await.unwrap().unwrap(), data);
    assert_eq!(later.await.unwrap().unwrap(), data);
    assert_eq!(objects.gets(), 1, "the new owner takes the block from the old one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_closes_in_mid_body_is_replaced() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 4 * MIB).await;
    let block = plain("a", 4 * MIB);
    let ring = Ring::start(2, &objects).await;
    let client = ring.client(&objects);
    let gate = objects.0.hold_bodies_after(u64::from(2 * MIB));
    let reader = {
        let (client, block) = (client.clone(), block.clone());
        task::spawn("reader", async move { read(&client, &block, BlockRange::WHOLE).await })
    };
    let early = BlockRange::new(0, MIB);
    assert_eq!(read(&client, &block, early).await.unwrap(), cut(&data, early));
    let owner = ring.owner(&block.key, 0).endpoint.clone();
    let closing = task::spawn("closing", async move { owner.close().await });
    gate.reached(1).await;
    closing.await.unwrap();
    gate.release();
    assert_eq!(reader.await.unwrap().unwrap(), data);
    assert_eq!(client.counts().total_bytes(), u64::from(4 * MIB) + u64::from(MIB));
}
