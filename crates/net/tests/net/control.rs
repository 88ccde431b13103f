//! Control requests, their streams, and peers of another version.

use std::sync::atomic::Ordering;

use shoal_net::{Endpoint, NetError, Role};
use shoal_runtime::metrics::Registry;
use shoal_types::{ErrorKind, Tier};
use shoal_wire::{FrameHeader, FrameKind, GetHead, MAX_KEYS, Request, Response, Status, VERSION};

use crate::raw::{self, Files};
use crate::support::{Blocks, PATIENCE, Pair, block, eventually, patient, progress, whole};

#[tokio::test]
async fn a_call_brings_its_answer() {
    let pair = Pair::new();
    let keys = vec![block("a", 1), block("ab", 1)];
    let answer = pair.client.call(pair.peer(), &Request::Has { keys }, PATIENCE).await.unwrap();
    assert_eq!(answer, Response::Has { tiers: vec![None, Some(Tier::Nvme)] });
    let keys = vec![block("a", 1); MAX_KEYS];
    let answer = pair.client.call(pair.peer(), &Request::Has { keys }, PATIENCE).await.unwrap();
    assert_eq!(answer, Response::Has { tiers: vec![None; MAX_KEYS] });
}

#[tokio::test]
async fn a_handler_sees_who_asks() {
    let pair = Pair::new();
    let answer = pair.client.call(pair.peer(), &Request::View, PATIENCE).await.unwrap();
    assert_eq!(answer, Response::View("shoal://g/client/c1".into()));
}

#[tokio::test]
async fn an_error_answer_becomes_an_error_of_its_kind() {
    let pair = Pair::new();
    let error = pair.client.call(pair.peer(), &Request::Stat, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().ends_with("answered denied: not today"), "{error}");
    let mut stream = pair.client.call_stream(pair.peer(), &Request::Stat).await.unwrap();
    assert_eq!(stream.next().await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(metric_of_calls(&pair, "denied"), 1);
}

fn metric_of_calls(pair: &Pair, outcome: &str) -> u64 {
    let name = format!(r#"shoal_net_requests_total{{kind="call",outcome="{outcome}"}}"#);
    crate::support::metric(&pair.client_metrics, &name)
}

#[tokio::test]
async fn a_stream_brings_every_answer_and_its_end() {
    let pair = Pair::new();
    let keys = vec![block("a", 1); 300];
    let mut stream = pair.client.call_stream(pair.peer(), &Request::Warm { keys, from: None }).await.unwrap();
    for i in 1..=300 {
        assert_eq!(stream.next().await.unwrap(), Some(progress(i, i == 300)));
    }
    assert_eq!(stream.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_watch_stays_open_until_it_is_dropped() {
    let pair = Pair::new();
    let mut stream = pair.client.call_stream(pair.peer(), &Request::Watch).await.unwrap();
    assert_eq!(stream.next().await.unwrap(), Some(Response::View("first".into())));
    assert_eq!(pair.service.running.load(Ordering::SeqCst), 1);
    drop(stream);
    eventually("the watch's handler is dropped", || pair.service.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_watch_ends_with_an_error_when_its_node_goes() {
    let pair = Pair::new();
    let mut stream = pair.client.call_stream(pair.peer(), &Request::Watch).await.unwrap();
    stream.next().await.unwrap();
    pair.node.close().await;
    assert_eq!(stream.next().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_request_over_its_bound_is_not_sent() {
    let pair = Pair::new();
    let keys = vec![block("a", 1); MAX_KEYS + 1];
    let error = pair.client.call(pair.peer(), &Request::Warm { keys, from: None }, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Sends raw bytes to a real node and gives all it answers.
async fn ask_raw(files: &Files, node: &Endpoint, bytes: &[u8]) -> Result<Vec<u8>, quinn::ReadToEndError> {
    let client = raw::client(Some(&files.issued(Role::Client, "raw")));
    let connection = client.connect(node.local_addr(), "x").unwrap().await.unwrap();
    let (mut outbound, mut inbound) = connection.open_bi().await.unwrap();
    outbound.write_all(bytes).await.unwrap();
    outbound.finish().unwrap();
    inbound.read_to_end(1 << 20).await
}

fn node(files: &Files) -> Endpoint {
    let config = patient(files.credentials(Role::Node, "n1"));
    let node = Endpoint::bind(config, &Registry::new()).unwrap();
    node.serve(std::sync::Arc::new(Blocks::default()));
    node
}

#[tokio::test]
async fn an_old_node_answers_a_newer_version_with_a_sentence() {
    let files = Files::new();
    let node = node(&files);
    let get = ask_raw(&files, &node, &[FrameKind::Get as u8, 9, 1, 2, 255, 255, 255, 255, 7, 7]).await.unwrap();
    let head = GetHead::decode(&get[FrameHeader::BYTES..]).unwrap();
    assert_eq!(head.status, Status::Invalid);
    assert_eq!(head.message, "the peer speaks wire version 9, this process speaks 2: upgrade the older of the two");
}

#[tokio::test]
async fn an_old_node_answers_a_newer_control_request_with_a_sentence() {
    let files = Files::new();
    let node = node(&files);
    let call = ask_raw(&files, &node, &[FrameKind::Request as u8, 9, 0, 0, 0, 0, 0, 0]).await.unwrap();
    match Response::decode(&call[FrameHeader::BYTES..]).unwrap() {
        Response::Error { status: Status::Invalid, message } => assert!(message.contains("upgrade"), "{message}"),
        response => panic!("{response:?}"),
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_are_answered_and_hurt_nobody() {
    let files = Files::new();
    let node = node(&files);
    for bytes in [
        &b""[..],
        &[1, VERSION, 0],
        &[77; 40],
        &[2, VERSION, 0, 0, 0, 0, 0, 0],
        &[1, VERSION, 0, 0, 3, 0, 0, 0, 9, 9, 9],
        &[5, VERSION, 0, 0, 3, 0, 0, 0, 9, 9, 9],
    ] {
        let answer = ask_raw(&files, &node, bytes).await.unwrap();
        let head = GetHead::decode(&answer[FrameHeader::BYTES..]).unwrap();
        assert_eq!(head.status, Status::Corrupt, "{bytes:?}");
    }
    let too_long = FrameHeader { kind: FrameKind::Get, len: 0 }.encode();
    let too_long = [&too_long[..4], &[255, 255, 0, 0]].concat();
    let answer = ask_raw(&files, &node, &too_long).await.unwrap();
    assert_eq!(GetHead::decode(&answer[FrameHeader::BYTES..]).unwrap().status, Status::Invalid);
}

#[tokio::test]
async fn a_new_node_that_answers_in_another_version_is_invalid() {
    let files = Files::new();
    let (server, addr) = raw::server(&files.issued(Role::Node, "n1"));
    let serving = shoal_runtime::task::spawn("test-raw", async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut outbound, _inbound) = connection.accept_bi().await.unwrap();
        outbound.write_all(&[FrameKind::GetHead as u8, VERSION + 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        outbound.finish().unwrap();
        connection.closed().await
    });
    let config = patient(files.credentials(Role::Client, "c1"));
    let client = Endpoint::bind(config, &Registry::new()).unwrap();
    let error = client.get(addr, &whole(block("good", 1))).await.unwrap_err();
    assert!(matches!(error, NetError::Wire { .. }) && error.kind() == ErrorKind::Invalid, "{error}");
    client.close().await;
    serving.await.unwrap();
}
