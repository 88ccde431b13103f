//! HTTP for the cloud stores: one connection pool a store, and a look at every answer before the library reads it.
//!
//! Looked at here because the library does not: a server that ignores `Range` and sends the object from its start
//! would otherwise be read as the range's bytes; and 401, which the library would take for a failure of no kind.

use http::{HeaderMap, Request, Response, StatusCode, header};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;
use url::{Host, Url};

use crate::ObjectOptions;

/// Idle connections kept for a host. Above it they are closed after use; 64 covers the parallelism one node reaches.
const IDLE_CONNECTIONS: usize = 64;

/// The library's reqwest transport, over a client with our limits, with answers checked against their requests.
pub(crate) struct CheckedTransport {
    inner: ReqwestTransport,
}

impl CheckedTransport {
    /// A transport to `endpoint` only: a loopback one is reached directly whatever `HTTP_PROXY` says, as in Go, so that a
    /// volume on this machine means the same to JuiceFS and to us.
    ///
    /// Errors: a sentence, if the system's TLS roots cannot be loaded.
    pub(crate) fn new(endpoint: &str, options: &ObjectOptions) -> Result<CheckedTransport, String> {
        let mut client = reqwest::Client::builder();
        if is_loopback(endpoint) {
            client = client.no_proxy();
        }
        let client = client
            .user_agent(concat!("shoal/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS.min(options.max_concurrent.max(1)))
            .tcp_nodelay(true)
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(CheckedTransport { inner: ReqwestTransport::new(client) })
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let url = Url::parse(endpoint).ok();
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl HttpTransport for CheckedTransport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let wanted = match request.method() {
            &http::Method::GET => wanted_range(request.headers()),
            _ => None,
        };
        let mut response = self.inner.fetch(request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            *response.status_mut() = StatusCode::FORBIDDEN;
        }
        if let Some(wanted) = wanted {
            check_range(wanted, response.status(), response.headers())
                .map_err(|why| Error::new(ErrorKind::Unexpected, why).with_operation(RANGE_CHECK))?;
        }
        Ok(response)
    }
}

/// Marks errors made here, for the one who translates them.
pub(crate) const RANGE_CHECK: &str = "shoal::range_check";

/// First and last byte of a `Range: bytes=A-B` header; an open end is `u64::MAX`.
fn wanted_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (first, last) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let last = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
    Some((first.parse().ok()?, last))
}

/// The answer must hold the bytes asked for: by its Content-Range (whatever the status: rclone sends one under 200), or
/// by being an object the range covers.
fn check_range((first, last): (u64, u64), status: StatusCode, headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !status.is_success() {
        return Ok(());
    }
    if let Some(stated) = text(header::CONTENT_RANGE) {
        let range = stated.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
        let starts = range.and_then(|(span, _)| span.split_once('-')?.0.trim().parse::<u64>().ok());
        let total = range.and_then(|(_, total)| total.trim().parse::<u64>().ok());
        if starts != Some(first) || total.is_none() {
            return Err(format!("asked for bytes from {first} on, got `{stated}`"));
        }
        return Ok(());
    }
    let len = text(header::CONTENT_LENGTH).and_then(|len| len.parse::<u64>().ok());
    let covers = first == 0 && len.is_some_and(|len| len <= last.saturating_add(1));
    if status == StatusCode::PARTIAL_CONTENT || !covers {
        return Err(format!("asked for bytes from {first} on, got no such range: the server ignores ranges"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn proxies_are_for_other_machines() {
        for near in ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["http://10.0.0.1:9000", "https://s3.us-east-1.amazonaws.com", "no url"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn reads_the_range_asked_for() {
        assert_eq!(wanted_range(&headers(&[(header::RANGE, "bytes=5-9")])), Some((5, 9)));
        assert_eq!(wanted_range(&headers(&[(header::RANGE, "bytes=5-")])), Some((5, u64::MAX)));
        assert_eq!(wanted_range(&headers(&[])), None);
    }

    #[test]
    fn an_answer_must_start_where_the_range_does() {
        for status in [StatusCode::PARTIAL_CONTENT, StatusCode::OK] {
            let answer = |range| check_range((5, 9), status, &headers(&[(header::CONTENT_RANGE, range)]));
            assert!(answer("bytes 5-9/20").is_ok());
            assert!(answer("bytes 5-7/8").is_ok());
            for wrong in ["bytes 0-4/20", "bytes 5-9/*", "", "bytes */20", "5-9/20"] {
                assert!(answer(wrong).is_err(), "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_whole_object_passes_only_for_a_range_that_covers_it() {
        let whole = |range, len| check_range(range, StatusCode::OK, &headers(&[(header::CONTENT_LENGTH, len)]));
        assert!(whole((0, 9), "10").is_ok());
        assert!(whole((0, u64::MAX), "10").is_ok());
        assert!(whole((0, 8), "10").is_err());
        assert!(whole((1, 9), "10").is_err());
        assert!(check_range((0, 9), StatusCode::OK, &HeaderMap::new()).is_err());
        assert!(check_range((0, 9), StatusCode::PARTIAL_CONTENT, &headers(&[(header::CONTENT_LENGTH, "10")])).is_err());
        assert!(check_range((1, 9), StatusCode::NOT_FOUND, &HeaderMap::new()).is_ok());
    }
}
