//! Gets over loopback in a loop, beside the bare library with the same TLS, packets and socket buffers.
//!
//! `cargo run --release -p shoal-net --example loopback [SECONDS]`. One process answers and one asks; both kinds alternate in
//! rounds. `shoal` asks on the endpoint's own runtime as `bare` does, `other` from another
//! thread, `fetch` from another thread with [`Endpoint::fetch`]. Columns: MB/s and requests a second best (median), CPU seconds per GB and microseconds per request of both
//! processes together, and the ratio to the bare library. The C library's allocator gives memory back too eagerly for 64 KiB
//! packets; for numbers near those of the programs (which use mimalloc) run with
//! `MALLOC_TRIM_THRESHOLD_=4294967296 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TOP_PAD_=67108864`.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on is to stop")]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use shoal_net::{Credentials, Endpoint, EndpointConfig, GetSink, PeerIdentity, ResponseSink, Role, Service};
use shoal_runtime::metrics::Registry;
use shoal_runtime::{clock, task};
use shoal_types::{BlockKey, BlockRange, OriginId, Tier};
use shoal_wire::{GetHead, GetRequest, Request};

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/net/raw.rs"]
mod raw;

const BLOCK: u32 = 4 << 20;
const ROUNDS: usize = 5;

struct Blocks(Bytes);

#[async_trait]
impl Service for Blocks {
    async fn get(&self, _peer: &PeerIdentity, request: GetRequest, out: &mut GetSink) {
        let head = GetHead::ok(Tier::Ram, BLOCK, request.range);
        let bytes = self.0.slice(head.range.start as usize..head.range.end as usize);
        if out.head(head).await.is_ok() {
            // The peer may have gone.
            let _ = out.send(bytes).await;
        }
    }

    async fn call(&self, _peer: &PeerIdentity, _request: Request, _out: &mut ResponseSink) {}

    fn gossip(&self, _peer: &PeerIdentity, _data: Bytes) {}
}

fn block() -> Bytes {
    (0..BLOCK).map(|i| ((i * 31) >> 3) as u8).collect()
}

fn transport() -> Arc<quinn::TransportConfig> {
    let mut discovery = quinn::MtuDiscoveryConfig::default();
    discovery.upper_bound(65_507);
    let mut config = quinn::TransportConfig::default();
    config.mtu_discovery_config(Some(discovery)).enable_segmentation_offload(false);
    config.max_concurrent_bidi_streams(1024u32.into());
    Arc::new(config)
}

fn bare_endpoint(server: Option<quinn::ServerConfig>) -> quinn::Endpoint {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    let force = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 4 << 20);
    force.or_else(|_| rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)).unwrap();
    let force = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, 4 << 20);
    force.or_else(|_| rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4 << 20)).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let mut config = quinn::EndpointConfig::default();
    config.max_udp_payload_size(65_527).unwrap();
    quinn::Endpoint::new(config, server, socket.into(), Arc::new(quinn::TokioRuntime)).unwrap()
}

/// Answers 8 bytes (start, length) with the block's bytes.
async fn bare_serve(endpoint: quinn::Endpoint, block: Bytes, lost: Arc<AtomicU64>) {
    while let Some(incoming) = endpoint.accept().await {
        let connection = incoming.await.unwrap();
        let lost = lost.clone();
        let block = block.clone();
        task::spawn("bare-connection", async move {
            while let Ok((mut outbound, mut inbound)) = connection.accept_bi().await {
                let block = block.clone();
                lost.store(connection.stats().path.lost_packets, Ordering::Relaxed);
                task::spawn("bare-request", async move {
                    let mut request = [0; 8];
                    inbound.read_exact(&mut request).await.unwrap();
                    let [a, b, c, d, e, f, g, h] = request;
                    let start = u32::from_le_bytes([a, b, c, d]) as usize;
                    let len = u32::from_le_bytes([e, f, g, h]) as usize;
                    outbound.write_chunk(block.slice(start..start + len)).await.unwrap();
                    outbound.finish().unwrap();
                });
            }
        });
    }
}

