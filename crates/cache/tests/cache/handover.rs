//! Blocks go to the nodes that own them, after a change of the ring and before leaving; whatever receivers do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_cache::{HandOver, NodeCacheConfig};
use shoal_cluster::Member;
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::{clock, task};
use shoal_testkit::{PATIENCE, wait_until_async};
use shoal_types::{BlockKey, BlockRange, Ctx};
use tokio::sync::watch;

use crate::support::*;

/// A settled ring starts to move after a moment; former owners are never asked, so that only what was handed over is there.
fn prompt(config: &mut NodeCacheConfig) {
    config.handover_settle = Duration::from_millis(50);
    config.handover_window = Duration::ZERO;
}

struct Blocks(Vec<(BlockKey, Bytes)>);

/// `count` blocks, every third a large one, each kept by its owner among the nodes that are published now.
async fn fill(ring: &Ring, objects: &Objects, count: u64) -> Blocks {
    let view = ring.views.watch().current();
    let mut blocks = Vec::new();
    for i in 0..count {
        let (name, len) = (format!("a{i}"), if i % 3 == 0 { 200_000 } else { 9_000 });
        let data = objects.put(&name, i, len).await;
        let owner = ring.node(view.owners(&key(&name), 1)[0].id);
        owner.cache.warm(&Ctx::warm_up(), &key(&name), None).await.unwrap();
        blocks.push((key(&name), data));
    }
    Blocks(blocks)
}

impl Blocks {
    /// Those whose first owner among the published nodes is `number`.
    fn of(&self, ring: &Ring, number: u8) -> Vec<&(BlockKey, Bytes)> {
        let view = ring.views.watch().current();
        self.0.iter().filter(|(key, _)| view.owners(key, 1)[0].id == node_id(number)).collect()
    }

    /// True if each block is with its first owner among the published nodes.
    fn are_home(&self, ring: &Ring) -> bool {
        let view = ring.views.watch().current();
        self.0.iter().all(|(key, _)| {
            let owner = ring.node(view.owners(key, 1)[0].id);
            owner.cache.has(std::slice::from_ref(key))[0].is_some()
        })
    }

    async fn check(&self, ring: &Ring) {
        let view = ring.views.watch().current();
        for (key, data) in &self.0 {
            let owner = ring.node(view.owners(key, 1)[0].id);
            assert!(read_all(&owner.cache, key).await.unwrap().1 == *data, "the right bytes of {key}");
        }
    }
}

/// A node that follows the ring, until dropped.
struct Follower {
    progress: watch::Receiver<HandOver>,
    shutdown: Shutdown,
}

impl Follower {
    fn of(node: &Node) -> Follower {
        let (sender, progress) = watch::channel(HandOver::default());
        let (cache, shutdown) = (node.cache.clone(), Shutdown::new());
        let ours = shutdown.clone();
        task::spawn("follower", async move { cache.follow_ring(&sender, &ours).await });
        Follower { progress, shutdown }
    }

