//! An S3 server in memory for one test: it keeps count of what it is asked and misbehaves on request.
//!
//! It knows what volumes need of S3 (put, get with ranges, head, delete, list) and believes every signature.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_runtime::task;

/// The one bucket.
const BUCKET: &str = "b";
/// Largest object taken: far above any block here.
const OBJECT_MAX: usize = 64 << 20;
/// Objects that hold blocks; nothing else is ever misbehaved with.
const BLOCKS: &str = "/chunks/";
/// How often a trickling body sends a piece.
const TRICKLE_TICK: Duration = Duration::from_millis(100);
/// How often it is looked whether a PUT is still to be held.
const HOLD_TICK: Duration = Duration::from_millis(10);

/// What the server does to GETs of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Answers them.
    None,
    /// Answers with this status.
    Status(u16),
    /// Takes the request and says nothing for as long as the client stays.
    Hang,
    /// Sends the head and half of the body, then hangs up.
    Cut,
    /// Sends the body at this many bytes a second.
    Trickle(usize),
    /// Answers late.
    Delay(Duration),
}

/// What the server does to PUTs of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutTrouble {
    /// Takes them.
    None,
    /// Answers with this status and this code of S3.
    Refuse(u16, &'static str),
    /// Takes the block and hangs up without an answer.
    Lose,
    /// Says nothing until the trouble is over, and takes the block then.
    Hold,
}

/// A running server; it ends with the value.
pub struct Origin {
    listener: TcpListener,
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    objects: BTreeMap<String, Stored>,
    trouble: Trouble,
    /// The trouble meets every so-manieth GET of each block.
    one_in: u64,
    /// GETs of blocks so far, of each object.
    gets: HashMap<String, u64>,
    /// Of these, how many met trouble.
    troubled: u64,
    put_trouble: PutTrouble,
    /// PUTs of blocks that met trouble.
    troubled_puts: u64,
    /// Bytes of blocks sent to each host.
    sent: HashMap<Ipv4Addr, u64>,
}

#[derive(Clone)]
struct Stored {
    body: Arc<Vec<u8>>,
    /// `x-amz-meta-` headers of the put.
    meta: String,
}

