//! Answers that are late, bodies that stop or trickle, servers that ask for a pause; in virtual time but for the last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_object::fault::FaultStore;
use shoal_object::{ObjectError, ObjectOptions, ObjectStore, Op, decorate};
use shoal_runtime::clock;
use shoal_runtime::metrics::Registry;
use shoal_testkit::seeded_bytes;
use shoal_types::ErrorKind;

use crate::http_server::{Answer, HttpServer, header, raw_reply, reply};

const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1 << 20;

struct Place {
    faults: Arc<FaultStore>,
    store: Arc<dyn ObjectStore>,
    registry: Registry,
    data: Bytes,
}

impl Place {
    async fn new(len: usize) -> Place {
        let faults = FaultStore::over_memory();
        let data = Bytes::from(seeded_bytes(1, len));
        faults.put("k", data.clone()).await.unwrap();
        faults.reset_counts();
        let registry = Registry::new();
        let store = decorate(faults.clone(), &ObjectOptions { retries: 0, ..ObjectOptions::default() }, &registry);
        Place { faults, store, registry, data }
    }

    /// Reads and checks the object; gives how long that took.
    async fn read(&self) -> Result<Duration, ObjectError> {
        let start = clock::now();
        let bytes = self.store.get("k", None, None).await?.collect(64 << 20).await?;
        assert!(bytes == self.data, "the right bytes");
        Ok(clock::now() - start)
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.registry.gather_text();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap().parse().unwrap()
    }

