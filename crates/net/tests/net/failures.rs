//! Peers that are dead, slow, lying, or gone in the middle.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_net::testing::crash;
use shoal_net::{Body, Endpoint, EndpointConfig, NetError, Role};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_types::checksum::crc32c;
use shoal_types::{BlockRange, ErrorKind, Tier};
use shoal_wire::chunk::{ChunkHeader, encode_run};
use shoal_wire::{GetHead, GetRequest, Status};

use crate::raw::{self, Files};
use crate::support::{
    Blocks, PATIENCE, Pair, block, bytes, eventually, eventually_gets, loopback, metric, patient, whole,
};

/// A node on a given address with the same credentials every time.
fn node_at(addr: SocketAddr, files: &Files, name: &str) -> Result<Endpoint, NetError> {
    let credentials = files.credentials(Role::Node, name);
    let node = Endpoint::bind(EndpointConfig::new(addr, credentials), &Registry::new())?;
    node.serve(Arc::new(Blocks::default()));
    Ok(node)
}

fn client(files: &Files, change: impl FnOnce(&mut EndpointConfig)) -> (Endpoint, Registry) {
    let mut config = patient(files.credentials(Role::Client, "c1"));
    change(&mut config);
    let registry = Registry::new();
    (Endpoint::bind(config, &registry).unwrap(), registry)
}

/// An address nobody answers at, and the socket that keeps it so.
fn black_hole() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}

/// What a body brings piece by piece, and the error it ends with.
async fn read_until_error(mut body: Body) -> (Vec<u8>, NetError) {
    let mut got = Vec::new();
    loop {
        match body.next().await {
            Ok(piece) => got.extend_from_slice(&piece.expect("an error comes before the end")),
            Err(error) => {
                assert_eq!(body.next().await.unwrap_err().kind(), error.kind(), "an error stays");
                return (got, error);
            }
        }
    }
}

#[tokio::test]
async fn answers_that_are_not_whole_are_errors_and_never_short_data() {
    let pair = Pair::new();
    let len = 1 << 20;
    for (how, kind) in
        [("half", ErrorKind::Unavailable), ("panics", ErrorKind::Unavailable), ("breaks", ErrorKind::Corrupt)]
    {
        for _ in 0..10 {
            let result = match pair.client.get(pair.peer(), &whole(block(how, len))).await {
                Ok(reply) => reply.body.collect().await,
                // The break may overtake the head.
                Err(error) => Err(error),
            };
            assert_eq!(result.unwrap_err().kind(), kind, "{how}");
            let Ok(reply) = pair.client.get(pair.peer(), &whole(block(how, len))).await else { continue };
            let (got, error) = read_until_error(reply.body).await;
            assert_eq!(error.kind(), kind, "{how}");
            assert!(got == bytes(BlockRange::new(0, got.len() as u32)));
        }
    }
    for how in ["silent", "too_much"] {
        let result = match pair.client.get(pair.peer(), &whole(block(how, 100))).await {
            Ok(reply) => reply.body.collect().await,
            Err(error) => Err(error),
        };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unavailable, "{how}");
    }
}

