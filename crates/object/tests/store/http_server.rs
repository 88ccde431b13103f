//! A tiny HTTP server that answers from a script: one answer a request, each on a connection of its own.
//!
//! It hears what a client really sends and can do what real servers only do on bad days: break off, hold, throttle.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use shoal_object::{Backoff, Location, ObjectOptions, ObjectStore, open};
use shoal_runtime::metrics::Registry;
use shoal_runtime::task;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These bytes, then the connection is closed: a body shorter than its `Content-Length` breaks off.
    Bytes(Vec<u8>),
    /// Nothing, for as long as the client stays.
    Silence,
    /// These bytes, then nothing for as long as the client stays.
    BytesThenSilence(Vec<u8>),
}

/// A scripted server; stops when dropped.
pub struct HttpServer {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: tokio::task::JoinHandle<()>,
}

struct State {
    /// What to do with a request of this head.
    answer: Box<dyn FnMut(&str) -> Answer + Send>,
    requests: Vec<String>,
}

impl HttpServer {
    /// Starts it on a free port of loopback. When the script is used up it answers 404.
    pub async fn start(script: impl IntoIterator<Item = Answer>) -> HttpServer {
        let mut script: VecDeque<Answer> = script.into_iter().collect();
        HttpServer::answering(move |_| script.pop_front().unwrap_or_else(|| reply("404 Not Found", "", b""))).await
    }

    /// Starts it with an answer to each request by its head.
    pub async fn answering(answer: impl FnMut(&str) -> Answer + Send + 'static) -> HttpServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { answer: Box::new(answer), requests: Vec::new() }));
        let shared = state.clone();
        let accepting = task::spawn("http-test", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                task::spawn("http-test-connection", async move {
                    // The client may hang up at any point.
                    let _ = serve(stream, shared).await;
                });
            }
        });
        HttpServer { address, state, accepting }
    }

    /// Bucket `b` of this server.
    pub fn location(&self) -> Location {
        Location {
            storage: "s3".into(),
            bucket: format!("http://{}/b", self.address),
            access_key: "AK".into(),
            secret_key: "SK".into(),
            ..Location::default()
        }
    }

    /// A store of bucket `b`, with retries that do not wait, and its metrics.
    pub fn store(&self, change: impl FnOnce(&mut ObjectOptions)) -> (Arc<dyn ObjectStore>, Registry) {
        let mut options = quick();
        change(&mut options);
        let registry = Registry::new();
        (open(&self.location(), &options, &registry).unwrap(), registry)
    }

    /// Heads of the requests so far, header names in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Options whose pauses take no time.
pub fn quick() -> ObjectOptions {
    let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(2), jitter: 0.5 };
    ObjectOptions { retries: 3, backoff, ..ObjectOptions::default() }
}

/// An answer with `Content-Length`, and `headers` such as `ETag: "x"` on lines of their own.
pub fn reply(status: &str, headers: &str, body: &[u8]) -> Answer {
    Answer::Bytes(raw_reply(status, headers, body, body.len()))
}

/// An answer that promises all of `body` and sends its first `sent` bytes.
pub fn cut_reply(status: &str, headers: &str, body: &[u8], sent: usize) -> Answer {
    Answer::Bytes(raw_reply(status, headers, &body[..sent], body.len()))
}

/// The bytes of an answer that promises `promised` bytes of body.
pub fn raw_reply(status: &str, headers: &str, body: &[u8], promised: usize) -> Vec<u8> {
    let separator = if headers.is_empty() { "" } else { "\r\n" };
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {promised}\r\n{headers}{separator}\r\n");
    [head.as_bytes(), body].concat()
}

/// An S3 error answer.
pub fn s3_error(status: &str, code: &str, message: &str) -> Answer {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message><RequestId>7</RequestId></Error>"
    );
    reply(status, "Content-Type: application/xml", body.as_bytes())
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let head = read_request(&mut stream).await?;
    let answer = {
        let mut state = state.lock();
        let answer = (state.answer)(&head);
        state.requests.push(head);
        answer
    };
    let mut scratch = [0u8; 64];
    match answer {
        Answer::Bytes(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
        }
        Answer::BytesThenSilence(bytes) => {
            stream.write_all(&bytes).await?;
            let _hung_up = stream.read(&mut scratch).await?;
        }
        Answer::Silence => {
            let _hung_up = stream.read(&mut scratch).await?;
        }
    }
    Ok(())
}

/// Reads one request with its body; returns the head, header names in lower case.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_len]).into_owned();
    let lines = head.lines().enumerate().map(|(index, line)| match line.split_once(": ") {
        Some((name, value)) if index > 0 => format!("{}: {value}", name.to_ascii_lowercase()),
        _ => line.to_owned(),
    });
    let head = lines.collect::<Vec<_>>().join("\n");
    let body_len: usize = header(&head, "content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    while bytes.len() < head_len + 4 + body_len {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The value of a header in a request's head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