    fn report(&self) -> HandOver {
        self.progress.borrow().clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

async fn drained(node: &Node, limit: Duration) -> HandOver {
    let (sender, _) = watch::channel(HandOver::default());
    let drain = node.cache.drain(limit, &sender);
    clock::timeout(LONG, drain).await.expect("a drain ends")
}

/// All members, node `number` leaving.
fn leaving(ring: &Ring, number: u8) -> Vec<Arc<Member>> {
    let leave = |member: &Arc<Member>| match member.id == node_id(number) {
        true => Arc::new(Member { leaving: true, ..Member::clone(member) }),
        false => member.clone(),
    };
    ring.view.members.iter().map(leave).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_is_handed_its_blocks() {
    let objects = Objects::new();
    let ring = Ring::start_changed(4, |_| objects.origins(), prompt).await;
    ring.publish_without(&[4]);
    let blocks = fill(&ring, &objects, 90).await;
    let followers: Vec<Follower> = ring.nodes.iter().map(Follower::of).collect();
    ring.publish_without(&[]);
    wait_until_async("all blocks are with their owners", PATIENCE, async || blocks.are_home(&ring)).await;
    blocks.check(&ring).await;
    assert_eq!(objects.gets(), 90, "the origin was not asked again");
    let done = async || followers[..3].iter().all(|follower| follower.report().done == follower.report().total);
    wait_until_async("all reports are complete", PATIENCE, done).await;
    let moved: u64 = followers.iter().map(|follower| follower.report().moved).sum();
    let own = blocks.of(&ring, 4);
    let bytes: u64 = own.iter().map(|(_, data)| data.len() as u64).sum();
    assert_eq!(moved, own.len() as u64, "what others own stays");
    assert_eq!(followers.iter().map(|follower| follower.report().bytes).sum::<u64>(), bytes);
    assert!(followers.iter().all(|follower| follower.report().failed == 0));
    let counted = |node: &Node| node.metric("shoal_cache_handed_blocks_total{outcome=\"moved\"}");
    assert_eq!(ring.nodes.iter().map(counted).sum::<u64>(), moved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_leaves_nothing_behind() {
    let objects = Objects::new();
    let ring = Ring::start_changed(4, |_| objects.origins(), prompt).await;
    let blocks = fill(&ring, &objects, 90).await;
    let held = blocks.of(&ring, 2).len() as u64;
    ring.views.publish(leaving(&ring, 2));
    let report = drained(&ring.nodes[1], LONG).await;
    assert_eq!((report.total, report.done, report.moved, report.failed), (held, held, held, 0), "{report:?}");
    assert_eq!(report.first_error, None);
    assert!(blocks.are_home(&ring));
    ring.nodes[1].endpoint.close().await;
    ring.publish_without(&[2]);
    blocks.check(&ring).await;
    assert_eq!(objects.gets(), 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_gone_is_replaced_by_the_next_owner() {
    let objects = Objects::new();
    let ring = Ring::start_changed(4, |_| objects.origins(), prompt).await;
    let blocks = fill(&ring, &objects, 90).await;
    let held = blocks.of(&ring, 2).len() as u64;
    ring.views.publish(leaving(&ring, 2));
    ring.nodes[2].endpoint.close().await;
    let report = drained(&ring.nodes[1], LONG).await;
    assert_eq!((report.done, report.moved + report.already, report.failed), (held, held, 0), "{report:?}");
    assert!(report.first_error.is_some());
    assert_eq!(objects.gets(), 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_anyone_to_take_them_blocks_count_as_failed() {
    let objects = Objects::new();
    let ring = Ring::start_changed(3, |_| objects.origins(), prompt).await;
    let blocks = fill(&ring, &objects, 30).await;
    let held = blocks.of(&ring, 1).len() as u64;
    ring.views.publish(leaving(&ring, 1));
    for node in &ring.nodes[1..] {
        node.endpoint.close().await;
    }
    let report = drained(&ring.nodes[0], LONG).await;
    assert_eq!((report.done, report.moved, report.failed), (held, 0, held), "{report:?}");
    assert_eq!(ring.nodes[0].metric("shoal_cache_handed_blocks_total{outcome=\"failed\"}"), held);
    // Alone in the ring there is nobody to ask.
    ring.publish_without(&[2, 3]);
    assert_eq!(drained(&ring.nodes[0], LONG).await.moved, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_hang_do_not_hold_a_drain_beyond_its_limit() {
    let objects = Objects::new();
    let ring = Ring::start_changed(3, |_| objects.origins(), prompt).await;
    fill(&ring, &objects, 30).await;
    ring.views.publish(leaving(&ring, 1));
    ring.nodes.iter().for_each(|node| node.turns(Mood::Hung));
    let report = drained(&ring.nodes[0], Duration::from_millis(300)).await;
    assert_eq!(report.moved, 0);
    assert!(report.first_error.is_some(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_ring_ends_a_hand_over_and_starts_the_next() {
    let objects = Objects::new();
    let ring = Ring::start_changed(4, |_| objects.origins(), prompt).await;
    ring.publish_without(&[3, 4]);
    let blocks = fill(&ring, &objects, 60).await;
    // The first newcomer takes nothing and never says so.
    ring.nodes[2].turns(Mood::Hung);
    let _followers: Vec<Follower> = ring.nodes[..2].iter().map(Follower::of).collect();
    ring.publish_without(&[4]);
    let waiting = async || ring.nodes[..2].iter().all(|node| node.metric("shoal_cache_handing_over") == 1);
    wait_until_async("both wait for the newcomer", PATIENCE, waiting).await;
    ring.publish_without(&[3]);
    wait_until_async("the other newcomer has its blocks", PATIENCE, async || blocks.are_home(&ring)).await;
    assert_eq!(objects.gets(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_whose_giver_dies_takes_what_is_left_from_the_origin() {
    let objects = Objects::new();
    let ring = Ring::start_changed(3, |_| objects.origins(), prompt).await;
    let data = objects.put("a", 1, 2 * MIB).await;
    let [owner, giver] = [ring.owner(&key("a"), 0), ring.owner(&key("a"), 2)];
    giver.cache.store().insert(&key("a"), data.clone()).await.unwrap();
    giver.turns(Mood::Breaks(MIB, shoal_wire::Status::Unavailable));
    let from = Some(giver.endpoint.local_addr());
    owner.cache.warm(&Ctx::warm_up(), &key("a"), from).await.unwrap();
    assert_eq!(objects.gets(), 1);
    let stream = owner.cache.read(&Ctx::foreground(), &key("a"), BlockRange::WHOLE).await.unwrap();
    assert!(drain(stream).await.unwrap() == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_blocks_are_handed_over_in_few_requests() {
    let objects = Objects::new();
    let ring = Ring::start_changed(2, |_| objects.origins(), prompt).await;
    ring.publish_without(&[2]);
    let giver = &ring.nodes[0];
    let mut blocks = Vec::new();
    for i in 0..600u64 {
        let data = objects.put(&format!("a{i}"), i, 1 + i as u32 * 7 % 5000).await;
        giver.cache.store().insert(&key(&format!("a{i}")), data.clone()).await.unwrap();
        blocks.push((key(&format!("a{i}")), data));
    }
    let blocks = Blocks(blocks);
    ring.publish_without(&[]);
    let _follower = Follower::of(giver);
    wait_until_async("all blocks are with their owners", PATIENCE, async || blocks.are_home(&ring)).await;
    blocks.check(&ring).await;
    assert_eq!(objects.gets(), 0);
    let asked = ring.nodes[1].metric("shoal_net_requests_total{kind=\"get\",outcome=\"ok\"}");
    assert!(asked < 100, "{asked} requests for {} blocks", blocks.of(&ring, 2).len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_giver_that_fails_leaves_small_blocks_to_the_usual_way() {
    let objects = Objects::new();
    let ring =
        Ring::start_changed(2, |_| objects.origins(), |config| config.peer_patience = Duration::from_millis(200)).await;
    let keys: Vec<BlockKey> = (0..40).map(|i| key(&format!("a{i}"))).collect();
    for (key, seed) in keys.iter().zip(0..) {
        let data = objects.put(key.object(), seed, 900).await;
        ring.nodes[0].cache.store().insert(key, data).await.unwrap();
    }
    let ctx = Ctx::warm_up();
    let take = || ring.nodes[1].cache.take_small(&ctx, keys.clone(), ring.nodes[0].endpoint.local_addr());
    for mood in
        [Mood::Refuses(shoal_wire::Status::Unavailable), Mood::Breaks(0, shoal_wire::Status::Internal), Mood::Hung]
    {
        ring.nodes[0].turns(mood);
        let (taken, _, left) = clock::timeout(LONG, take()).await.expect("gives up");
        assert_eq!((taken, left.len()), (0, keys.len()));
    }
    ring.nodes[0].turns(Mood::Honest);
    ring.nodes[0].endpoint.close().await;
    assert_eq!(take().await.2.len(), keys.len());
    ring.nodes[1].cache.warm(&ctx, &keys[0], Some(ring.nodes[0].endpoint.local_addr())).await.unwrap();
    assert_eq!(objects.gets(), 1);
}