#[tokio::test]
async fn a_node_killed_in_the_middle_of_a_body_is_an_error() {
    let pair = Pair::new();
    let mut body = pair.client.get(pair.peer(), &whole(block("stuck", 1 << 20))).await.unwrap().body;
    body.next().await.unwrap().unwrap();
    pair.node.close().await;
    let error = body.collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_node_that_closes_lets_gets_end() {
    let pair = Pair::new();
    let mut body = pair.client.get(pair.peer(), &whole(block("good", 1 << 20))).await.unwrap().body;
    let first = body.next().await.unwrap().unwrap();
    let node = pair.node.clone();
    let closing = task::spawn("test-close", async move { node.close().await });
    let rest = body.collect().await.unwrap();
    assert_eq!(first.len() + rest.len(), 1 << 20);
    closing.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_accepts_and_never_answers_is_a_timeout() {
    let files = Files::new();
    let (server, addr) = raw::server(&files.issued(Role::Node, "n1"));
    let serving = task::spawn("test-raw", async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let mut streams = Vec::new();
        while let Ok(stream) = connection.accept_bi().await {
            streams.push(stream);
        }
    });
    // So long that even on a busy machine an acknowledgement comes in its last half.
    let (client, metrics) = client(&files, |config| config.answer_timeout = Duration::from_secs(5));
    let error = client.get(addr, &whole(block("good", 1))).await.unwrap_err();
    assert!(matches!(error, NetError::Timeout { .. }), "{error}");
    // It is slow, not dead: it acknowledged. Its connection stays.
    let request = GetRequest { deadline_ms: 50, ..whole(block("good", 1)) };
    assert_eq!(client.get(addr, &request).await.unwrap_err().kind(), ErrorKind::Timeout);
    let call = client.call(addr, &shoal_wire::Request::View, Duration::from_millis(50)).await;
    assert_eq!(call.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(metric(&metrics, r#"shoal_net_connections{direction="outbound"}"#), 1);
    client.close().await;
    serving.await.unwrap();
}

#[tokio::test]
async fn a_body_that_stalls_is_a_timeout() {
    let pair = Pair::with(|config| config.body_idle_timeout = Duration::from_millis(100));
    let body = pair.client.get(pair.peer(), &whole(block("stuck", 1000))).await.unwrap().body;
    assert_eq!(body.collect().await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_deadline_ends_a_body_too() {
    let pair = Pair::new();
    let request = GetRequest { deadline_ms: 500, ..whole(block("stuck", 1000)) };
    let result = match pair.client.get(pair.peer(), &request).await {
        Ok(reply) => reply.body.collect().await,
        Err(error) => Err(error),
    };
    // Either side may be first to notice.
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_handler_past_the_deadline_is_dropped() {
    let pair = Pair::new();
    let request = GetRequest { deadline_ms: 100, ..whole(block("never", 1)) };
    match pair.client.get(pair.peer(), &request).await {
        Ok(reply) => assert_eq!(reply.head.status, Status::Timeout),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout),
    }
    let running = || pair.service.running.load(std::sync::atomic::Ordering::SeqCst);
    eventually("the handler is dropped", || running() == 0).await;
}

#[tokio::test]
async fn a_dead_peer_costs_one_timeout_and_then_almost_nothing() {
    let pair = Pair::with(|config| config.connect_timeout = Duration::from_millis(300));
    let (_socket, peer) = black_hole();
    let error = pair.client.get(peer, &whole(block("good", 1))).await.unwrap_err();
    assert!(matches!(error, NetError::ConnectTimeout { .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    for _ in 0..1000 {
        let error = pair.client.get(peer, &whole(block("good", 1))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    // One attempt, and on a machine so busy that a pause was over meanwhile, some more, each after a longer one.
    let attempts = metric(&pair.client_metrics, "shoal_net_handshake_failures_total");
    assert!((1..=30).contains(&attempts), "{attempts} attempts at a dead peer");
}

#[tokio::test]
async fn a_closed_port_fails_within_the_connect_timeout() {
    let pair = Pair::with(|config| config.connect_timeout = Duration::from_millis(200));
    let (socket, peer) = black_hole();
    drop(socket);
    let error = clock::timeout(PATIENCE, pair.client.get(peer, &whole(block("good", 1)))).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn callers_share_one_attempt() {
    let pair = Pair::with(|config| config.connect_timeout = Duration::from_millis(300));
    let (_socket, peer) = black_hole();
    let gets = (0..50).map(|_| {
        let client = pair.client.clone();
        async move { client.get(peer, &whole(block("good", 1))).await.unwrap_err().kind() }
    });
    let kinds = futures::future::join_all(gets).await;
    assert_eq!(kinds, [ErrorKind::Unavailable; 50]);
    // One, unless the machine was so busy that some came after the pause behind it.
    let attempts = metric(&pair.client_metrics, "shoal_net_handshake_failures_total");
    assert!((1..=5).contains(&attempts), "{attempts} attempts");
}

#[tokio::test]
async fn addresses_that_cannot_be_are_errors() {
    let pair = Pair::new();
    for peer in ["0.0.0.0:1", "127.0.0.1:0", "[::1]:9"] {
        let error = pair.client.get(peer.parse().unwrap(), &whole(block("good", 1))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{peer}");
    }
}

/// Binds `addr` again once the endpoint that had it is gone.
async fn rebind(addr: SocketAddr, files: &Files) -> Endpoint {
    let deadline = clock::now() + PATIENCE;
    loop {
        match node_at(addr, files, "n1") {
            Ok(node) => return node,
            Err(error) => assert!(clock::now() < deadline, "{error}"),
        }
        clock::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_node_that_was_restarted_is_asked_again() {
    let files = Files::new();
    let (client, _metrics) = client(&files, |_| {});
    let node = node_at(loopback(), &files, "n1").unwrap();
    let addr = node.local_addr();
    eventually_gets(&client, addr).await;
    node.close().await;
    drop(node);
    let node = rebind(addr, &files).await;
    // The connection was closed in order, so the first request makes a new one.
    let reply = client.get(addr, &whole(block("good", 5))).await.unwrap();
    assert_eq!(reply.body.collect().await.unwrap().len(), 5);
    node.close().await;
}

#[tokio::test]
async fn a_node_that_crashed_and_came_back_resets_its_old_connections() {
    let files = Files::new();
    let (client, metrics) = client(&files, |_| {});
    let node = node_at(loopback(), &files, "n1").unwrap();
    let addr = node.local_addr();
    eventually_gets(&client, addr).await;
    crash(node).await;
    let node = rebind(addr, &files).await;
    // Long before the idle timeout, and before the answer timeout: the new process disowns the old connection, and the request
    // is repeated on a new one.
    let reply = client.get(addr, &whole(block("good", 5))).await.unwrap();
    assert_eq!(reply.body.collect().await.unwrap().len(), 5);
    assert_eq!(metric(&metrics, r#"shoal_net_requests_total{kind="get",outcome="timeout"}"#), 0);
    node.close().await;
}

#[tokio::test]
async fn a_node_that_crashed_for_good_is_noticed_by_the_first_timeout() {
    let files = Files::new();
    let (client, metrics) = client(&files, |config| {
        config.answer_timeout = Duration::from_millis(800);
        config.connect_timeout = Duration::from_millis(300);
    });
    let node = node_at(loopback(), &files, "n1").unwrap();
    let addr = node.local_addr();
    eventually_gets(&client, addr).await;
    crash(node).await;
    let error = client.get(addr, &whole(block("good", 5))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // On a busy machine a pause may be over by the next request; they grow.
    for tries in 0.. {
        match client.get(addr, &whole(block("good", 5))).await.unwrap_err() {
            NetError::BackingOff { .. } => break,
            error => assert!(tries < 30, "it is never left alone: {error}"),
        }
    }
    eventually("its connection is gone", || metric(&metrics, r#"shoal_net_connections{direction="outbound"}"#) == 0)
        .await;
}

#[tokio::test]
async fn a_closed_endpoint_asks_nobody() {
    let pair = Pair::new();
    pair.client.close().await;
    pair.client.close().await;
    let error = pair.client.get(pair.peer(), &whole(block("good", 1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    pair.client.gossip(pair.peer(), Bytes::from_static(b"x"));
}

/// A raw node that answers every get with what `answer` makes of a block of 300 000 bytes.
async fn lying_node(files: &Files, answer: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
    let (server, addr) = raw::server(&files.issued(Role::Node, "liar"));
    task::spawn("test-raw", async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        while let Ok((mut outbound, mut inbound)) = connection.accept_bi().await {
            inbound.read_to_end(4096).await.unwrap();
            let head = GetHead::ok(Tier::Ram, 300_000, BlockRange::WHOLE).encode().unwrap();
            outbound.write_all(&head).await.unwrap();
            // The reader may have had enough by now.
            let _ = outbound.write_all(&answer(&bytes(BlockRange::new(0, 300_000)))).await;
            let _ = outbound.finish();
        }
    });
    addr
}

/// A run of one chunk.
fn chunk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&encode_run(1));
    out.extend_from_slice(&ChunkHeader { len: bytes.len() as u32, crc: crc32c(bytes) }.encode());
    out.extend_from_slice(bytes);
}

async fn lie(answer: fn(&[u8]) -> Vec<u8>) -> (ErrorKind, Vec<u8>) {
    let files = Files::new();
    let addr = lying_node(&files, answer).await;
    let (client, _metrics) = client(&files, |_| {});
    let body = client.get(addr, &whole(block("good", 1))).await.unwrap().body;
    let collected = body.collect().await.unwrap_err().kind();
    let body = client.get(addr, &whole(block("good", 1))).await.unwrap().body;
    let (got, error) = read_until_error(body).await;
    let kind = error.kind();
    assert_eq!(kind, collected);
    (kind, got)
}

#[tokio::test]
async fn a_flipped_bit_is_corrupt_and_none_of_its_chunk_is_handed_out() {
    let (kind, got) = lie(|bytes| {
        let mut out = Vec::new();
        chunk(&mut out, &bytes[..100_000]);
        chunk(&mut out, &bytes[100_000..200_000]);
        let last = out.len() - 1;
        out[last] ^= 1;
        chunk(&mut out, &bytes[200_000..]);
        out
    })
    .await;
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(got == bytes(BlockRange::new(0, 100_000)), "{}", got.len());
}

#[tokio::test]
async fn chunks_of_impossible_length_are_corrupt() {
    fn run(len: u32) -> Vec<u8> {
        [&encode_run(1)[..], &ChunkHeader { len, crc: 0 }.encode()].concat()
    }
    let (kind, got) = lie(|_| run(0)).await;
    assert_eq!((kind, got.len()), (ErrorKind::Corrupt, 0));
    let (kind, _) = lie(|_| run(u32::MAX)).await;
    assert_eq!(kind, ErrorKind::Corrupt);
    let (kind, _) = lie(|_| vec![0; 12]).await;
    assert_eq!(kind, ErrorKind::Corrupt, "a run without chunks");
    let (kind, got) = lie(|bytes| {
        let mut out = Vec::new();
        for part in bytes.chunks(131_072) {
            chunk(&mut out, part);
        }
        // The last chunk's header promises one byte more than the body has left.
        let last = 2 * (131_072 + 12) + 4;
        out[last] += 1;
        out
    })
    .await;
    assert_eq!((kind, got.len()), (ErrorKind::Corrupt, 262_144));
}

#[tokio::test]
async fn one_table_may_hold_many_chunks_and_each_is_checked() {
    let (kind, got) = lie(|bytes| {
        let mut out = encode_run(30).to_vec();
        for (number, part) in bytes.chunks(10_000).enumerate() {
            let crc = crc32c(part) ^ u32::from(number == 20);
            out.extend_from_slice(&ChunkHeader { len: 10_000, crc }.encode());
        }
        out.extend_from_slice(bytes);
        out
    })
    .await;
    // Pieces are given on whole: the one in which the bad chunk begins is not.
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(got.len() <= 200_000 && got == bytes(BlockRange::new(0, got.len() as u32)), "{}", got.len());
}

#[tokio::test]
async fn an_end_before_the_end_is_unavailable() {
    let (kind, got) = lie(|bytes| {
        let mut out = Vec::new();
        chunk(&mut out, &bytes[..100_000]);
        out.extend_from_slice(&[1, 2, 3]);
        out
    })
    .await;
    assert_eq!((kind, got.len()), (ErrorKind::Unavailable, 100_000));
}
