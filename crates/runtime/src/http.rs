//! The admin port: `GET /metrics` for Prometheus; `/live` (or `/healthz`) and `/ready` for supervisors; over plain HTTP/1.1.
//!
//! Carries no data and no secrets and changes nothing, so it has no authentication; it belongs on a management network.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::clock;
use crate::metrics::Registry;
use crate::shutdown::Shutdown;
use crate::task;

/// Connections served at once; more wait in the kernel's accept queue. A scraper or two and a probe need three.
const CONNECTIONS_MAX: usize = 32;
/// A connection that sends no complete request head for so long is closed, so that idle ones cannot use up the limit.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after a failed `accept`: the usual cause is a lack of file descriptors, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a process wants to be sent work, and in a word why not. Clones share it. A process that is alive but not ready is left
/// running by its supervisor.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<Option<&'static str>>>);

impl Readiness {
    /// Ready from the start.
    pub fn ready() -> Readiness {
        Readiness(Arc::new(Mutex::new(None)))
    }

    /// Not ready yet, for the reason `why`.
    pub fn not_yet(why: &'static str) -> Readiness {
        Readiness(Arc::new(Mutex::new(Some(why))))
    }

    /// Ready from now on, or not for the reason given.
    pub fn set(&self, why_not: Option<&'static str>) {
        *self.0.lock() = why_not;
    }

    fn why_not(&self) -> Option<&'static str> {
        *self.0.lock()
    }
}

/// Serves `registry` and `readiness` on `addr` until `shutdown`; gives the bound address (port 0 picks a free one) once requests are
/// accepted.
///
/// Runs on the current tokio runtime. Errors: the address cannot be bound.
pub async fn serve_admin(
    addr: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    shutdown: Shutdown,
) -> io::Result<SocketAddr> {
    let page = Arc::new(Page { registry, readiness });
    let listener = TcpListener::bind(addr).await?;
    let bound = listener.local_addr()?;
    task::spawn("admin-http", async move {
        tokio::select! {
            () = accept_all(&listener, &page, &shutdown) => {}
            () = shutdown.wait() => {}
        }
    });
    Ok(bound)
}

/// What there is to see.
struct Page {
    registry: Registry,
    readiness: Readiness,
}

async fn accept_all(listener: &TcpListener, page: &Arc<Page>, shutdown: &Shutdown) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("this semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let (page, shutdown) = (Arc::clone(page), shutdown.clone());
                task::spawn("admin-http-connection", async move {
                    serve_connection(stream, &page, shutdown).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin port could not accept a connection");
                clock::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, page: &Page, shutdown: Shutdown) {
    // Head and body of a reply are two writes; without this the second may wait for a delayed ACK.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), page);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        result = connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "admin connection ended early");
            }
        }
        () = shutdown.wait() => {}
    }
}

fn answer(method: &Method, path: &str, page: &Page) -> Response<String> {
    if method != Method::GET && method != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => {
            let mut response = plain(StatusCode::OK, page.registry.gather_text());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/live" | "/healthz" => plain(StatusCode::OK, "ok\n".to_owned()),
        "/ready" => match page.readiness.why_not() {
            None => plain(StatusCode::OK, "ready\n".to_owned()),
            Some(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        _ => plain(StatusCode::NOT_FOUND, "here are /metrics, /live and /ready\n".to_owned()),
    }
}

fn plain(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Bound on every wait here; reached only by a fault.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn ask(addr: SocketAddr, head: &str) -> String {
        let work = async {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let request = format!("{head} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).await.unwrap();
            reply
        };
        clock::timeout(PATIENCE, work).await.unwrap()
    }

    async fn start(registry: &Registry) -> (SocketAddr, Shutdown) {
        let shutdown = Shutdown::new();
        let (addr, _) = start_with(registry, Readiness::ready(), &shutdown).await;
        (addr, shutdown)
    }

    async fn start_with(registry: &Registry, readiness: Readiness, shutdown: &Shutdown) -> (SocketAddr, Readiness) {
        let any = "127.0.0.1:0".parse().unwrap();
        let addr = serve_admin(any, registry.clone(), readiness.clone(), shutdown.clone()).await.unwrap();
        assert_ne!(addr.port(), 0);
        (addr, readiness)
    }

    #[tokio::test]
    async fn readiness_and_its_reason_are_told_and_liveness_is_another_thing() {
        let shutdown = Shutdown::new();
        let (addr, readiness) = start_with(&Registry::new(), Readiness::not_yet("starting"), &shutdown).await;
        let reply = ask(addr, "GET /ready").await;
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.ends_with("\r\n\r\nstarting\n"), "{reply}");
        readiness.set(None);
        assert!(ask(addr, "GET /ready").await.starts_with("HTTP/1.1 200 "));
        readiness.set(Some("draining"));
        assert!(ask(addr, "GET /ready").await.ends_with("draining\n"));
        assert!(ask(addr, "GET /live").await.starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn a_scrape_gets_the_current_values() {
        let registry = Registry::new();
        let counter = registry.counter("shoal_test_total", "Test.");
        let (addr, _shutdown) = start(&registry).await;
        counter.add(7);
        let reply = ask(addr, "GET /metrics").await;
        assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        assert!(reply.contains("content-type: text/plain; version=0.0.4"), "{reply}");
        assert!(reply.ends_with("shoal_test_total 7\n"), "{reply}");
    }

    #[tokio::test]
    async fn health_unknown_paths_and_other_methods_have_their_status() {
        let (addr, _shutdown) = start(&Registry::new()).await;
        assert!(ask(addr, "GET /healthz").await.ends_with("\r\n\r\nok\n"));
        assert!(ask(addr, "GET /secret").await.starts_with("HTTP/1.1 404 "));
        let refused = ask(addr, "POST /metrics").await;
        assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("allow: GET, HEAD"), "{refused}");
    }

    #[tokio::test]
    async fn shutdown_closes_the_port_and_open_connections() {
        let (addr, shutdown) = start(&Registry::new()).await;
        let mut idle = TcpStream::connect(addr).await.unwrap();
        assert!(ask(addr, "GET /healthz").await.starts_with("HTTP/1.1 200 "));
        shutdown.trigger();
        let closed = async {
            let mut byte = [0];
            while matches!(idle.read(&mut byte).await, Ok(n) if n > 0) {}
            while TcpStream::connect(addr).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        clock::timeout(PATIENCE, closed).await.unwrap();
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error() {
        let (addr, _shutdown) = start(&Registry::new()).await;
        let error = serve_admin(addr, Registry::new(), Readiness::ready(), Shutdown::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
