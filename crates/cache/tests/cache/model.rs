//! Random faults everywhere at once: a read gives the right bytes or, if the origin itself fails, an error; it always ends, and
//! every byte is counted once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use shoal_cache::{Block, ClientCache};
use shoal_format::{BlockCodec, Settings};
use shoal_object::{ObjectStore, Op};
use shoal_runtime::task;
use shoal_testkit::{Rng, seeded_bytes};
use shoal_types::{BlockRange, Class, Ctx, ErrorKind};
use shoal_wire::Status;

use crate::support::*;

struct World {
    objects: Objects,
    ring: Ring,
    blocks: Vec<(Block, bytes::Bytes)>,
}

async fn world(rng: &mut Rng) -> World {
    let objects = Objects::new();
    let mut settings = Settings::new("vol", "3a8892bf-10f1-473c-bdf0-b8ed81207873");
    settings.compression = "lz4".into();
    let lz4 = settings.codec(None).unwrap();
    let mut blocks = Vec::new();
    for i in 0..24u64 {
        let name = format!("b{i}");
        let len = 1 + rng.below(u64::from(MIB)) as usize;
        let data = bytes::Bytes::from(seeded_bytes(i, len));
        let codec = if rng.chance(30) { lz4.clone() } else { BlockCodec::identity() };
        let stored = if codec.is_identity() { data.clone() } else { codec.encode(data.clone()).unwrap() };
        objects.0.put(&name, stored).await.unwrap();
        blocks.push((Block { key: key(&name), plain_len: len as u32, codec }, data));
    }
    let ring = Ring::start(3, &objects).await;
    World { objects, ring, blocks }
}

impl World {
    /// Something goes wrong somewhere, or comes right again.
    fn disturb(&self, rng: &mut Rng) {
        let reasons = [Status::Unavailable, Status::Corrupt, Status::Timeout, Status::Internal];
        let after = rng.below(u64::from(MIB)) as u32;
        let mood = match rng.below(12) {
            0 => Mood::Refuses(*rng.pick(&[Status::Busy, Status::NotOwner, Status::Denied, Status::NotFound])),
            1 => Mood::Claims(after),
            2 | 3 => Mood::Breaks(after, *rng.pick(&reasons)),
            4 => Mood::Hung,
            5 => Mood::Stuck,
            6 => Mood::Trickles,
            7 => Mood::Busy(2, 5),
            _ => Mood::Honest,
        };
        match rng.below(4) {
            0 => self.objects.0.truncate_next(1, after.into()),
            1 if rng.chance(50) => {
                let kind = *rng.pick(&[ErrorKind::Unavailable, ErrorKind::Timeout]);
                self.objects.0.fail_next(Op::Get, 1, kind);
            }
            _ => rng.pick(&self.ring.nodes).turns(mood),
        }
    }
}

/// One reader's reads. Gives the bytes it got and the reads that failed.
async fn reads(client: ClientCache, world: Arc<World>, mut rng: Rng) -> (u64, u64) {
    let (mut delivered, mut failed) = (0, 0);
    for _ in 0..40 {
        if rng.chance(25) {
            world.disturb(&mut rng);
        }
        let (block, data) = rng.pick(&world.blocks);
        let len = if rng.chance(50) { rng.below(10_000) } else { rng.below(u64::from(MIB)) } as u32;
        let range = BlockRange::new(rng.below(data.len() as u64) as u32, len);
        if rng.chance(10) {
            client.prefetch(&Ctx::new(Class::Fill), block).await;
        }
        match read(&client, block, range).await {
            Ok(bytes) => {
                assert!(bytes == cut(data, range), "wrong bytes of {} at {range}", block.key);
                delivered += bytes.len() as u64;
            }
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
                failed += 1;
            }
        }
    }
    (delivered, failed)
}

async fn run(seed: u64) {
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let world = Arc::new(world(&mut rng).await);
    let clients: Vec<ClientCache> = (0..2)
        .map(|_| {
            let patience = Duration::from_millis(300);
            // Little memory, so that blocks come and go.
            let set = |config: &mut shoal_cache::ClientCacheConfig| {
                config.memory = 20 << 20;
                config.peer_timeout = patience;
            };
            world.ring.client_with(&world.objects, set).0
        })
        .collect();
    let readers = (0..8u64).map(|reader| {
        let (client, world) = (clients[reader as usize % 2].clone(), world.clone());
        let rng = Rng::new(seed.wrapping_mul(1000) + reader);
        task::spawn("reader", async move { (reader % 2, reads(client, world, rng).await) })
    });
    let mut expected = [(0, 0); 2];
    for result in join_all(readers).await {
        let (client, (delivered, failed)) = result.unwrap();
        expected[client as usize].0 += delivered;
        expected[client as usize].1 += failed;
    }
    for (client, (delivered, failed)) in clients.iter().zip(expected) {
        let counts = client.counts();
        assert_eq!((counts.total_bytes(), counts.errors), (delivered, failed), "seed {seed}");
    }
    // Everything comes right again: so do all reads.
    world.objects.0.clear();
    world.ring.nodes.iter().for_each(|node| node.turns(Mood::Honest));
    for (block, data) in &world.blocks {
        assert!(read(&clients[0], block, BlockRange::WHOLE).await.unwrap() == *data, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_never_give_wrong_bytes() {
    for seed in 1..=3 {
        run(seed).await;
    }
}
