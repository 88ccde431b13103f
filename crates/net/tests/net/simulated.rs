//! The same endpoints over a simulated network: requests, gossip, and every fault that network has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use shoal_net::sim::{NetConfig, SimNet};
use shoal_net::{Endpoint, NetError, PeerIdentity, Role};
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_runtime::simulation::{Process, Simulation};
use shoal_types::ErrorKind;
use shoal_wire::{Request, Response, Status};

use crate::support::*;

fn addr(host: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], 7070))
}

fn endpoint(net: &SimNet, host: u8) -> Endpoint {
    let identity = PeerIdentity::new(Role::Node, "g", &format!("n{host}")).unwrap();
    Endpoint::simulated(net, addr(host), identity, &Registry::new()).unwrap()
}

/// An endpoint at `host` that serves, as a process of its own.
fn serving(net: &SimNet, host: u8) -> (Process, Endpoint, Arc<Blocks>) {
    let (process, blocks) = (Process::new(), Arc::new(Blocks::default()));
    let endpoint = process.run(|| {
        let endpoint = endpoint(net, host);
        endpoint.serve(blocks.clone());
        endpoint
    });
    (process, endpoint, blocks)
}

const LOSSLESS: f64 = 0.0;

fn network(loss: f64) -> SimNet {
    SimNet::new(NetConfig { loss, ..NetConfig::default() })
}

#[tokio::test(start_paused = true)]
async fn requests_of_every_kind_are_answered() {
    let _simulation = Simulation::begin(1);
    let net = network(0.05);
    let (_server, _endpoint, blocks) = serving(&net, 1);
    let client = endpoint(&net, 2);
    for (how, len) in [("good", 0), ("good", 1), ("pieces", 300_000), ("good", 5 << 20)] {
        let (head, body) = client.fetch(addr(1), whole(block(how, len))).await.unwrap();
        assert_eq!((head.block_len, body.len()), (len, len as usize));
        assert!(body == bytes(head.range));
    }
    let error = client.fetch(addr(1), whole(block("half", 100_000))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let reply = client.get(addr(1), &whole(block("busy", 1))).await.unwrap();
    assert_eq!(reply.head.status, Status::Busy);
    let answer = client.call(addr(1), &Request::View, PATIENCE).await.unwrap();
    assert_eq!(answer, Response::View("shoal://g/node/n2".into()));
    let mut stream = client.call_stream(addr(1), &Request::Watch).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), Some(Response::View("first".into())));
    assert_eq!(blocks.running.load(Ordering::SeqCst), 1);
    drop(stream);
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(blocks.running.load(Ordering::SeqCst), 0, "nobody listens any more");
}