async fn bare_get(connection: quinn::Connection, start: u32, mut buffer: Vec<u8>) -> Vec<u8> {
    let (mut outbound, mut inbound) = connection.open_bi().await.unwrap();
    let len = buffer.len() as u32;
    outbound.write_all(&[start.to_le_bytes(), len.to_le_bytes()].concat()).await.unwrap();
    outbound.finish().unwrap();
    while let Some(chunk) = inbound.read_chunk(usize::MAX, false).await.unwrap() {
        let at = chunk.offset as usize;
        buffer[at..at + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
    }
    buffer
}

/// The answering process: both servers, each on a thread of its own, until its standard input closes.
fn serve(node: PathBuf) {
    let credentials = Credentials::load(&node).unwrap();
    let config = EndpointConfig::new(([127, 0, 0, 1], 0).into(), credentials);
    let registry = Registry::new();
    let endpoint = Endpoint::bind(config, &registry).unwrap();
    endpoint.serve(Arc::new(Blocks(block())));
    let (send, bare) = std::sync::mpsc::channel();
    let bare_lost = Arc::new(AtomicU64::new(0));
    let lost = bare_lost.clone();
    let _server = task::thread("bare-server", move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let mut config = raw::server_config(&node);
            config.transport_config(transport());
            let endpoint = bare_endpoint(Some(config));
            send.send(endpoint.local_addr().unwrap()).unwrap();
            bare_serve(endpoint, block(), lost).await;
        });
    });
    println!("{}\n{}", endpoint.local_addr(), bare.recv().unwrap());
    std::io::stdout().flush().unwrap();
    // Each line asks for the packets lost so far.
    for _ in std::io::stdin().lines() {
        let text = registry.gather_text();
        let ours = text.lines().find_map(|line| line.strip_prefix("shoal_net_lost_packets_total ")).unwrap();
        println!("{ours} {}", bare_lost.load(Ordering::Relaxed));
        std::io::stdout().flush().unwrap();
    }
}

/// CPU time of a process in seconds, from /proc (proc_pid_stat(5): fields 14 and 15, in hundredths).
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

#[derive(Clone, Copy)]
struct Load {
    size: u32,
    depth: usize,
    seconds: f64,
    /// The processes whose CPU time counts.
    pids: [u32; 2],
}

/// Work done and CPU seconds used for it.
struct Round {
    requests: u64,
    seconds: f64,
    cpu_s: f64,
}

async fn run<F: Future<Output = Vec<u8>>>(load: Load, get: impl Fn(u32, Vec<u8>) -> F) -> Round {
    let cpu_now = || load.pids.iter().map(|&pid| cpu(pid)).sum::<f64>();
    let (before, started) = (cpu_now(), clock::now());
    let until = started + Duration::from_secs_f64(load.seconds);
    let workers: FuturesUnordered<_> = (0..load.depth)
        .map(|worker| {
            let get = &get;
            async move {
                let mut buffer = vec![0; load.size as usize];
                let mut requests = 0u64;
                while clock::now() < until {
                    let start = (requests * 7 + worker as u64) * 4096 % u64::from(BLOCK - load.size + 1);
                    buffer = get(start as u32, buffer).await;
                    requests += 1;
                }
                requests
            }
        })
        .collect();
    let requests = workers.fold(0, async |sum, n| sum + n).await;
    Round { requests, seconds: (clock::now() - started).as_secs_f64(), cpu_s: cpu_now() - before }
}

fn report(name: &str, load: Load, rounds: &[Round]) -> (f64, f64) {
    let bytes = f64::from(load.size);
    let mut rates: Vec<f64> = rounds.iter().map(|round| round.requests as f64 / round.seconds).collect();
    rates.sort_by(f64::total_cmp);
    let (best, median) = (rates[rates.len() - 1], rates[rates.len() / 2]);
    let cpu = rounds.iter().map(|round| round.cpu_s / round.requests as f64).fold(f64::MAX, f64::min);
    let (best_mb, median_mb, cpu_gb, cpu_us) = (best * bytes / 1e6, median * bytes / 1e6, cpu * 1e9 / bytes, cpu * 1e6);
    println!(
        "{name:<6} {:>8} d{:<3} {best_mb:>6.0} ({median_mb:>5.0}) MB/s {best:>8.0} ({median:>7.0}) req/s \
         {cpu_gb:>7.3} CPU-s/GB {cpu_us:>7.2} us/req",
        load.size, load.depth
    );
    (best, cpu)
}

