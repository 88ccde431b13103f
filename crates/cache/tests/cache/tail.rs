//! Nodes that are late: hung, stuck, slow, busy. A reader is served by the next place long before it would time out, and the
//! origin pays no more for it than it must.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use shoal_cache::{Block, ClientCache};
use shoal_cluster::{Member, View, ViewWatch};
use shoal_format::Settings;
use shoal_net::Role;
use shoal_object::ObjectStore;
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::{BlockRange, Class, Ctx, Tier};

use crate::support::*;

/// Nodes that give up on each other soon.
async fn impatient_ring(count: u8, objects: &Objects) -> Ring {
    Ring::start_changed(count, |_| objects.origins(), |config| config.peer_patience = Duration::from_millis(200)).await
}

async fn block(objects: &Objects, name: &str, len: u32) -> (Block, Bytes) {
    (plain(name, len), objects.put(name, 7, len).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_nothing_at_all_is_passed_over_and_then_left_alone() {
    let objects = Objects::new();
    let (small, small_data) = block(&objects, "a", 100_000).await;
    let ring = impatient_ring(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    let dead = ring.owner(&small.key, 0);
    dead.turns(Mood::Hung);
    let asked = clock::now();
    assert_eq!(read(&client, &small, BlockRange::WHOLE).await.unwrap(), small_data);
    assert!(clock::now() - asked < SECONDS, "its silence was not waited for to its end");
    assert_eq!((skips(&registry, "hung"), skips(&registry, "timeout")), (1, 0));
    assert_eq!(hedges(&registry, "won"), 1);
    assert_eq!(metric(&registry, "shoal_cache_avoided_nodes"), 1);
    // Whatever it owns is asked of the other one without a look.
    let before = dead.seen.lock().gets.len();
    for i in 0..6u8 {
        let (other, data) = block(&objects, &format!("b{i}"), 300_000).await;
        assert_eq!(read(&client, &other, BlockRange::WHOLE).await.unwrap(), data);
    }
    let asked_again = dead.seen.lock().gets.len() - before;
    assert!(asked_again <= 2, "but for a trial it is left alone, and was asked {asked_again} times");
    assert_eq!(client.counts().bytes_from(Tier::Peer), client.counts().total_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_node_of_a_ring_hangs_and_the_origin_gives_the_rest() {
    let objects = Objects::new();
    let (block, data) = block(&objects, "a", 2 * MIB).await;
    let ring = Ring::start(1, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    let asked = clock::now();
    ring.nodes[0].turns(Mood::Hung);
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert!(clock::now() - asked < SECONDS);
    assert_eq!((skips(&registry, "hung"), client.counts().origin_requests), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_fetches_is_waited_for_and_the_origin_is_asked_once() {
    let objects = Objects::new();
    let (block, data) = block(&objects, "a", 2 * MIB).await;
    let ring = impatient_ring(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    let gate = objects.0.hold_gets();
    let reader = {
        let (client, block) = (client.clone(), block.clone());
        task::spawn("reader", async move { read(&client, &block, BlockRange::WHOLE).await })
    };
    let owner = ring.owner(&block.key, 0);
    wait_until_async("the owner was asked whether it is there", PATIENCE, async || owner.seen.lock().calls >= 2).await;
    gate.release();
    assert_eq!(reader.await.unwrap().unwrap(), data);
    assert_eq!((objects.gets(), client.counts().origin_requests), (1, 0));
    assert!(ring.owner(&block.key, 1).seen.lock().gets.is_empty(), "nobody else was asked");
    assert_eq!(hedges(&registry, "won") + hedges(&registry, "lost") + hedges(&registry, "failed"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_fetches_for_very_long_is_helped_within_the_allowance() {
    let objects = Objects::new();
    let (block, data) = block(&objects, "a", 500_000).await;
    let ring = impatient_ring(2, &objects).await;
    // Says that it is there and does not hold the block, like one that is cut off from its origin.
    ring.owner(&block.key, 0).turns(Mood::Stuck);
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert_eq!((skips(&registry, "slow"), hedges(&registry, "won")), (1, 1));
    // Without an allowance it is waited for as long as it says so.
    let set = |config: &mut shoal_cache::ClientCacheConfig| {
        config.peer_timeout = SECONDS / 2;
        config.hedge_percent = 0;
    };
    let (strict, registry) = ring.client_with(&objects, set);
    assert_eq!(read(&strict, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert_eq!((skips(&registry, "timeout"), hedges(&registry, "won")), (1, 0));
    assert!(hedges(&registry, "refused") >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stuck_owner_holds_is_taken_from_a_replica_that_holds_it_too() {
    let objects = Objects::new();
    let (block, data) = block(&objects, "a", 2 * MIB).await;
    let ring = impatient_ring(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    let [owner, replica] = [0, 1].map(|place| ring.owner(&block.key, place));
    for node in [owner, replica] {
        node.cache.warm(&Ctx::warm_up(), &block.key, None).await.unwrap();
    }
    let before = objects.gets();
    owner.turns(Mood::Stuck);
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert!(replica.seen.lock().gets.iter().any(|request| request.local), "it is asked for what it holds");
    assert_eq!((objects.gets(), client.counts().origin_requests), (before, 0));
    assert_eq!((hedges(&registry, "won"), skips(&registry, "slow")), (1, 1));
    assert_eq!(metric(&registry, "shoal_cache_hedge_bytes_total"), u64::from(2 * MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stalls_goes_on_at_a_replica_and_one_that_recovers_goes_on_itself() {
    let objects = Objects::new();
    let (block, data) = block(&objects, "a", 2 * MIB).await;
    let ring = impatient_ring(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    let [owner, replica] = [0, 1].map(|place| ring.owner(&block.key, place));
    owner.cache.warm(&Ctx::warm_up(), &block.key, None).await.unwrap();
    owner.turns(Mood::Stalls(600_000));
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    let asked = replica.seen.lock().gets.clone();
    assert!(asked[0].local, "first for what it holds: {asked:?}");
    assert!(asked.len() == 2 && !asked[1].local, "then in full: {asked:?}");
    assert!(asked.iter().all(|request| request.range.start == 600_000), "only the rest: {asked:?}");
    assert_eq!((hedges(&registry, "failed"), hedges(&registry, "won")), (1, 1));
    assert_eq!(client.counts().total_bytes(), u64::from(2 * MIB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoded_block_that_stalls_comes_whole_from_the_origin() {
    let objects = Objects::new();
    let plain_bytes: Bytes = (0..2_000_000u32).map(|i| (i / 3) as u8 ^ (i % 251) as u8).collect();
    let mut settings = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
    settings.compression = "lz4".into();
    let codec = settings.codec(None).unwrap();
    let stored = codec.encode(plain_bytes.clone()).unwrap();
    assert!(stored.len() > 400_000);
    objects.0.put("z", stored.clone()).await.unwrap();
    let block = Block { key: key("z"), plain_len: plain_bytes.len() as u32, codec };
    let ring = Ring::start(1, &objects).await;
    let node = &ring.nodes[0];
    node.cache.warm(&Ctx::warm_up(), &block.key, None).await.unwrap();
    node.turns(Mood::Stalls(200_000));
    let (client, _) = ring.client_with(&objects, |config| config.peer_timeout = Duration::from_secs(4));
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), plain_bytes);
    assert_eq!(objects.0.counts().bytes, 2 * stored.len() as u64, "bytes of nodes and of the origin are not mixed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trickle_is_left_for_a_replica_once_it_is_known_what_is_usual() {
    let objects = Objects::new();
    let ring = impatient_ring(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| config.peer_timeout = SECONDS);
    let usual = async |round: u32| {
        for i in 0..8 {
            let (block, data) = block(&objects, &format!("u{round}-{i}"), MIB).await;
            ring.owner(&block.key, 0).cache.warm(&Ctx::warm_up(), &block.key, None).await.unwrap();
            assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
        }
    };
    usual(0).await;
    // What is usual is worked out once a second.
    clock::sleep(Duration::from_millis(1100)).await;
    usual(1).await;
    let (block, data) = block(&objects, "a", 2 * MIB).await;
    for node in &ring.nodes {
        node.cache.warm(&Ctx::warm_up(), &block.key, None).await.unwrap();
    }
    let slow = ring.owner(&block.key, 0);
    slow.turns(Mood::Trickles);
    let before = client.counts().origin_requests;
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert!(hedges(&registry, "won") >= 1 && skips(&registry, "slow") >= 1);
    assert_eq!(client.counts().origin_requests, before);
    assert!(!registry.gather_text().contains("shoal_cache_skips_total{reason=\"timeout\"} 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_does_not_wait_for_a_busy_node_and_read_ahead_does() {
    let objects = Objects::new();
    let ring = impatient_ring(2, &objects).await;
    let (client, registry) = ring.client_with(&objects, |_| {});
    let (now, now_data) = block(&objects, "now", 300_000).await;
    ring.owner(&now.key, 0).turns(Mood::Busy(1, 60_000));
    assert_eq!(read(&client, &now, BlockRange::WHOLE).await.unwrap(), now_data);
    assert_eq!(ring.owner(&now.key, 1).seen.lock().gets.len(), 1);
    assert_eq!(skips(&registry, "busy"), 1);

    let (later, later_data) = block(&objects, "later", 300_000).await;
    let [owner, replica] = [0, 1].map(|place| ring.owner(&later.key, place));
    let before = replica.seen.lock().gets.len();
    owner.turns(Mood::Busy(2, 20));
    client.prefetch(&Ctx::new(Class::Fill), &later).await;
    wait_until_async("fetched ahead", PATIENCE, async || client.try_ram(&later, BlockRange::new(0, 1)).is_some()).await;
    assert_eq!(client.try_ram(&later, BlockRange::WHOLE).unwrap(), later_data);
    assert_eq!(replica.seen.lock().gets.len(), before, "the owner had room in the end");
    assert_eq!(skips(&registry, "busy"), 3);
    assert_eq!(client.counts().origin_requests, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_comes_to_wait_for_read_ahead_hurries_it() {
    let objects = Objects::new();
    let ring = impatient_ring(2, &objects).await;
    let (client, _) = ring.client_with(&objects, |_| {});
    let (block, data) = block(&objects, "a", 300_000).await;
    let owner = ring.owner(&block.key, 0);
    // Longer than anyone would wait, three times over; the client bounds each to half a second.
    owner.turns(Mood::Busy(u32::MAX, u16::MAX));
    client.prefetch(&Ctx::new(Class::Fill), &block).await;
    wait_until_async("the owner was asked", PATIENCE, async || !owner.seen.lock().gets.is_empty()).await;
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert!(owner.seen.lock().gets.len() <= 2, "the replica was asked as soon as somebody waited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_bytes_are_asked_for_than_may_be_in_flight() {
    let objects = Objects::new();
    let ring = Ring::start(4, &objects).await;
    let (client, registry) = ring.client_with(&objects, |config| {
        config.memory = 512 << 20;
        config.in_flight = 20 << 20;
    });
    let blocks = join_all((0..12).map(|i| {
        let objects = &objects;
        async move { block(objects, &format!("a{i}"), 4 * MIB).await }
    }));
    let blocks = blocks.await;
    let gate = objects.0.hold_bodies_after(0);
    let readers: Vec<_> = blocks
        .iter()
        .map(|(block, _)| {
            let (client, block) = (client.clone(), block.clone());
            task::spawn("reader", async move { read(&client, &block, BlockRange::WHOLE).await })
        })
        .collect();
    gate.reached(5).await;
    let asked: usize = ring.nodes.iter().map(|node| node.seen.lock().gets.len()).sum();
    assert_eq!(asked, 5);
    assert_eq!(metric(&registry, "shoal_cache_in_flight_bytes"), u64::from(20 * MIB));
    gate.release();
    for (reader, (_, data)) in readers.into_iter().zip(&blocks) {
        assert_eq!(reader.await.unwrap().unwrap(), data);
    }
    wait_until_async("all given back", PATIENCE, async || metric(&registry, "shoal_cache_in_flight_bytes") == 0).await;
    assert_eq!(objects.gets(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_group_is_read_from_as_many_owners_as_were_offered() {
    let objects = Objects::new();
    let ring = Ring::start(4, &objects).await;
    ring.nodes.iter().for_each(|node| node.turns(Mood::Hints(4)));
    let client = ring.client(&objects);
    for i in 0..64 {
        let (block, data) = block(&objects, &format!("g/{i}"), 50_000).await;
        assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    }
    let asked: Vec<usize> = ring.nodes.iter().map(|node| node.seen.lock().gets.len()).collect();
    assert_eq!(asked.iter().sum::<usize>(), 64);
    assert!(asked.iter().all(|n| *n >= 3), "{asked:?}");
    let plainly: usize =
        ring.nodes.iter().map(|node| node.seen.lock().gets.iter().filter(|get| get.spread == 0).count()).sum();
    assert_eq!(plainly, 1, "only the first did not know");
    // Another group is not hot.
    let (cold, data) = block(&objects, "cold/0", 50_000).await;
    assert_eq!(read(&client, &cold, BlockRange::WHOLE).await.unwrap(), data);
    assert_eq!(ring.owner(&cold.key, 0).seen.lock().gets.last().unwrap().key, cold.key);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_know_of_the_spread_leads_back_to_the_owners() {
    let objects = Objects::new();
    let ring = Ring::start(4, &objects).await;
    let (client, registry) = ring.client_with(&objects, |_| {});
    let (first, data) = block(&objects, "g/first", 50_000).await;
    ring.nodes.iter().for_each(|node| node.turns(Mood::Hints(4)));
    assert_eq!(read(&client, &first, BlockRange::WHOLE).await.unwrap(), data);
    // Who is no owner by the plain rule refuses.
    for node in &ring.nodes {
        node.turns(Mood::Refuses(shoal_wire::Status::NotOwner));
    }
    let (block, data) = block(&objects, "g/second", 50_000).await;
    let owner = ring.owner(&block.key, 0);
    owner.turns(Mood::Honest);
    assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
    assert!(skips(&registry, "not_owner") <= 1);
    assert_eq!(client.counts().bytes_from(Tier::Peer), 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_in_the_readers_zone_are_asked_first() {
    let objects = Objects::new();
    let ring = Ring::start(4, &objects).await;
    let zoned = |member: &std::sync::Arc<Member>| {
        let zone = if member.id.0[0].is_multiple_of(2) { "even" } else { "odd" };
        std::sync::Arc::new(Member { zone: zone.into(), ..Member::clone(member) })
    };
    let view = View::new(2, ring.view.members.iter().map(zoned).collect());
    let peers =
        shoal_cache::Peers { endpoint: ring.ca.endpoint(Role::Client, "zoned"), views: ViewWatch::fixed(view.clone()) };
    let config = shoal_cache::ClientCacheConfig { zone: Some("even".into()), peer_timeout: LONG, ..Default::default() };
    let client = ClientCache::new(config, objects.0.clone(), Some(peers), &Registry::new());
    for i in 0..24 {
        let (block, data) = block(&objects, &format!("a{i}"), 20_000).await;
        assert_eq!(read(&client, &block, BlockRange::WHOLE).await.unwrap(), data);
        let owners = view.owners(&block.key, 2);
        let first = owners.iter().find(|owner| owner.zone == "even").unwrap_or(&owners[0]);
        let asked = ring.node(first.id).seen.lock().gets.last().map(|get| get.key.clone());
        assert_eq!(asked, Some(block.key));
    }
}