#[tokio::test(start_paused = true)]
async fn gossip_arrives_or_is_lost() {
    let _simulation = Simulation::begin(2);
    let net = network(0.2);
    let (_server, _endpoint, blocks) = serving(&net, 1);
    let client = endpoint(&net, 2);
    for n in 0..100u8 {
        client.gossip(addr(1), Bytes::from(vec![n; 100]));
        clock::sleep(Duration::from_millis(10)).await;
    }
    client.gossip(addr(1), Bytes::from(vec![7; 40_000]));
    clock::sleep(Duration::from_secs(1)).await;
    let came = blocks.gossip.lock().clone();
    assert!((60..95).contains(&came.len()), "{}", came.len());
    assert_eq!(came.last().unwrap().1.len(), 40_000, "a large message goes as a stream, which loses nothing");
    assert!(came.iter().all(|(from, _)| from == "n2"));
    let sent = net.sent(addr(2));
    assert!(sent.gossip_bytes > 100 * 100 + 40_000 && sent.gossip_packets >= 100, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_noticed_in_time_and_a_restart_at_once() {
    let _simulation = Simulation::begin(3);
    let net = network(LOSSLESS);
    let (server, _endpoint, _) = serving(&net, 1);
    let client = endpoint(&net, 2);
    client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
    net.crash(addr(1));
    server.kill();
    let asked = clock::now();
    let error = client.fetch(addr(1), whole(block("good", 10))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let waited = clock::now() - asked;
    assert!((Duration::from_secs(3)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    let error = client.fetch(addr(1), whole(block("good", 10))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "it is known to be down");
    let (_again, _endpoint, _) = serving(&net, 1);
    clock::sleep(Duration::from_secs(10)).await;
    client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
    // A restart that nobody noticed: the new process knows nothing of the connection and says so.
    net.crash(addr(1));
    let (_third, _endpoint, _) = serving(&net, 1);
    client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_peer_answers_when_it_goes_on() {
    let _simulation = Simulation::begin(4);
    let net = network(LOSSLESS);
    let (server, _endpoint, blocks) = serving(&net, 1);
    let client = endpoint(&net, 2);
    client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
    let freeze = || {
        server.freeze();
        net.freeze(addr(1));
    };
    let thaw = || {
        server.thaw();
        net.thaw(addr(1));
    };
    freeze();
    let mut fetch = Box::pin(client.fetch(addr(1), whole(block("good", 20))));
    assert!(clock::timeout(Duration::from_secs(1), &mut fetch).await.is_err());
    assert_eq!(blocks.asked.load(Ordering::SeqCst), 1);
    thaw();
    assert_eq!(fetch.await.unwrap().1.len(), 20);
    freeze();
    let error = client.fetch(addr(1), whole(block("good", 10))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "a peer that acknowledges nothing is given up");
    thaw();
    clock::sleep(Duration::from_secs(10)).await;
    client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_takes_no_peer_for_dead() {
    let _simulation = Simulation::begin(8);
    let net = network(LOSSLESS);
    let (_server, _endpoint, blocks) = serving(&net, 1);
    let client = endpoint(&net, 2);
    client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
    let mut fetch = Box::pin(client.fetch(addr(1), whole(block("never", 1))));
    // It has just begun to doubt the peer, when everything here stands still.
    assert!(clock::timeout(Duration::from_micros(1_500_100), &mut fetch).await.is_err());
    tokio::time::advance(Duration::from_secs(5)).await;
    let error = fetch.await.unwrap_err();
    assert!(matches!(error, NetError::Timeout { limit, .. } if limit > Duration::from_secs(9)), "{error}");
    assert_eq!(blocks.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn partitions_keep_peers_apart_until_they_heal() {
    let _simulation = Simulation::begin(5);
    let net = network(LOSSLESS);
    let (_server, _endpoint, blocks) = serving(&net, 1);
    let client = endpoint(&net, 2);
    for one_way in [None, Some((addr(1), addr(2))), Some((addr(2), addr(1)))] {
        client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
        match one_way {
            None => net.part(&[addr(2)]),
            Some((from, to)) => net.cut(from, to),
        }
        let error = client.fetch(addr(1), whole(block("good", 10))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{one_way:?}");
        net.heal();
        clock::sleep(Duration::from_secs(10)).await;
    }
    // Whoever has nothing to say finds out by the silence.
    let mut watch = client.call_stream(addr(1), &Request::Watch).await.unwrap();
    watch.next().await.unwrap();
    net.part(&[addr(2)]);
    let cut = clock::now();
    assert_eq!(watch.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(clock::now() - cut >= Duration::from_secs(25));
    clock::sleep(Duration::from_secs(10)).await;
    assert_eq!(blocks.running.load(Ordering::SeqCst), 0, "and so does the other end");
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_takes_its_time() {
    let _simulation = Simulation::begin(6);
    let net = network(LOSSLESS);
    let (_server, _endpoint, _) = serving(&net, 1);
    let client = endpoint(&net, 2);
    net.slow(addr(1), Duration::from_millis(20), Some(1 << 20));
    let asked = clock::now();
    client.fetch(addr(1), whole(block("pieces", 4 << 20))).await.unwrap();
    let took = clock::now() - asked;
    assert!((Duration::from_secs(4)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_closes_says_so_and_lets_its_address_go() {
    let _simulation = Simulation::begin(7);
    let net = network(LOSSLESS);
    let (_server, endpoint_1, _) = serving(&net, 1);
    let client = endpoint(&net, 2);
    let mut watch = client.call_stream(addr(1), &Request::Watch).await.unwrap();
    watch.next().await.unwrap();
    endpoint_1.close().await;
    let asked = clock::now();
    assert_eq!(watch.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(clock::now() - asked < Duration::from_millis(10));
    assert!(endpoint_1.fetch(addr(2), whole(block("good", 1))).await.is_err());
    let (_again, _endpoint, _) = serving(&net, 1);
    client.fetch(addr(1), whole(block("good", 10))).await.unwrap();
}

#[test]
fn a_seed_decides_everything() {
    let run = |seed| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let _simulation = Simulation::begin(seed);
            let net = network(0.05);
            let _servers: Vec<_> = (1..4).map(|host| serving(&net, host)).collect();
            let client = endpoint(&net, 9);
            for n in 0..20u32 {
                let host = 1 + (n % 3) as u8;
                client.gossip(addr(host), Bytes::from(vec![1; 50]));
                let _ = client.fetch(addr(host), whole(block("pieces", n * 10_000))).await;
                if n == 10 {
                    net.crash(addr(2));
                }
            }
            net.trace()
        })
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