struct Request {
    method: String,
    key: String,
    query: String,
    /// Names in lower case.
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// What a GET of a block is met with.
struct Got {
    stored: Option<Stored>,
    trouble: Trouble,
}

impl Origin {
    /// Serves on a free port of `addr`, in the network namespace of the calling thread.
    pub fn start(addr: Ipv4Addr) -> Origin {
        let listener = TcpListener::bind((addr, 0)).expect("an address of this host");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            trouble: Trouble::None,
            one_in: 1,
            gets: HashMap::new(),
            troubled: 0,
            put_trouble: PutTrouble::None,
            troubled_puts: 0,
            sent: HashMap::new(),
        }));
        let (accepting, shared) = (listener.try_clone().expect("a second handle"), state.clone());
        task::thread("origin", move || {
            while let Ok((stream, peer)) = accepting.accept() {
                let shared = shared.clone();
                // A client may hang up at any point: that ends its thread and nothing else.
                task::thread("origin-client", move || serve(&stream, peer, &shared).ok());
            }
        });
        Origin { listener, addr, state }
    }

    /// The bucket's URL.
    pub fn bucket(&self) -> String {
        format!("http://{}/{BUCKET}", self.addr)
    }

    /// From now on every `one_in`-th GET of each block meets `trouble`.
    pub fn trouble(&self, trouble: Trouble, one_in: u64) {
        let mut state = lock(&self.state);
        (state.trouble, state.one_in) = (trouble, one_in.max(1));
    }

    /// Behaves from now on.
    pub fn heal(&self) {
        self.trouble(Trouble::None, 1);
    }

    /// Blocks it holds.
    pub fn blocks(&self) -> u64 {
        lock(&self.state).objects.keys().filter(|key| key.contains(BLOCKS)).count() as u64
    }

    /// GETs of blocks so far.
    pub fn gets(&self) -> u64 {
        lock(&self.state).gets.values().sum()
    }

    /// GETs that met trouble.
    pub fn troubled(&self) -> u64 {
        lock(&self.state).troubled
    }

    /// From now on every PUT of a block meets `trouble`, and those that do are counted anew.
    pub fn trouble_puts(&self, trouble: PutTrouble) {
        let mut state = lock(&self.state);
        (state.put_trouble, state.troubled_puts) = (trouble, 0);
    }

    /// PUTs that met the latest trouble.
    pub fn troubled_puts(&self) -> u64 {
        lock(&self.state).troubled_puts
    }

    /// Bytes of blocks sent to hosts other than `readers`.
    pub fn sent_to_nodes(&self, readers: &[Ipv4Addr]) -> u64 {
        lock(&self.state).sent.iter().filter(|(host, _)| !readers.contains(host)).map(|(_, bytes)| bytes).sum()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Wakes the thread that accepts; those of clients end with their clients.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl Request {
    /// The next one; `None` when the client has hung up.
    fn read(input: &mut impl BufRead) -> io::Result<Option<Request>> {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let in_bucket = path.trim_start_matches('/').strip_prefix(BUCKET).unwrap_or_default();
        let (key, query) = (decoded(in_bucket.trim_start_matches('/')), query.to_owned());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            input.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let len = headers.get("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        if len > OBJECT_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut body = vec![0; len];
        input.read_exact(&mut body)?;
        Ok(Some(Request { method, key, query, headers, body }))
    }

    /// The part of an object of `len` bytes that is asked for, if not all of it.
    fn range(&self, len: usize) -> Option<(usize, usize)> {
        let (from, to) = self.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let end = to.parse().map_or(len, |last: usize| (last + 1).min(len));
        let start = if from.is_empty() { len.saturating_sub(to.parse().ok()?) } else { from.parse().ok()? };
        (start < end).then_some((start, end))
    }

    fn query_value(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| decoded(value))
    }
}

/// Answers one client until it hangs up.
fn serve(stream: &TcpStream, peer: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    while let Some(request) = Request::read(&mut input)? {
        match request.method.as_str() {
            "GET" if request.key.is_empty() => list(stream, &request, state)?,
            "GET" => get(stream, peer, &request, state)?,
            "HEAD" => head(stream, &request, state)?,
            "PUT" if request.key.is_empty() => answer(stream, "200 OK", "", b"")?,
            "PUT" => put(stream, request, state)?,
            "DELETE" => {
                lock(state).objects.remove(&request.key);
                answer(stream, "204 No Content", "", b"")?;
            }
            _ => error(stream, "501 Not Implemented", "NotImplemented")?,
        }
    }
    Ok(())
}

fn get(stream: &TcpStream, peer: SocketAddr, request: &Request, state: &Mutex<State>) -> io::Result<()> {
    let Got { stored, trouble } = looked_up(request, state);
    let Some(stored) = stored else { return error(stream, "404 Not Found", "NoSuchKey") };
    let len = stored.body.len();
    let (status, range, (start, end)) = match request.range(len) {
        Some((start, end)) => {
            ("206 Partial Content", format!("Content-Range: bytes {start}-{}/{len}\r\n", end - 1), (start, end))
        }
        None => ("200 OK", String::new(), (0, len)),
    };
    let body = &stored.body[start..end];
    let whole = [head_of(status, &format!("{range}{}", stored.headers()), body.len()).as_bytes(), body].concat();
    let sent = match trouble {
        Trouble::None => send(stream, &whole),
        Trouble::Status(code) => error(stream, &format!("{code} Trouble"), "InternalError").map(|()| 0),
        Trouble::Hang => until_gone(stream),
        Trouble::Cut => {
            let half = whole.len() - body.len() / 2 - 1;
            send(stream, &whole[..half]).and(Err(io::ErrorKind::ConnectionAborted.into()))
        }
        Trouble::Trickle(bytes_per_s) => trickle(stream, &whole, bytes_per_s),
        Trouble::Delay(time) => {
            pause(time);
            send(stream, &whole)
        }
    }?;
    if let SocketAddr::V4(peer) = peer {
        *lock(state).sent.entry(*peer.ip()).or_default() += sent;
    }
    Ok(())
}

fn looked_up(request: &Request, state: &Mutex<State>) -> Got {
    let mut state = lock(state);
    let stored = state.objects.get(&request.key).cloned();
    if !request.key.contains(BLOCKS) {
        return Got { stored, trouble: Trouble::None };
    }
    let count = state.gets.entry(request.key.clone()).or_default();
    *count += 1;
    // Each block has its turn at another GET; none has it twice in a row unless all have.
    let turn = request.key.bytes().map(u64::from).sum::<u64>() + *count;
    let hit = state.trouble != Trouble::None && turn.is_multiple_of(state.one_in);
    state.troubled += u64::from(hit);
    Got { stored, trouble: if hit { state.trouble } else { Trouble::None } }
}

fn head(stream: &TcpStream, request: &Request, state: &Mutex<State>) -> io::Result<()> {
    let stored = lock(state).objects.get(&request.key).cloned();
    let (status, headers, len) = match stored {
        Some(stored) => ("200 OK", stored.headers(), stored.body.len()),
        None => ("404 Not Found", String::new(), 0),
    };
    send(stream, head_of(status, &headers, len).as_bytes()).map(|_| ())
}

fn put(stream: &TcpStream, request: Request, state: &Mutex<State>) -> io::Result<()> {
    let trouble = put_trouble(&request, state);
    match trouble {
        PutTrouble::Refuse(status, code) => return error(stream, &format!("{status} Trouble"), code),
        PutTrouble::Hold => until_over(stream, state)?,
        PutTrouble::None | PutTrouble::Lose => {}
    }
    let kept = request.headers.iter().filter(|(name, _)| name.starts_with("x-amz-meta-"));
    let meta = kept.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    lock(state).objects.insert(request.key, Stored { body: Arc::new(request.body), meta });
    match trouble {
        PutTrouble::Lose => Err(io::ErrorKind::ConnectionAborted.into()),
        _ => answer(stream, "200 OK", "ETag: \"put\"\r\n", b""),
    }
}

/// What a PUT is met with, and counted if it is trouble.
fn put_trouble(request: &Request, state: &Mutex<State>) -> PutTrouble {
    let mut state = lock(state);
    if !request.key.contains(BLOCKS) {
        return PutTrouble::None;
    }
    state.troubled_puts += u64::from(state.put_trouble != PutTrouble::None);
    state.put_trouble
}

/// Waits until PUTs are held no more. Errors: the client hangs up first.
fn until_over(stream: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    while lock(state).put_trouble == PutTrouble::Hold {
        if matches!(stream.peek(&mut [0]), Ok(0)) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        pause(HOLD_TICK);
    }
    stream.set_nonblocking(false)
}

fn list(stream: &TcpStream, request: &Request, state: &Mutex<State>) -> io::Result<()> {
    let prefix = request.query_value("prefix").unwrap_or_default();
    let after = request.query_value("start-after").unwrap_or_default();
    let state = lock(state);
    let below = state.objects.range::<str, _>((Bound::Excluded(after.as_str()), Bound::Unbounded));
    let entries = below.filter(|(key, _)| key.starts_with(&prefix)).map(|(key, stored)| {
        let size = stored.body.len();
        format!(
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"put\"</ETag>\
             <Size>{size}</Size></Contents>"
        )
    });
    let entries: String = entries.collect();
    drop(state);
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>{BUCKET}</Name><Prefix>{prefix}</Prefix>\
         <IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    );
    answer(stream, "200 OK", "Content-Type: application/xml\r\n", body.as_bytes())
}

