//! More than fits: who is turned away, and who is not.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use shoal_net::{Body, Endpoint, Role};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_types::{BlockRange, Class};
use shoal_wire::{GetHead, GetMany, GetRequest, Request, Response, Status};
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, Pair, block, bytes, eventually, metric, patient, whole};

fn request(class: Class, how: &str, len: u32) -> GetRequest {
    GetRequest { class, range: BlockRange::new(0, len), ..whole(block(how, len)) }
}

/// Asks in the background; whoever is turned away gives the head.
fn ask(client: &Endpoint, pair: &Pair, request: GetRequest) -> JoinHandle<GetHead> {
    let (client, peer) = (client.clone(), pair.peer());
    task::spawn("test-get", async move { client.get(peer, &request).await.unwrap().head })
}

/// Asks for `count` blocks that never come; gives how many are turned away, once that is settled.
async fn flood(
    client: &Endpoint,
    pair: &Pair,
    request: &GetRequest,
    count: usize,
    fitting: usize,
) -> Vec<JoinHandle<GetHead>> {
    let before = pair.service.running.load(Ordering::SeqCst);
    let asked: Vec<_> = (0..count).map(|_| ask(client, pair, request.clone())).collect();
    let refused = |asked: &[JoinHandle<GetHead>]| asked.iter().filter(|asking| asking.is_finished()).count();
    eventually("every request is answered or being worked on", || {
        pair.service.running.load(Ordering::SeqCst) - before + refused(&asked) == count
    })
    .await;
    assert_eq!(count - refused(&asked), fitting, "{}", request.class);
    let (refused, asked): (Vec<_>, Vec<_>) = asked.into_iter().partition(JoinHandle::is_finished);
    for head in join_all(refused).await {
        let head = head.unwrap();
        assert!(head.status == Status::Busy && head.retry_ms > 0, "{head:?}");
    }
    asked
}

/// A foreground get over `client` is answered.
async fn foreground_gets_through(client: &Endpoint, pair: &Pair) {
    let request = request(Class::Foreground, "good", 300_000);
    let (head, got) = clock::timeout(PATIENCE, client.fetch(pair.peer(), request)).await.unwrap().unwrap();
    assert_eq!(head.status, Status::Ok, "{head:?}");
    assert!(got == bytes(head.range));
}

fn turned_away(pair: &Pair, what: &str) -> u64 {
    metric(&pair.node_metrics, &format!(r#"shoal_net_turned_away_total{{what="{what}"}}"#))
}

#[tokio::test]
async fn each_class_fills_its_share_of_a_connection_and_the_rest_is_for_more_urgent_ones() {
    let pair = Pair::new();
    let mut asked = Vec::new();
    for class in [Class::Background, Class::WarmUp, Class::Fill, Class::Foreground] {
        foreground_gets_through(&pair.client, &pair).await;
        asked.push(flood(&pair.client, &pair, &request(class, "never", 9), 140, 128).await);
        assert_eq!(turned_away(&pair, class.as_str()), 12);
    }
    // Full to the last place: even a foreground get is told to come again, and may go elsewhere.
    let head = ask(&pair.client, &pair, request(Class::Foreground, "good", 1)).await.unwrap();
    assert!(head.status == Status::Busy && head.retry_ms > 0);
    // Room that is given back is there at once.
    asked.remove(0).iter().for_each(JoinHandle::abort);
    eventually("they are dropped", || pair.service.running.load(Ordering::SeqCst) == 384).await;
    foreground_gets_through(&pair.client, &pair).await;
    flood(&pair.client, &pair, &request(Class::Background, "never", 9), 5, 0).await;
}

#[tokio::test]
async fn bytes_asked_for_are_bounded_by_class_too() {
    let pair = Pair::new();
    // A quarter of 256 MiB, passed by the last one in.
    let _asked = flood(&pair.client, &pair, &request(Class::Background, "never", 16 << 20), 9, 4).await;
    foreground_gets_through(&pair.client, &pair).await;
    let many = GetMany { class: Class::Background, ..GetMany::new(vec![(block("good", 5), BlockRange::new(0, 5)); 3]) };
    let mut reply = pair.client.get_many(pair.peer(), many).await.unwrap();
    for _ in 0..3 {
        let (head, got) = reply.next().await.unwrap().unwrap();
        assert!(head.status == Status::Busy && head.retry_ms > 0 && got.is_empty(), "{head:?}");
    }
    assert!(reply.next().await.unwrap().is_none());
}

#[tokio::test]
async fn all_connections_together_are_bounded() {
    let pair = Pair::new();
    let client = |i| Endpoint::bind(patient(pair.ca.issue(Role::Client, &format!("c{i}"))), &Registry::new()).unwrap();
    let clients: Vec<Endpoint> = (0..5).map(client).collect();
    let request = request(Class::Background, "never", 16 << 20);
    let mut asked = Vec::new();
    for client in &clients[..4] {
        asked.push(flood(client, &pair, &request, 4, 4).await);
    }
    // A quarter of 1 GiB is asked for.
    flood(&clients[4], &pair, &request, 2, 0).await;
    foreground_gets_through(&clients[4], &pair).await;
}

#[tokio::test]
async fn bodies_nobody_reads_do_not_keep_a_more_urgent_one_from_coming() {
    let pair = Pair::new();
    // Three times what one connection once took unread.
    let replies =
        (0..60).map(|_| async { pair.client.get(pair.peer(), &request(Class::WarmUp, "good", 8 << 20)).await });
    let bodies: Vec<Body> = join_all(replies)
        .await
        .into_iter()
        .map(Result::unwrap)
        .filter(|r| r.head.status == Status::Ok)
        .map(|r| r.body)
        .collect();
    assert!(bodies.len() >= 16, "{}", bodies.len());
    for _ in 0..5 {
        foreground_gets_through(&pair.client, &pair).await;
    }
    for body in bodies {
        assert_eq!(body.collect().await.unwrap().len(), 8 << 20);
    }
}

#[tokio::test]
async fn control_requests_of_a_connection_are_bounded_and_leave_gets_alone() {
    let pair = Pair::new();
    let mut watches = Vec::new();
    for _ in 0..256 {
        let mut watch = pair.client.call_stream(pair.peer(), &Request::Watch).await.unwrap();
        assert!(matches!(watch.next().await.unwrap(), Some(Response::View(_))));
        watches.push(watch);
    }
    let error = pair.client.call(pair.peer(), &Request::View, PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("busy"), "{error}");
    assert_eq!(turned_away(&pair, "call"), 1);
    foreground_gets_through(&pair.client, &pair).await;
    drop(watches);
    let deadline = clock::now() + PATIENCE;
    while pair.client.call(pair.peer(), &Request::View, PATIENCE).await.is_err() {
        assert!(clock::now() < deadline, "the watches that ended have made no room");
        clock::sleep(Duration::from_millis(5)).await;
    }
}
