//! Storage `s3` against a scripted server: what is sent, and what each bad answer becomes.

use std::time::Duration;

use bytes::Bytes;
use shoal_object::{Location, ObjectOptions, ObjectStore, open, probe};
use shoal_runtime::metrics::Registry;
use shoal_types::ErrorKind;
use shoal_types::checksum::crc32c;

use crate::http_server::{Answer, HttpServer, cut_reply, header, quick, raw_reply, reply, s3_error};

const BODY: &[u8] = b"0123456789abcdefghij";

async fn read(store: &dyn ObjectStore, key: &str) -> Result<Bytes, shoal_object::ObjectError> {
    store.get(key, None, None).await?.collect(1 << 20).await
}

fn slow_down() -> Answer {
    s3_error("503 Slow Down", "SlowDown", "Please reduce your request rate.")
}

#[tokio::test]
async fn a_throttled_request_is_repeated_until_it_succeeds() {
    let server = HttpServer::start([slow_down(), slow_down(), reply("200 OK", "ETag: \"e\"", BODY)]).await;
    let (store, registry) = server.store(|_| {});
    assert_eq!(read(store.as_ref(), "k").await.unwrap(), BODY);
    assert_eq!(server.requests().len(), 3);
    let text = registry.gather_text();
    assert!(text.contains("shoal_object_retries_total 2"), "{text}");
    assert!(text.contains(r#"shoal_object_requests_total{op="get",outcome="unavailable"} 2"#), "{text}");
    assert!(text.contains(r#"shoal_object_requests_total{op="get",outcome="ok"} 1"#), "{text}");
    assert!(text.contains(r#"shoal_object_bytes_total{direction="read"} 20"#), "{text}");
}

#[tokio::test]
async fn repetitions_are_bounded_and_the_last_answer_is_told() {
    let server = HttpServer::start(std::iter::repeat_n(slow_down(), 10)).await;
    let (store, _) = server.store(|options| options.retries = 4);
    let error = read(store.as_ref(), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("SlowDown: Please reduce"), "{error}");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn puts_are_repeated_with_their_whole_body_and_checksum() {
    let server = HttpServer::start([slow_down(), Answer::Bytes(Vec::new()), reply("200 OK", "", b"")]).await;
    let (store, _) = server.store(|_| {});
    store.put("vol/k", Bytes::from_static(BODY)).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for head in requests {
        assert!(head.starts_with("PUT /b/vol/k HTTP/1.1"), "{head}");
        assert_eq!(header(&head, "content-length"), Some("20"));
        // JuiceFS reads this header back (volume format 3.5).
        assert_eq!(header(&head, "x-amz-meta-crc32c"), Some(crc32c(BODY).to_string().as_str()));
        assert_eq!(header(&head, "x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"), "bodies are not hashed twice");
    }
}

#[tokio::test]
async fn the_checksum_can_be_switched_off_by_the_bucket_url() {
    let server = HttpServer::start([reply("200 OK", "", b"")]).await;
    let mut location = server.location();
    location.bucket += "?disable-checksum=true";
    let store = open(&location, &quick(), &Registry::new()).unwrap();
    store.put("k", Bytes::from_static(BODY)).await.unwrap();
    assert_eq!(header(&server.requests()[0], "x-amz-meta-crc32c"), None);
}

#[tokio::test]
async fn puts_name_the_storage_class_of_their_store() {
    let server = HttpServer::start([reply("200 OK", "", b""), reply("200 OK", "", b"")]).await;
    let plain = server.location();
    let archive = Location { storage_class: "GLACIER".into(), ..server.location() };
    for location in [plain, archive] {
        let store = open(&location, &quick(), &Registry::new()).unwrap();
        store.put("k", Bytes::from_static(BODY)).await.unwrap();
    }
    let requests = server.requests();
    let classes: Vec<_> = requests.iter().map(|head| header(head, "x-amz-storage-class")).collect();
    assert_eq!(classes, [None, Some("GLACIER")]);
}

#[tokio::test]
async fn a_body_cut_midway_is_resumed_from_the_byte_reached() {
    let rest = "ETag: \"e\"\r\nContent-Range: bytes 8-19/20";
    let server = HttpServer::start([
        cut_reply("200 OK", "ETag: \"e\"", BODY, 8),
        slow_down(),
        reply("206 Partial Content", rest, &BODY[8..]),
    ])
    .await;
    let (store, _) = server.store(|_| {});
    assert_eq!(read(store.as_ref(), "k").await.unwrap(), BODY);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!((header(&requests[0], "range"), header(&requests[0], "if-match")), (None, None));
    for resumed in &requests[1..] {
        assert_eq!(header(resumed, "range"), Some("bytes=8-19"));
        assert_eq!(header(resumed, "if-match"), Some("\"e\""));
    }
}

#[tokio::test]
async fn a_ranged_body_is_resumed_inside_its_range() {
    let server = HttpServer::start([
        cut_reply("206 Partial Content", "ETag: \"e\"\r\nContent-Range: bytes 5-14/20", &BODY[5..15], 4),
        reply("206 Partial Content", "ETag: \"e\"\r\nContent-Range: bytes 9-14/20", &BODY[9..15]),
    ])
    .await;
    let (store, _) = server.store(|_| {});
    let body = store.get("k", Some(5..15), Some("\"e\"")).await.unwrap();
    assert_eq!((body.len, body.object_len), (10, Some(20)));
    assert_eq!(body.collect(100).await.unwrap(), &BODY[5..15]);
    assert_eq!(header(&server.requests()[1], "range"), Some("bytes=9-14"));
}

#[tokio::test]
async fn bytes_of_two_objects_are_never_joined() {
    let changed = s3_error("412 Precondition Failed", "PreconditionFailed", "changed");
    let server = HttpServer::start([cut_reply("200 OK", "ETag: \"e\"", BODY, 8), changed]).await;
    let (store, _) = server.store(|_| {});
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::Conflict);

    // Without an ETag there is nothing to hold the second half against.
    let server = HttpServer::start([cut_reply("200 OK", "", BODY, 8)]).await;
    let (store, _) = server.store(|_| {});
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 1);

    // Nor does a weak one hold.
    let server = HttpServer::start([cut_reply("200 OK", "ETag: W/\"e\"", BODY, 8)]).await;
    let (store, _) = server.store(|_| {});
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_body_that_keeps_breaking_fails_within_its_repetitions() {
    let cut = cut_reply("200 OK", "ETag: \"e\"", BODY, 0);
    let server = HttpServer::start(std::iter::repeat_n(cut, 20)).await;
    let (store, _) = server.store(|options| options.retries = 2);
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_failed_condition_is_a_conflict_and_not_repeated() {
    let server = HttpServer::start([s3_error("412 Precondition Failed", "PreconditionFailed", "no")]).await;
    let (store, _) = server.store(|_| {});
    let error = store.get("k", Some(0..4), Some("\"old\"")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(header(&server.requests()[0], "if-match"), Some("\"old\""));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_that_ignores_the_condition_does_not_slip_another_object_in() {
    let part = "ETag: \"new\"\r\nContent-Range: bytes 0-3/20";
    let server = HttpServer::start([reply("206 Partial Content", part, &BODY[..4])]).await;
    let (store, _) = server.store(|_| {});
    let error = store.get("k", Some(0..4), Some("\"old\"")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_an_error_and_never_wrong_bytes() {
    let server = HttpServer::start([reply("200 OK", "ETag: \"e\"", BODY)]).await;
    let (store, _) = server.store(|_| {});
    let error = store.get("k", Some(5..10), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("ignores ranges"), "{error}");

    // The whole object is the right answer to a range that covers it.
    let server = HttpServer::start([reply("200 OK", "ETag: \"e\"", BODY)]).await;
    let (store, _) = server.store(|_| {});
    assert_eq!(store.get("k", Some(0..100), None).await.unwrap().collect(100).await.unwrap(), BODY);
}

#[tokio::test]
async fn a_recorded_checksum_is_checked_without_a_second_request() {
    let right = format!("ETag: \"e\"\r\nx-amz-meta-crc32c: {}", crc32c(BODY));
    let wrong = format!("ETag: \"e\"\r\nx-amz-meta-crc32c: {}", crc32c(BODY) ^ 1);
    let odd = "ETag: \"e\"\r\nx-amz-meta-crc32c: none";
    let part = format!("{wrong}\r\nContent-Range: bytes 0-3/20");
    let server = HttpServer::start([
        reply("200 OK", &right, BODY),
        reply("200 OK", &wrong, BODY),
        reply("200 OK", odd, BODY),
        reply("206 Partial Content", &part, &BODY[..4]),
    ])
    .await;
    let (store, _) = server.store(|_| {});
    assert_eq!(read(store.as_ref(), "k").await.unwrap(), BODY);
    let error = read(store.as_ref(), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("checksum"), "{error}");
    assert_eq!(read(store.as_ref(), "k").await.unwrap(), BODY, "an unreadable checksum is none");
    let part = store.get("k", Some(0..4), None).await.unwrap().collect(4).await;
    assert_eq!(part.unwrap(), &BODY[..4], "a part cannot be checked");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn an_object_cut_to_nothing_fails_its_checksum_too() {
    let headers = |sum: u32| format!("ETag: \"e\"\r\nx-amz-meta-crc32c: {sum}");
    let (lost, empty) = (headers(crc32c(BODY)), headers(crc32c(b"")));
    let server = HttpServer::start([reply("200 OK", &lost, b""), reply("200 OK", &empty, b"")]).await;
    let (store, _) = server.store(|_| {});
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(read(store.as_ref(), "k").await.unwrap(), "");
}

#[tokio::test]
async fn a_checksum_spans_the_pieces_of_a_resumed_body() {
    let (sum, rest) = (crc32c(BODY), "ETag: \"e\"\r\nContent-Range: bytes 8-19/20");
    let head = format!("ETag: \"e\"\r\nx-amz-meta-crc32c: {sum}");
    let mut wrong = BODY[8..].to_vec();
    wrong[3] ^= 1;
    for (tail, good) in [(BODY[8..].to_vec(), true), (wrong, false)] {
        let answers = [cut_reply("200 OK", &head, BODY, 8), reply("206 Partial Content", rest, &tail)];
        let server = HttpServer::start(answers).await;
        let (store, _) = server.store(|_| {});
        let got = read(store.as_ref(), "k").await;
        assert_eq!(
            got.map_err(|error| error.kind()),
            if good { Ok(Bytes::from_static(BODY)) } else { Err(ErrorKind::Corrupt) }
        );
    }
}

#[tokio::test]
async fn refused_credentials_are_a_denied_sentence() {
    let answers = [
        s3_error("403 Forbidden", "InvalidAccessKeyId", "The key id does not exist."),
        s3_error("401 Unauthorized", "Unauthorized", "who are you"),
        s3_error("400 Bad Request", "ExpiredToken", "The token has expired."),
    ];
    let server = HttpServer::start(answers).await;
    let (store, _) = server.store(|_| {});
    for words in ["InvalidAccessKeyId: The key id does not exist;", "who are you", "The token has expired;"] {
        let error = read(store.as_ref(), "k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.to_string().contains("check the access key"), "{error}");
    }
    // A HEAD has no body to take words from.
    let server = HttpServer::start([reply("403 Forbidden", "", b"")]).await;
    let (store, _) = server.store(|_| {});
    assert_eq!(store.head("k").await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    let answers = (0..2).map(|_| s3_error("404 Not Found", "NoSuchBucket", "The specified bucket does not exist"));
    let server = HttpServer::start(answers).await;
    let (store, _) = server.store(|_| {});
    for error in [probe(store.as_ref()).await.unwrap_err(), read(store.as_ref(), "k").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), format!("{} does not exist", store.name()));
    }
}

#[tokio::test]
async fn session_tokens_are_sent() {
    let server = HttpServer::start([]).await;
    let mut location = server.location();
    location.session_token = "the-token".into();
    let store = open(&location, &quick(), &Registry::new()).unwrap();
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::NotFound);
    let head = &server.requests()[0];
    assert_eq!(header(head, "x-amz-security-token"), Some("the-token"));
    let authorization = header(head, "authorization").unwrap();
    assert!(authorization.contains("Credential=AK/") && authorization.contains("us-east-1/s3"), "{authorization}");
}

#[tokio::test]
async fn anonymous_requests_are_not_signed() {
    let server = HttpServer::start([]).await;
    let location = Location { access_key: "anonymous".into(), secret_key: String::new(), ..server.location() };
    let store = open(&location, &quick(), &Registry::new()).unwrap();
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(header(&server.requests()[0], "authorization"), None);
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_after_its_repetitions() {
    let address = format!("127.0.0.1:{}", shoal_testkit::free_port());
    let location = Location { bucket: format!("http://{address}/b"), ..HttpServer::start([]).await.location() };
    let registry = Registry::new();
    let store = open(&location, &ObjectOptions { retries: 2, ..quick() }, &registry).unwrap();
    let error = probe(store.as_ref()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
    assert!(registry.gather_text().contains("shoal_object_retries_total 2"));
}

#[tokio::test]
async fn a_silent_server_is_a_timeout() {
    let server = HttpServer::start(std::iter::repeat_n(Answer::Silence, 9)).await;
    let (store, _) = server.store(|options| {
        options.retries = 1;
        options.get_timeout = Duration::from_millis(50);
        options.put_timeout = Duration::from_millis(50);
    });
    let error = read(store.as_ref(), "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("50ms"), "{error}");
    assert_eq!(store.put("k", Bytes::new()).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(store.head("k").await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_body_that_stalls_is_dropped_and_resumed() {
    let stalled = Answer::BytesThenSilence(raw_reply("200 OK", "ETag: \"e\"", &BODY[..8], BODY.len()));
    let rest = "ETag: \"e\"\r\nContent-Range: bytes 8-19/20";
    // Enough answers for a machine so busy that a good one comes too late as well.
    let good = std::iter::repeat_n(reply("206 Partial Content", rest, &BODY[8..]), 20);
    let server = HttpServer::start(std::iter::once(stalled).chain(good)).await;
    let (store, _) = server.store(|options| {
        options.idle_timeout = Duration::from_millis(500);
        options.retries = 20;
    });
    assert_eq!(read(store.as_ref(), "k").await.unwrap(), BODY);
    assert_eq!(header(&server.requests()[1], "range"), Some("bytes=8-19"));
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_unavailable() {
    let server = HttpServer::start(std::iter::repeat_n(Answer::Bytes(b"garbage\r\n\r\n".to_vec()), 9)).await;
    let (store, _) = server.store(|options| options.retries = 1);
    assert_eq!(read(store.as_ref(), "k").await.unwrap_err().kind(), ErrorKind::Unavailable);
}
