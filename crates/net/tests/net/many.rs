//! Many ranges in one request.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use shoal_net::{NetError, Role};
use shoal_types::{BlockKey, BlockRange, Class, ErrorKind};
use shoal_wire::{GetHead, GetMany, Status};

use crate::raw::{self, Files};
use crate::support::{Pair, block, bytes, eventually, metric, patient};

fn item(how: &str, len: u32) -> (BlockKey, BlockRange) {
    (block(how, len), BlockRange::new(0, len))
}

async fn all(pair: &Pair, many: GetMany) -> (Vec<(GetHead, Bytes)>, Option<NetError>) {
    let mut reply = match pair.client.get_many(pair.peer(), many).await {
        Ok(reply) => reply,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut items = Vec::new();
    loop {
        match reply.next().await {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, None),
            Err(error) => return (items, Some(error)),
        }
    }
}

#[tokio::test]
async fn items_come_in_order_each_with_its_head_and_bytes() {
    let pair = Pair::new();
    let middle = (block("pieces", 1 << 20), BlockRange::new(1000, 200_000));
    let items = vec![item("good", 5), item("busy", 9), middle, item("good", 0), item("good", 3 << 20), item("good", 7)];
    let many = GetMany { class: Class::WarmUp, local: true, ..GetMany::new(items) };
    let (got, error) = all(&pair, many.clone()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(got.len(), many.items.len());
    for ((head, body), (_, range)) in got.iter().zip(&many.items) {
        match head.status {
            Status::Busy => assert!(body.is_empty() && head.message == "too much to do"),
            status => {
                assert_eq!((status, head.range), (Status::Ok, *range));
                assert!(*body == bytes(*range), "{range}");
            }
        }
    }
    assert_eq!(metric(&pair.client_metrics, r#"shoal_net_requests_total{kind="get_many",outcome="ok"}"#), 1);
    eventually("the node has counted it", || {
        metric(&pair.node_metrics, r#"shoal_net_served_total{kind="get_many",outcome="ok"}"#) == 1
    })
    .await;
}

#[tokio::test]
async fn as_many_as_fit_come_and_more_are_refused_before_they_are_sent() {
    let pair = Pair::new();
    let (got, error) = all(&pair, GetMany::new(vec![item("good", 32 << 10); 256])).await;
    assert!(error.is_none() && got.len() == 256);
    assert!(got.iter().all(|(_, body)| *body == bytes(BlockRange::new(0, 32 << 10))));
    let (got, error) = all(&pair, GetMany::new(Vec::new())).await;
    assert!(error.is_none() && got.is_empty());
    for over in [vec![item("good", 1); 257], vec![item("good", 8 << 20), item("good", 1)]] {
        let error = pair.client.get_many(pair.peer(), GetMany::new(over)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

#[tokio::test]
async fn an_item_that_breaks_off_ends_the_batch_behind_the_items_before_it() {
    let pair = Pair::new();
    let big = (block("good", 100_000), BlockRange::new(0, 100_000));
    let (got, error) =
        all(&pair, GetMany::new(vec![item("good", 5), big, item("breaks", 200_000), item("good", 5)])).await;
    assert_eq!(error.unwrap().kind(), ErrorKind::Corrupt);
    // What the broken stream had not delivered yet is gone with it.
    assert!(got.len() <= 2 && got.iter().all(|(head, _)| head.status == Status::Ok), "{}", got.len());
}

#[tokio::test]
async fn items_after_the_deadline_are_answered_as_late() {
    let pair = Pair::new();
    let items = || vec![item("good", 5), item("never", 5), item("good", 5)];
    let mut deadline_ms = 300;
    // The caller's own deadline is the same one, and whichever side sees it first ends it; what was answered before is there.
    let (statuses, error) = loop {
        let (got, error) = all(&pair, GetMany { deadline_ms, ..GetMany::new(items()) }).await;
        if !got.is_empty() {
            break (got.iter().map(|(head, _)| head.status).collect::<Vec<Status>>(), error);
        }
        assert!(deadline_ms < 60_000, "{error:?}");
        // On a busy machine nothing at all was answered by then.
        deadline_ms *= 4;
    };
    match error {
        None => assert_eq!(statuses, [Status::Ok, Status::Timeout, Status::Timeout]),
        Some(error) => {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert_eq!(statuses[..1], [Status::Ok]);
        }
    }
}

#[tokio::test]
async fn dropping_a_batch_ends_its_handler() {
    let pair = Pair::new();
    let reply =
        pair.client.get_many(pair.peer(), GetMany::new(vec![item("good", 1 << 20), item("never", 5)])).await.unwrap();
    eventually("the handler runs", || pair.service.asked.load(Ordering::SeqCst) == 2).await;
    drop(reply);
    eventually("the handler is dropped", || pair.service.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn one_refusal_may_answer_a_whole_batch() {
    let files = Files::new();
    let (server, addr) = raw::server(&files.issued(Role::Node, "n1"));
    let serving = async {
        let connection = server.accept().await.unwrap().await.unwrap();
        let (mut outbound, mut inbound) = connection.accept_bi().await.unwrap();
        inbound.read_to_end(4096).await.unwrap();
        outbound.write_all(&GetHead::refusal(Status::Invalid, "what is that?").encode().unwrap()).await.unwrap();
        outbound.finish().unwrap();
        connection.closed().await;
    };
    let config = patient(files.credentials(Role::Client, "c1"));
    let client = shoal_net::Endpoint::bind(config, &shoal_runtime::metrics::Registry::new()).unwrap();
    let asking = async {
        let mut reply = client.get_many(addr, GetMany::new(vec![item("good", 1); 2])).await.unwrap();
        assert_eq!(reply.next().await.unwrap().unwrap().0.status, Status::Invalid);
        let error = reply.next().await.unwrap_err();
        assert!(error.to_string().contains("what is that?") && error.kind() == ErrorKind::Invalid, "{error}");
        client.close().await;
    };
    tokio::join!(serving, asking);
}