async fn ask(addrs: [SocketAddr; 2], client: &Path, server: u32, seconds: f64, mut lost: impl FnMut() -> String) {
    let pids = [std::process::id(), server];
    let config = EndpointConfig::new(([127, 0, 0, 1], 0).into(), Credentials::load(client).unwrap());
    let started = clock::now();
    let endpoint = Endpoint::bind(config, &Registry::new()).unwrap();
    let bound = clock::now();
    endpoint.call(addrs[0], &Request::Stat, Duration::from_secs(10)).await.unwrap_err();
    let (bind_ms, first_ms) = ((bound - started).as_secs_f64() * 1e3, (clock::now() - bound).as_secs_f64() * 1e3);
    println!("bind {bind_ms:.1} ms, then handshake and first call {first_ms:.1} ms");
    let mut config = raw::client_config(Some(client));
    config.transport_config(transport());
    let bare = bare_endpoint(None).connect_with(config, addrs[1], "x").unwrap().await.unwrap();
    let key = BlockKey::whole(OriginId([1; 16]), "volume/chunks/0/0/1_0_4194304");
    for (size, depth) in [(BLOCK, 1), (BLOCK, 4), (128 << 10, 1), (128 << 10, 64), (4 << 10, 1), (4 << 10, 64)] {
        let load = Load { size, depth, seconds, pids };
        let (mut here, mut there, mut fetched, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let asking = ours(endpoint.clone(), addrs[0], key.clone(), load);
            here.push(task::spawn_on(&endpoint.runtime(), "measure", asking).await.unwrap());
            there.push(ours(endpoint.clone(), addrs[0], key.clone(), load).await);
            fetched.push(fetch(endpoint.clone(), addrs[0], key.clone(), load).await);
            theirs.push(run(load, |start, buffer| bare_get(bare.clone(), start, buffer)).await);
        }
        let theirs = report("bare", load, &theirs);
        for (name, rounds) in [("shoal", here), ("other", there), ("fetch", fetched)] {
            let ours = report(name, load, &rounds);
            println!("{:>21} speed {:.2}x, CPU {:.2}x", "", ours.0 / theirs.0, ours.1 / theirs.1);
        }
        println!("{:>21} packets lost so far by shoal, bare: {}", "", lost());
    }
}

async fn ours(endpoint: Endpoint, addr: SocketAddr, key: BlockKey, load: Load) -> Round {
    let get = move |start, mut buffer: Vec<u8>| {
        let range = BlockRange::new(start, buffer.len() as u32);
        let request = GetRequest { epoch: 1, ..GetRequest::new(key.clone(), range) };
        let endpoint = endpoint.clone();
        async move {
            endpoint.get(addr, &request).await.unwrap().body.read_into(&mut buffer).await.unwrap();
            buffer
        }
    };
    run(load, get).await
}

async fn fetch(endpoint: Endpoint, addr: SocketAddr, key: BlockKey, load: Load) -> Round {
    let get = move |start, buffer: Vec<u8>| {
        let range = BlockRange::new(start, buffer.len() as u32);
        let request = GetRequest { epoch: 1, ..GetRequest::new(key.clone(), range) };
        let endpoint = endpoint.clone();
        async move {
            assert_eq!(endpoint.fetch(addr, request).await.unwrap().1.len(), buffer.len());
            buffer
        }
    };
    run(load, get).await
}

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next() {
        Some(word) if word == "serve" => serve(args.next().unwrap().into()),
        seconds => {
            let seconds = seconds.map_or(1.0, |text| text.parse().unwrap());
            let files = raw::Files::new();
            let (node, client) = (files.issued(Role::Node, "n1"), files.issued(Role::Client, "c1"));
            let mut server = Command::new(std::env::current_exe().unwrap())
                .arg("serve")
                .arg(node)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
            let mut line = || lines.next().unwrap().unwrap();
            let addrs = [line().parse().unwrap(), line().parse().unwrap()];
            let mut orders = server.stdin.take().unwrap();
            let lost = || {
                orders.write_all(b"\n").unwrap();
                line()
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(ask(addrs, &client, server.id(), seconds, lost));
            drop(orders);
            server.wait().unwrap();
        }
    }
}
