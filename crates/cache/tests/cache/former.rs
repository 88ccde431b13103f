//! A node that misses a block asks peers before the origin; whatever a peer does, readers get the right bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_cache::{CacheError, NodeCacheConfig};
use shoal_net::Role;
use shoal_object::ObjectStore;
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::{BlockKey, BlockRange, BlockSpan, Ctx, ErrorKind, Tier};
use shoal_wire::{GetRequest, Status};
use tokio::sync::Notify;

use crate::support::*;

/// Blocks in a ring that has just been joined by its last node.
struct Joined {
    objects: Objects,
    ring: Ring,
    /// Blocks the newcomer is first owner of, and their bytes.
    blocks: Vec<(BlockKey, Bytes)>,
    /// GETs for all blocks, before the newcomer came.
    gets: u64,
}

impl Joined {
    /// Three nodes hold `count` blocks of `len` bytes; a fourth joins.
    async fn with(count: u64, len: u32, change: impl Fn(&mut NodeCacheConfig)) -> Joined {
        let objects = Objects::new();
        let ring = Ring::start_changed(4, |_| objects.origins(), change).await;
        ring.publish_without(&[4]);
        let before = ring.views.watch().current();
        let mut blocks = Vec::new();
        for i in 0..count {
            let name = format!("a{i}");
            let data = objects.put(&name, i, len).await;
            let owner = ring.node(before.owners(&key(&name), 1)[0].id);
            owner.cache.warm(&Ctx::warm_up(), &key(&name), None).await.unwrap();
            if ring.owner(&key(&name), 0).id == node_id(4) {
                blocks.push((key(&name), data));
            }
        }
        ring.publish_without(&[]);
        assert!(!blocks.is_empty(), "the newcomer owns something");
        Joined { gets: objects.gets(), objects, ring, blocks }
    }

    fn newcomer(&self) -> &Node {
        &self.ring.nodes[3]
    }

    /// Where block `key` was before.
    fn former(&self, key: &BlockKey) -> &Node {
        self.ring.owner(key, 1)
    }

    /// Reads a block at the newcomer, whole, and checks it. Gives the tier of its first byte.
    async fn check(&self, block: &(BlockKey, Bytes)) -> Tier {
        let read = read_all(&self.newcomer().cache, &block.0);
        let (tier, data) = clock::timeout(LONG, read).await.expect("a read ends").unwrap();
        assert!(data == block.1, "the right bytes");
        tier
    }

    fn skips(&self, reason: &str) -> u64 {
        self.newcomer().metric(&format!("shoal_cache_skips_total{{reason=\"{reason}\"}}"))
    }