    /// Makes the store known as one that takes `delay` for an answer.
    async fn usual(&self, delay: Duration) {
        self.faults.delay(Op::Get, delay);
        for _ in 0..40 {
            self.read().await.unwrap();
        }
        self.faults.clear();
        self.faults.reset_counts();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_begins_is_asked_for_again() {
    let place = Place::new(1000).await;
    place.faults.hang_next(Op::Get, 1);
    let took = place.read().await.unwrap();
    assert!(took >= SECOND && took < 2 * SECOND, "of an unknown store a second is waited for: {took:?}");
    place.usual(Duration::from_millis(20)).await;
    place.faults.hang_next(Op::Get, 1);
    let took = place.read().await.unwrap();
    assert!(took < SECOND / 2, "what a known one never takes is late: {took:?}");
    assert_eq!((place.metric("shoal_object_hedges_total"), place.faults.counts().gets), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_as_a_rule_is_not_asked_twice() {
    let place = Place::new(1000).await;
    place.faults.delay(Op::Get, 3 * SECOND);
    for _ in 0..100 {
        place.read().await.unwrap();
    }
    let hedges = place.metric("shoal_object_hedges_total");
    assert!(hedges <= 12, "{hedges} of 100 before its time was known");
    place.faults.reset_counts();
    for _ in 0..20 {
        place.read().await.unwrap();
    }
    assert_eq!(place.faults.counts().gets, 20);
}

#[tokio::test(start_paused = true)]
async fn many_answers_that_hang_are_asked_for_later_once_the_share_is_used_up() {
    let place = Place::new(1000).await;
    place.usual(Duration::from_millis(20)).await;
    let mut longest = Duration::ZERO;
    for _ in 0..60 {
        place.faults.hang_next(Op::Get, 1);
        longest = longest.max(place.read().await.unwrap());
    }
    assert!(longest >= 2 * SECOND && longest < 4 * SECOND, "{longest:?}");
    // Three in a row: each further one waits longer.
    place.faults.hang_next(Op::Get, 3);
    let took = place.read().await.unwrap();
    assert!(took > 4 * SECOND && took < 30 * SECOND, "{took:?}");
    // A store that lost everything it was asked for a while, and then answers.
    place.faults.hang_next(Op::Get, 5);
    let took = place.read().await.unwrap();
    assert!(took < 40 * SECOND, "{took:?}");
    place.faults.hang_next(Op::Get, 1000);
    assert_eq!(place.read().await.unwrap_err().kind(), ErrorKind::Timeout, "and there is an end");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_goes_on_from_the_byte_reached() {
    let place = Place::new(4 * MIB).await;
    place.faults.stall_next(1, 1_000_000);
    let took = place.read().await.unwrap();
    assert!(took < 2 * SECOND, "{took:?}");
    let counts = place.faults.counts();
    assert_eq!((counts.gets, counts.bytes), (2, 4 * MIB as u64), "no byte came twice");
    assert_eq!(place.metric("shoal_object_abandoned_total"), 1);
    // Again and again: later ones are waited for longer, and the last to the idle timeout.
    place.faults.stall_next(8, 1000);
    let took = place.read().await.unwrap();
    assert!(took > 5 * SECOND && took < 60 * SECOND, "{took:?}");
    place.faults.stall_next(9, 1000);
    assert_eq!(place.read().await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_is_left_where_bodies_usually_come_fast() {
    let place = Place::new(MIB).await;
    let trickle = || place.faults.trickle_next(1, 100_000, 1000, Duration::from_millis(50));
    // 20 KB/s of a store of which nothing is known: perhaps it is always so.
    trickle();
    let took = place.read().await.unwrap();
    assert!(took > 40 * SECOND && place.faults.counts().gets == 1, "{took:?}");
    // A megabyte in some 300 ms as a rule.
    for _ in 0..30 {
        place.faults.trickle_next(1, 0, 64 << 10, Duration::from_millis(20));
        place.read().await.unwrap();
    }
    let (gets, before) = (place.faults.counts().gets, place.metric("shoal_object_abandoned_total"));
    trickle();
    let took = place.read().await.unwrap();
    assert!(took < 5 * SECOND, "{took:?}");
    assert_eq!(place.faults.counts().gets, gets + 2);
    assert_eq!(place.metric("shoal_object_abandoned_total"), before + 1);
    // However many: what is asked for again was never sent.
    for _ in 0..40 {
        trickle();
        let took = place.read().await.unwrap();
        assert!(took < 2 * SECOND, "{took:?}");
    }
    let before = place.metric("shoal_object_abandoned_total");
    // 320 KB/s is slow but gets there.
    place.faults.trickle_next(1, 0, 16_000, Duration::from_millis(50));
    place.read().await.unwrap();
    assert_eq!(place.metric("shoal_object_abandoned_total"), before);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_changes_while_its_body_stops_is_never_mixed() {
    let place = Place::new(100_000).await;
    place.faults.stall_next(1, 5000);
    let mut body = place.store.get("k", None, None).await.unwrap();
    let first = body.next().await.unwrap().unwrap();
    assert_eq!(first, place.data[..first.len()]);
    place.faults.put("k", Bytes::from(seeded_bytes(2, 100_000))).await.unwrap();
    assert_eq!(body.next().await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_left_alone_until_then() {
    let busy = |status: &str| reply(status, "Retry-After: 1", b"");
    let script = [busy("503 Slow Down"), busy("429 Too Many Requests"), reply("200 OK", "ETag: \"x\"", b"hello")];
    let server = HttpServer::start(script).await;
    let (store, registry) = server.store(|_| {});
    let start = clock::now();
    let bytes = store.get("a", None, None).await.unwrap().collect(99).await.unwrap();
    assert_eq!(bytes, "hello");
    assert!(clock::now() - start >= 2 * SECOND, "the pauses of this client's own are two milliseconds");
    assert!(registry.gather_text().contains("shoal_object_retries_total 2"));
}

#[tokio::test]
async fn a_real_connection_that_hangs_is_replaced() {
    let stalled = raw_reply("200 OK", "ETag: \"x\"", &[b'a'; 600], 1000);
    let rest = raw_reply("206 Partial Content", "ETag: \"x\"\r\nContent-Range: bytes 600-999/1000", &[b'b'; 400], 400);
    let mut heard = 0;
    // By what is asked for, not in turns: a busy machine may be late with more than was planned, and have it asked for again.
    let server = HttpServer::answering(move |head| {
        heard += 1;
        match header(head, "range") {
            Some(_) => Answer::Bytes(rest.clone()),
            None if heard == 1 => Answer::Silence,
            None => Answer::BytesThenSilence(stalled.clone()),
        }
    })
    .await;
    let (store, registry) = server.store(|_| {});
    let bytes = store.get("a", None, None).await.unwrap().collect(9999).await.unwrap();
    assert_eq!(bytes, [[b'a'; 600].as_slice(), &[b'b'; 400]].concat());
    let requests = server.requests();
    assert!((3..6).contains(&requests.len()), "{requests:?}");
    let resumed = requests.last().unwrap();
    assert!(resumed.contains("range: bytes=600-999") && resumed.contains("if-match: \"x\""), "{requests:?}");
    let text = registry.gather_text();
    assert!(
        !text.contains("shoal_object_hedges_total 0") && !text.contains("shoal_object_abandoned_total 0"),
        "{text}"
    );
}
