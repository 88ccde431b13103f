//! Getting bytes of a block.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use shoal_runtime::task;
use shoal_types::{BlockRange, Class, ErrorKind, Tier};
use shoal_wire::{GetRequest, Status};

use crate::support::{Pair, block, bytes, eventually, metric, whole};

#[tokio::test]
async fn blocks_of_every_size_arrive_whole() {
    let pair = Pair::new();
    for how in ["good", "pieces"] {
        for len in [0, 1, 4095, 131_071, 131_072, 131_073, 1 << 20, 4 << 20, 16 << 20] {
            let reply = pair.client.get(pair.peer(), &whole(block(how, len))).await.unwrap();
            assert_eq!((reply.head.status, reply.head.block_len, reply.head.tier), (Status::Ok, len, Tier::Ram));
            assert_eq!(reply.head.range, BlockRange::new(0, len));
            let body = reply.body.collect().await.unwrap();
            assert!(body == bytes(BlockRange::new(0, len)), "{how} {len}");
        }
    }
    assert_eq!(metric(&pair.client_metrics, r#"shoal_net_connections{direction="outbound"}"#), 1);
    assert_eq!(metric(&pair.client_metrics, r#"shoal_net_requests_total{kind="get",outcome="ok"}"#), 18);
    assert_eq!(metric(&pair.client_metrics, r#"shoal_net_requests_total{kind="body",outcome="ok"}"#), 18);
    let received = metric(&pair.client_metrics, "shoal_net_received_bytes_total");
    assert_eq!(received, metric(&pair.node_metrics, "shoal_net_sent_bytes_total"));
    eventually("the node has counted every answer", || {
        metric(&pair.node_metrics, r#"shoal_net_served_total{kind="get",outcome="ok"}"#) == 18
    })
    .await;
}

#[tokio::test]
async fn a_range_brings_exactly_its_bytes() {
    let pair = Pair::new();
    for (start, len, got) in [(0, 1, 1), (131_000, 300, 300), (1_000_000, 1 << 20, 48_576), (1 << 20, 5, 0)] {
        let request = GetRequest { range: BlockRange::new(start, len), ..whole(block("pieces", 1 << 20)) };
        let reply = pair.client.get(pair.peer(), &request).await.unwrap();
        assert_eq!(reply.head.range, BlockRange::new(start, got));
        assert!(reply.body.collect().await.unwrap() == bytes(BlockRange::new(start, got)), "{start}");
    }
}

#[tokio::test]
async fn a_body_can_be_read_piece_by_piece_and_into_a_buffer() {
    let pair = Pair::new();
    let len = 3 << 20;
    let expected = bytes(BlockRange::new(0, len));

    let mut body = pair.client.get(pair.peer(), &whole(block("good", len))).await.unwrap().body;
    let mut got = Vec::new();
    while let Some(piece) = body.next().await.unwrap() {
        assert!(!piece.is_empty());
        got.extend_from_slice(&piece);
        assert_eq!(body.remaining() as usize, expected.len() - got.len());
    }
    assert!(got == expected);
    assert!(body.next().await.unwrap().is_none());

    let body = pair.client.get(pair.peer(), &whole(block("good", len))).await.unwrap().body;
    let mut buffer = vec![0; len as usize];
    body.read_into(&mut buffer).await.unwrap();
    assert!(buffer == expected);

    // The rest after some pieces.
    let mut body = pair.client.get(pair.peer(), &whole(block("good", len))).await.unwrap().body;
    let first = body.next().await.unwrap().unwrap();
    let mut rest = vec![0; len as usize - first.len()];
    body.read_into(&mut rest).await.unwrap();
    assert!(first == expected[..first.len()] && rest == expected[first.len()..]);

    let body = pair.client.get(pair.peer(), &whole(block("good", len))).await.unwrap().body;
    assert_eq!(body.read_into(&mut [0; 10]).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_fetch_brings_head_and_bytes_together() {
    let pair = Pair::new();
    let (head, got) = pair.client.fetch(pair.peer(), whole(block("good", 300_000))).await.unwrap();
    assert_eq!((head.status, got.len()), (Status::Ok, 300_000));
    assert!(got == bytes(head.range));
    let (head, got) = pair.client.fetch(pair.peer(), whole(block("busy", 1))).await.unwrap();
    assert_eq!((head.status, got.len()), (Status::Busy, 0));
    let error = pair.client.fetch(pair.peer(), whole(block("half", 100))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let (client, peer) = (pair.client.clone(), pair.peer());
    let fetching = task::spawn("test-fetch", async move { client.fetch(peer, whole(block("never", 1))).await });
    eventually("the handler runs", || pair.service.running.load(Ordering::SeqCst) == 1).await;
    fetching.abort();
    eventually("the handler is dropped", || pair.service.running.load(Ordering::SeqCst) == 0).await;
    pair.client.close().await;
    let error = pair.client.fetch(pair.peer(), whole(block("good", 1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn a_dropped_read_loses_no_bytes() {
    let pair = Pair::new();
    let len = 1 << 20;
    let mut body = pair.client.get(pair.peer(), &whole(block("pieces", len))).await.unwrap().body;
    let mut got = Vec::new();
    loop {
        // A read that is polled once and dropped when it is not ready.
        let once = futures::FutureExt::now_or_never(body.next());
        match once {
            None => tokio::task::yield_now().await,
            Some(piece) => match piece.unwrap() {
                Some(piece) => got.extend_from_slice(&piece),
                None => break,
            },
        }
    }
    assert!(got == bytes(BlockRange::new(0, len)));
}

#[tokio::test]
async fn packets_over_loopback_grow_to_its_size() {
    // The bound address decides nothing here, only where the peer is.
    let pair = Pair::with(|config| config.listen = ([0, 0, 0, 0], 0).into());
    let mtu = |registry| metric(registry, "shoal_net_smallest_mtu_bytes");
    assert_eq!(mtu(&pair.client_metrics), 0);
    let deadline = shoal_runtime::clock::now() + crate::support::PATIENCE;
    while mtu(&pair.client_metrics) < 60_000 || mtu(&pair.node_metrics) < 60_000 {
        assert!(shoal_runtime::clock::now() < deadline, "still {} bytes", mtu(&pair.node_metrics));
        let (_, got) = pair.client.fetch(pair.peer(), whole(block("good", 1 << 20))).await.unwrap();
        assert_eq!(got.len(), 1 << 20);
    }
    assert_eq!(metric(&pair.node_metrics, "shoal_net_black_holes_total"), 0);
}

#[tokio::test]
async fn sixty_four_callers_share_one_connection() {
    let pair = Pair::new();
    let gets = (0..64u32).map(|i| {
        let (client, peer) = (pair.client.clone(), pair.peer());
        let class = Class::ALL[i as usize % 4];
        let request = GetRequest { class, ..whole(block("good", 100_000 + i * 4999)) };
        task::spawn("test-get", async move {
            let reply = client.get(peer, &request).await.unwrap();
            let expected = bytes(reply.head.range);
            assert!(reply.body.collect().await.unwrap() == expected, "{i}");
        })
    });
    for got in join_all(gets).await {
        got.unwrap();
    }
    assert_eq!(metric(&pair.node_metrics, r#"shoal_net_connections{direction="inbound"}"#), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_runtime_may_ask() {
    let pair = Pair::new();
    let (client, peer) = (pair.client.clone(), pair.peer());
    let other = task::thread("other-runtime", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let body = client.get(peer, &whole(block("good", 1 << 20))).await.unwrap().body;
            body.collect().await.unwrap().len()
        })
    });
    let own = task::spawn_on(&pair.client.runtime(), "test-on-net", {
        let (client, peer) = (pair.client.clone(), pair.peer());
        async move { client.get(peer, &whole(block("good", 5))).await.unwrap().body.collect().await.unwrap().len() }
    });
    assert_eq!(own.await.unwrap(), 5);
    let len = task::blocking("join", move || other.join().unwrap()).await;
    assert_eq!(len, 1 << 20);
}

#[tokio::test]
async fn a_refusal_is_a_reply_with_its_status_and_no_bytes() {
    let pair = Pair::new();
    let reply = pair.client.get(pair.peer(), &whole(block("busy", 10))).await.unwrap();
    assert_eq!((reply.head.status, reply.head.message.as_str()), (Status::Busy, "too much to do"));
    assert!(reply.body.collect().await.unwrap().is_empty());
    assert_eq!(metric(&pair.client_metrics, r#"shoal_net_requests_total{kind="get",outcome="unavailable"}"#), 1);
}

#[tokio::test]
async fn dropping_a_body_or_a_request_ends_its_handler() {
    let pair = Pair::new();
    let reply = pair.client.get(pair.peer(), &whole(block("stuck", 100))).await.unwrap();
    eventually("the handler runs", || pair.service.running.load(Ordering::SeqCst) == 1).await;
    drop(reply);
    eventually("the handler is dropped", || pair.service.running.load(Ordering::SeqCst) == 0).await;

    let (client, peer) = (pair.client.clone(), pair.peer());
    let request = whole(block("never", 1));
    let asking = task::spawn("test-get", async move { client.get(peer, &request).await.map(drop) });
    eventually("the handler runs", || pair.service.running.load(Ordering::SeqCst) == 1).await;
    asking.abort();
    eventually("the handler is dropped", || pair.service.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn neither_streams_nor_handlers_leak() {
    // More requests than the bounds on streams and on handlers of a connection: a leak would hang.
    let pair = Pair::new();
    for i in 0..600u32 {
        let reply = pair.client.get(pair.peer(), &whole(block("good", 50_000))).await.unwrap();
        if i % 100 == 0 {
            assert_eq!(reply.body.collect().await.unwrap().len(), 50_000);
        }
        let reply = pair.client.get(pair.peer(), &whole(block("busy", 0))).await.unwrap();
        assert_eq!(reply.head.status, Status::Busy);
    }
    eventually("no handler is left", || pair.service.running.load(Ordering::SeqCst) == 0).await;
    assert_eq!(metric(&pair.client_metrics, r#"shoal_net_connections{direction="outbound"}"#), 1);
}