    /// GETs since the newcomer came.
    fn gets_since(&self) -> u64 {
        self.objects.gets() - self.gets
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_takes_its_blocks_from_their_former_owners() {
    let joined = Joined::with(40, 100_000, |_| {}).await;
    for block in &joined.blocks {
        assert_eq!(joined.check(block).await, Tier::Peer);
    }
    assert_eq!(joined.gets_since(), 0);
    let newcomer = joined.newcomer();
    let taken = joined.blocks.len() as u64;
    assert_eq!(newcomer.metric("shoal_cache_taken_blocks_total"), taken);
    assert_eq!(newcomer.metric("shoal_cache_taken_bytes_total"), taken * 100_000);
    wait_until_async("kept", PATIENCE, async || newcomer.cache.store().stats().blocks == taken).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_after_a_change_the_origin_is_asked_at_once() {
    let joined = Joined::with(12, 10_000, |config| config.handover_window = Duration::ZERO).await;
    for block in &joined.blocks {
        assert_eq!(joined.check(block).await, Tier::Origin);
    }
    assert_eq!(joined.gets_since(), joined.blocks.len() as u64);
    assert_eq!(joined.skips("not_found"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_nobody_holds_come_from_the_origin_once() {
    let joined = Joined::with(12, 10_000, |_| {}).await;
    let name = (0..).map(|i| format!("new{i}")).find(|name| joined.ring.owner(&key(name), 0).id == node_id(4)).unwrap();
    let block = (key(&name), joined.objects.put(&name, 77, 50_000).await);
    assert_eq!(joined.check(&block).await, Tier::Origin);
    assert_eq!((joined.gets_since(), joined.skips("not_found")), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_hangs_is_given_up_and_left_alone() {
    let joined = Joined::with(40, 10_000, |config| config.peer_patience = Duration::from_millis(200)).await;
    joined.ring.nodes[..3].iter().for_each(|node| node.turns(Mood::Hung));
    for block in &joined.blocks {
        assert_eq!(joined.check(block).await, Tier::Origin);
    }
    assert_eq!(joined.gets_since(), joined.blocks.len() as u64);
    assert!(joined.skips("timeout") >= 1);
    assert!(joined.skips("back_off") >= 1, "who hung a moment ago is not asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_is_late_and_says_so_is_waited_for_and_asked_again() {
    let joined = Joined::with(40, 10_000, |config| config.peer_patience = Duration::from_secs(4)).await;
    let (block, told) = (&joined.blocks[0], Arc::new(Notify::new()));
    let former = joined.former(&block.0);
    former.turns(Mood::Late(told.clone()));
    let asked = former.metric("shoal_net_served_total{kind=\"call\",outcome=\"ok\"}");
    let reading = {
        let (cache, key) = (joined.newcomer().cache.clone(), block.0.clone());
        task::spawn("reading", async move { read_all(&cache, &key).await })
    };
    let said_so = async || former.metric("shoal_net_served_total{kind=\"call\",outcome=\"ok\"}") > asked;
    wait_until_async("the former owner says it is there", PATIENCE, said_so).await;
    told.notify_one();
    assert!(reading.await.unwrap().unwrap().1 == block.1);
    former.turns(Mood::Honest);
    for block in &joined.blocks[1..] {
        joined.check(block).await;
    }
    assert_eq!((joined.gets_since(), joined.skips("timeout"), joined.skips("back_off")), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_stalls_in_mid_body_is_continued_from_the_byte_reached() {
    let joined = Joined::with(12, 2 * MIB, |config| config.peer_patience = Duration::from_secs(1)).await;
    let block = &joined.blocks[0];
    joined.former(&block.0).turns(Mood::Stalls(700_000));
    let before = joined.objects.0.counts().bytes;
    assert_eq!(joined.check(block).await, Tier::Peer);
    assert_eq!(joined.gets_since(), 1);
    assert_eq!(joined.objects.0.counts().bytes - before, u64::from(2 * MIB) - 700_000, "the origin gave only the rest");
    assert_eq!(joined.newcomer().metric("shoal_cache_taken_bytes_total"), 700_000);
    assert_eq!(joined.skips("timeout"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_breaks_off_is_continued() {
    let joined = Joined::with(12, 2 * MIB, |_| {}).await;
    let block = &joined.blocks[0];
    joined.former(&block.0).turns(Mood::Breaks(MIB, Status::Unavailable));
    joined.check(block).await;
    assert_eq!(joined.gets_since(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_closes_in_mid_body_is_continued() {
    let joined = Joined::with(12, 2 * MIB, |_| {}).await;
    let block = joined.blocks[0].clone();
    let former = joined.former(&block.0);
    former.turns(Mood::Stalls(700_000));
    let mut stream = joined.newcomer().cache.read(&Ctx::foreground(), &block.0, BlockRange::WHOLE).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    let closing = former.endpoint.clone();
    task::spawn("closing", async move { closing.close().await });
    let mut got = first.to_vec();
    while let Some(bytes) = clock::timeout(LONG, stream.next()).await.expect("goes on").unwrap() {
        got.extend_from_slice(&bytes);
    }
    assert!(block.1 == got, "the right bytes");
    assert_eq!(joined.gets_since(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_former_owner_sends_readers_on_at_once_and_warm_ups_wait_for_it() {
    let joined = Joined::with(40, 10_000, |_| {}).await;
    let [first, second] = [&joined.blocks[0], &joined.blocks[1]];
    joined.former(&first.0).turns(Mood::Refuses(Status::Busy));
    assert_eq!(joined.check(first).await, Tier::Origin);
    assert_eq!((joined.gets_since(), joined.skips("busy")), (1, 1));
    joined.former(&first.0).turns(Mood::Honest);
    let busy = joined.former(&second.0);
    busy.turns(Mood::Refuses(Status::Busy));
    let warming = {
        let (cache, key) = (joined.newcomer().cache.clone(), second.0.clone());
        task::spawn("warming", async move { cache.warm(&Ctx::warm_up(), &key, None).await })
    };
    // It is asked again: whether once or more often, it is honest before the last time.
    clock::sleep(Duration::from_millis(60)).await;
    busy.turns(Mood::Honest);
    warming.await.unwrap().unwrap();
    assert_eq!(joined.gets_since(), 1, "it waited for the busy peer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_lies_about_lengths_is_passed_over() {
    let objects = Objects::new();
    objects.put("big", 1, 3 * MIB).await;
    let etag = objects.0.head("big").await.unwrap().etag.unwrap();
    let ring = Ring::start(3, &objects).await;
    ring.nodes.iter().for_each(|node| node.turns(Mood::Claims(MIB - 1)));
    let span = BlockSpan::Part { etag, offset: u64::from(MIB), len: MIB };
    let part = BlockKey::new(ORIGIN, "big", span);
    let owner = ring.owner(&part, 0);
    let (tier, data) = read_all(&owner.cache, &part).await.unwrap();
    assert_eq!((tier, data.len()), (Tier::Origin, MIB as usize));
    assert_eq!(owner.metric("shoal_cache_skips_total{reason=\"corrupt\"}"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owner_that_gives_wrong_bytes_is_found_out_and_replaced() {
    let joined = Joined::with(12, 2 * MIB, |_| {}).await;
    joined.former(&joined.blocks[0].0).turns(Mood::Flips(MIB));
    joined.check(&joined.blocks[0]).await;
    assert_eq!((joined.gets_since(), joined.skips("corrupt")), (1, 1));
}

/// Reads the first block at the newcomer while its former owner gives 1 MiB, waits for half of that, and breaks off with `status`.
async fn broken_off(joined: &Joined, status: Status) -> CacheError {
    let (key, told) = (&joined.blocks[0].0, Arc::new(Notify::new()));
    joined.former(key).turns(Mood::BreaksWhenTold(MIB, status, told.clone()));
    let mut stream = joined.newcomer().cache.read(&Ctx::foreground(), key, BlockRange::WHOLE).await.unwrap();
    let mut got = 0;
    let error = loop {
        match clock::timeout(LONG, stream.next()).await.expect("goes on") {
            Ok(bytes) => got += bytes.expect("more bytes").len(),
            Err(error) => break error,
        }
        if got >= 500_000 {
            told.notify_one();
        }
    };
    joined.former(key).turns(Mood::Honest);
    assert_eq!(joined.newcomer().cache.has(std::slice::from_ref(key)), [None]);
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_disagree_about_a_block_end_the_fill_and_nothing_is_kept() {
    let joined = Joined::with(12, 2 * MIB, |_| {}).await;
    // The object is another by now, and the peer gives a part of the old one.
    joined.objects.put(joined.blocks[0].0.object(), 99, 3 * MIB).await;
    assert_eq!(broken_off(&joined, Status::Unavailable).await.kind(), ErrorKind::Corrupt);
    assert_eq!(joined.check(&joined.blocks[0]).await, Tier::Peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_a_peer_takes_back_reach_no_store() {
    let joined = Joined::with(12, 2 * MIB, |_| {}).await;
    let error = broken_off(&joined, Status::Corrupt).await;
    assert!(matches!(error, CacheError::Retracted { .. }), "{error}");
    assert_eq!(joined.check(&joined.blocks[0]).await, Tier::Peer);
    assert_eq!(joined.gets_since(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_get_a_peers_bytes_while_they_come() {
    let joined = Joined::with(12, 2 * MIB, |_| {}).await;
    let (key, data) = &joined.blocks[0];
    joined.former(key).turns(Mood::Stalls(MIB));
    let stream = joined.newcomer().cache.read(&Ctx::foreground(), key, BlockRange::new(100, 500_000)).await.unwrap();
    assert_eq!(stream.block_len, 2 * MIB);
    assert!(drain(stream).await.unwrap() == cut(data, BlockRange::new(100, 500_000)));
    assert_eq!(joined.gets_since(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_and_its_replica_that_miss_together_cost_one_get() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let ring = Ring::start(3, &objects).await;
    let [owner, replica] = [ring.owner(&key("a"), 0), ring.owner(&key("a"), 1)];
    let gate = objects.0.hold_gets();
    let read = |node: &Node| {
        let cache = node.cache.clone();
        task::spawn("reader", async move { read_all(&cache, &key("a")).await })
    };
    let first = read(owner);
    gate.reached(1).await;
    // Waits at the owner for the same answer.
    let second = read(replica);
    gate.release();
    assert!(first.await.unwrap().unwrap().1 == data && second.await.unwrap().unwrap().1 == data);
    assert_eq!(objects.gets(), 1);
    let kept = async |node: &Node| node.cache.store().stats().blocks;
    wait_until_async("kept by the owner", PATIENCE, async || kept(owner).await == 1).await;
    let in_ram = async || replica.cache.has(&[key("a")]) == [Some(Tier::Ram)];
    wait_until_async("in the replica's memory", PATIENCE, in_ram).await;
    assert_eq!(kept(replica).await, 0, "what the owner keeps is not kept twice");
    // Asked to keep it for good, the replica does.
    replica.cache.warm(&Ctx::warm_up(), &key("a"), None).await.unwrap();
    assert_eq!((kept(replica).await, objects.gets()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_get_gives_what_is_here_or_coming_and_fetches_nothing() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let ring = Ring::start(2, &objects).await;
    let owner = ring.owner(&key("a"), 0);
    let client = ring.ca.endpoint(Role::Client, "client");
    let ask = || GetRequest { local: true, ..GetRequest::new(key("a"), BlockRange::new(10, 1000)) };
    let (head, _) = client.fetch(owner.endpoint.local_addr(), ask()).await.unwrap();
    assert_eq!((head.status, objects.gets()), (Status::NotFound, 0));
    let gate = objects.0.hold_bodies_after(u64::from(MIB));
    let reader = {
        let cache = owner.cache.clone();
        task::spawn("reader", async move { read_all(&cache, &key("a")).await })
    };
    gate.reached(1).await;
    let (head, bytes) = client.fetch(owner.endpoint.local_addr(), ask()).await.unwrap();
    assert_eq!((head.status, head.block_len), (Status::Ok, 2 * MIB));
    assert_eq!(bytes, cut(&data, BlockRange::new(10, 1000)));
    gate.release();
    reader.await.unwrap().unwrap();
    let (head, bytes) = client.fetch(owner.endpoint.local_addr(), ask()).await.unwrap();
    assert_eq!((head.status, bytes.freeze()), (Status::Ok, cut(&data, BlockRange::new(10, 1000))));
    assert_eq!(objects.gets(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_get_never_waits_for_a_fill_that_waits_for_a_peer() {
    let objects = Objects::new();
    objects.put("a", 1, 10_000).await;
    let ring = Ring::start(2, &objects).await;
    let [owner, replica] = [ring.owner(&key("a"), 0), ring.owner(&key("a"), 1)];
    owner.turns(Mood::Hung);
    let waiting = {
        let cache = replica.cache.clone();
        task::spawn("waiting", async move { read_all(&cache, &key("a")).await })
    };
    let fills = async || replica.metric("shoal_cache_fills") == 1;
    wait_until_async("the replica asks its owner", PATIENCE, fills).await;
    let (ctx, key) = (Ctx::foreground(), key("a"));
    let local = replica.cache.read_local(&ctx, &key, BlockRange::WHOLE);
    let local = clock::timeout(SECONDS / 2, local).await.expect("an answer at once");
    assert!(local.unwrap().is_none());
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_fill_that_fails_go_on_to_the_replica() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 2 * MIB).await;
    let ring = Ring::start(3, &objects).await;
    objects.0.truncate_next(1, u64::from(MIB));
    let gate = objects.0.hold_gets();
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let client = ring.client(&objects);
            task::spawn("reader", async move { read(&client, &plain("a", 2 * MIB), BlockRange::WHOLE).await })
        })
        .collect();
    gate.reached(1).await;
    gate.release();
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() == data);
    }
    assert!(objects.gets() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_a_peer_hands_over_is_kept_by_whoever_is_asked_to() {
    let objects = Objects::new();
    let data = objects.put("a", 1, 100_000).await;
    let ring = Ring::start(4, &objects).await;
    let [owner, stranger] = [ring.owner(&key("a"), 0), ring.owner(&key("a"), 3)];
    owner.cache.warm(&Ctx::warm_up(), &key("a"), None).await.unwrap();
    let from = Some(owner.endpoint.local_addr());
    stranger.cache.warm(&Ctx::warm_up(), &key("a"), from).await.unwrap();
    assert!(read_all(&stranger.cache, &key("a")).await.unwrap().1 == data);
    // What the peer does not have is not fetched for strangers.
    objects.put("b", 2, 1000).await;
    let stranger = ring.owner(&key("b"), 3);
    let from = Some(ring.owner(&key("b"), 0).endpoint.local_addr());
    let error = stranger.cache.warm(&Ctx::warm_up(), &key("b"), from).await.unwrap_err();
    assert!(matches!(error, CacheError::NotOwner { .. }), "{error}");
    assert_eq!(objects.gets(), 1);
    // An owner that is told of a peer that has nothing gets it the usual way.
    let replica = ring.owner(&key("b"), 1);
    replica.cache.warm(&Ctx::warm_up(), &key("b"), from).await.unwrap();
    assert_eq!(objects.gets(), 2);
}
