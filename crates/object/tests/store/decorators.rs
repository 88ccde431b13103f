//! Limits, timeouts and repetitions over a store that fails on request; in virtual time where time matters.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_object::fault::FaultStore;
use shoal_object::{ObjectOptions, ObjectStore, Op, decorate};
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use shoal_types::ErrorKind;

use crate::http_server::quick;

const BODY: &[u8] = b"0123456789abcdefghij";

async fn stores(options: &ObjectOptions) -> (Arc<FaultStore>, Arc<dyn ObjectStore>, Registry) {
    let faults = FaultStore::over_memory();
    faults.put("k", Bytes::from_static(BODY)).await.unwrap();
    faults.reset_counts();
    let registry = Registry::new();
    let store = decorate(faults.clone(), options, &registry);
    (faults, store, registry)
}

async fn read(store: &dyn ObjectStore) -> Result<Bytes, shoal_object::ObjectError> {
    store.get("k", None, None).await?.collect(1 << 20).await
}

#[tokio::test]
async fn every_operation_is_repeated_after_transient_failures() {
    let (faults, store, _) = stores(&quick()).await;
    for op in Op::ALL {
        for kind in [ErrorKind::Unavailable, ErrorKind::Timeout] {
            faults.fail_next(op, 2, kind);
        }
        // Four failures in all, one more than there are repetitions; the second call then succeeds.
        for want in [false, true] {
            let got = match op {
                Op::Get => read(store.as_ref()).await.map(|_| ()),
                Op::Put => store.put("p", Bytes::from_static(b"x")).await,
                Op::Head => store.head("k").await.map(|_| ()),
                Op::Delete => store.delete("p").await,
                Op::List => store.list("", None, 9).await.map(|_| ()),
            };
            assert_eq!(got.is_ok(), want, "{op}");
        }
    }
}

#[tokio::test]
async fn final_failures_are_not_repeated() {
    let (faults, store, _) = stores(&quick()).await;
    for kind in ErrorKind::ALL {
        if matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout) {
            continue;
        }
        faults.reset_counts();
        faults.fail_next(Op::Get, 1, kind);
        assert_eq!(read(store.as_ref()).await.unwrap_err().kind(), kind);
        assert_eq!(faults.counts().gets, 1, "{kind}");
    }
}

#[tokio::test]
async fn truncated_bodies_are_resumed_and_wrong_ones_never_complete() {
    let (faults, store, _) = stores(&quick()).await;
    faults.truncate_next(3, 3);
    assert_eq!(read(store.as_ref()).await.unwrap(), BODY);
    assert_eq!(faults.counts().gets, 4, "three bytes of each of three attempts, then the rest");

    faults.flip_next(1, 7);
    assert_eq!(read(store.as_ref()).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn no_more_gets_than_allowed_are_in_flight_until_their_bodies_end() {
    let (faults, store, _) = stores(&ObjectOptions { max_concurrent: 2, ..quick() }).await;
    let gate = faults.hold_gets();
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let store = store.clone();
            task::spawn("reader", async move { read(store.as_ref()).await })
        })
        .collect();
    gate.reached(2).await;
    // A put waits in another queue, and its end shows that the readers had every chance to run.
    store.put("p", Bytes::new()).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(faults.counts().gets, 2);
    gate.release();
    for reader in readers {
        assert_eq!(reader.await.unwrap().unwrap(), BODY);
    }

    let held = [store.get("k", None, None).await.unwrap(), store.get("k", None, None).await.unwrap()];
    let third = store.get("k", None, None);
    tokio::pin!(third);
    assert!(futures::poll!(&mut third).is_pending(), "two unread bodies hold both permits");
    drop(held);
    assert_eq!(third.await.unwrap().collect(99).await.unwrap(), BODY);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_a_stalled_body() {
    let options = ObjectOptions { idle_timeout: Duration::from_secs(1), retries: 0, ..quick() };
    let (faults, store, _) = stores(&options).await;
    faults.flip_next(0, 0);
    let mut body = store.get("k", None, None).await.unwrap();
    shoal_runtime::clock::sleep(Duration::from_secs(3600)).await;
    assert_eq!(body.next().await.unwrap().unwrap(), BODY);

    let _gate = faults.hold_bodies_after(4);
    let mut body = store.get("k", None, None).await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), &BODY[..4]);
    assert_eq!(body.next().await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_permit_does_not_count_as_the_stores_time() {
    let options = ObjectOptions { max_concurrent: 1, get_timeout: Duration::from_secs(60), retries: 0, ..quick() };
    let (faults, store, _) = stores(&options).await;
    faults.delay(Op::Get, Duration::from_secs(40));
    let reads = futures::future::join_all((0..4).map(|_| read(store.as_ref()))).await;
    assert!(reads.iter().all(|read| read.is_ok()), "{reads:?}");
    faults.delay(Op::Get, Duration::from_secs(40));
    assert_eq!(read(store.as_ref()).await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn pauses_between_repetitions_grow_and_are_jittered() {
    let options = ObjectOptions { retries: 10, ..ObjectOptions::default() };
    let (faults, store, _) = stores(&options).await;
    faults.fail_all(ErrorKind::Unavailable);
    let start = tokio::time::Instant::now();
    assert!(read(store.as_ref()).await.is_err());
    // 50 ms doubled up to 5 s, ten times: 21.35 s, each pause within half of itself.
    let waited = start.elapsed().as_secs_f64();
    assert!((10.0..33.0).contains(&waited), "{waited}");
    assert_eq!(faults.counts().gets, 11);
}

#[tokio::test]
async fn outcomes_and_bytes_are_counted_once_each() {
    let (faults, store, registry) = stores(&quick()).await;
    read(store.as_ref()).await.unwrap();
    drop(store.get("k", None, None).await.unwrap());
    store.put("p", Bytes::from_static(b"12345")).await.unwrap();
    store.put("empty", Bytes::new()).await.unwrap();
    store.get("empty", None, None).await.unwrap().collect(1).await.unwrap();
    faults.fail_next(Op::Head, 1, ErrorKind::Denied);
    assert!(store.head("k").await.is_err());
    let text = registry.gather_text();
    for line in [
        r#"shoal_object_requests_total{op="get",outcome="ok"} 2"#,
        r#"shoal_object_requests_total{op="get",outcome="cancelled"} 1"#,
        r#"shoal_object_requests_total{op="put",outcome="ok"} 2"#,
        r#"shoal_object_requests_total{op="head",outcome="denied"} 1"#,
        r#"shoal_object_bytes_total{direction="read"} 20"#,
        r#"shoal_object_bytes_total{direction="write"} 5"#,
        r#"shoal_object_request_duration_seconds_count{op="get"} 3"#,
    ] {
        assert!(text.contains(line), "no `{line}` in\n{text}");
    }
}