impl Stored {
    fn headers(&self) -> String {
        format!("ETag: \"put\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n{}", self.meta)
    }
}

fn head_of(status: &str, headers: &str, len: usize) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n{headers}\r\n")
}

/// Head and body in one write: apart, they cost 40 ms of delayed acknowledgements.
fn answer(stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    send(stream, &[head_of(status, headers, body.len()).as_bytes(), body].concat()).map(|_| ())
}

fn error(stream: &TcpStream, status: &str, code: &str) -> io::Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as asked</Message></Error>");
    answer(stream, status, "Content-Type: application/xml\r\n", body.as_bytes())
}

fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<u64> {
    stream.write_all(bytes)?;
    Ok(bytes.len() as u64)
}

fn trickle(stream: &TcpStream, bytes: &[u8], bytes_per_s: usize) -> io::Result<u64> {
    let ticks_per_s = 1000 / TRICKLE_TICK.as_millis() as usize;
    for piece in bytes.chunks((bytes_per_s / ticks_per_s).max(1)) {
        send(stream, piece)?;
        pause(TRICKLE_TICK);
    }
    Ok(bytes.len() as u64)
}

/// Waits until the client hangs up.
fn until_gone(mut stream: &TcpStream) -> io::Result<u64> {
    while stream.read(&mut [0; 1024])? > 0 {}
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// A fault that is a delay: there is no condition to wait for.
fn pause(time: Duration) {
    let start = shoal_runtime::clock::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn decoded(text: &str) -> String {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[2..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
