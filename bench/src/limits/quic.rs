//! QUIC's limit: bare quinn over loopback with mutual TLS, each end on a current-thread runtime of its own.
//!
//! A request is a new bidirectional stream with a length; the reply is as many bytes, sent without a copy. Packet size decides
//! the speed, so it is measured at what the internet, a jumbo network and loopback carry.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context as Poller, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures::future::try_join_all;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Connection, Endpoint, MtuDiscoveryConfig, Runtime, TransportConfig, UdpPoller};
use shoal_runtime::shutdown::Shutdown;
use shoal_runtime::task;

use crate::buffer::Aligned;
use crate::drive::{self, DEPTH_MAX};
use crate::limits::BLOCK;
use crate::limits::pki::{NAME, Pki};
use crate::placement::Placement;
use crate::sample::{Effort, Sample};

/// Kernel buffer of each socket; smaller ones lose packets at large sizes (measured: 20 % at 64 KiB with the default).
const SOCKET_BYTES: usize = 4 << 20;
/// Largest UDP payload over IPv4.
const UDP_PAYLOAD_MAX: u16 = 65507;
/// quinn sends at most so many packets by one system call.
const SEGMENTS_MAX: usize = 10;
/// Blocks sent at most until path MTU discovery has found the size asked for; it takes about one.
const DISCOVERY_BLOCKS_MAX: usize = 200;

/// How large a packet the path is taken to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mtu {
    /// Ethernet with 1500 bytes: payload 1452 (IPv6 headers fit too).
    Internet,
    /// Ethernet with 9000 bytes: payload 8952.
    Jumbo,
    /// The loopback device with 65536 bytes: the largest payload UDP has.
    Loopback,
}

impl Mtu {
    /// UDP payload bytes of one packet.
    pub const fn payload(self) -> u16 {
        match self {
            Mtu::Internet => 1452,
            Mtu::Jumbo => 8952,
            Mtu::Loopback => UDP_PAYLOAD_MAX,
        }
    }

    /// Packets one send may hold: more than 65507 bytes would be refused by the kernel and taken for a black hole by quinn.
    const fn segments(self) -> usize {
        let fitting = UDP_PAYLOAD_MAX as usize / self.payload() as usize;
        if fitting < SEGMENTS_MAX { fitting } else { SEGMENTS_MAX }
    }
}

/// What may be set otherwise than Shoal has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Packets are tried up to this payload; the library's own bound is 1452.
    pub discover: u16,
    /// Packets in one system call, at most; 1 leaves offload off.
    pub segments: usize,
    /// Kernel buffers of each socket; the system's default if false.
    pub large_buffers: bool,
    /// Bytes not yet acknowledged on one connection, at most; the library's default if `None`.
    pub in_flight: Option<u64>,
    /// Bytes of one stream the asking end takes unread; the library's default if `None`.
    pub stream_window: Option<u32>,
    /// Threads of each end's runtime; 1 is the calling thread alone.
    pub threads: usize,
    /// Connections, each on sockets of its own, that requests take turns on.
    pub connections: usize,
}

impl Settings {
    /// As Shoal has them for packets of `mtu`.
    pub const fn of(mtu: Mtu) -> Settings {
        Settings {
            discover: mtu.payload(),
            segments: mtu.segments(),
            large_buffers: true,
            in_flight: None,
            stream_window: None,
            threads: 1,
            connections: 1,
        }
    }

    fn runtime(&self) -> anyhow::Result<tokio::runtime::Runtime> {
        match self.threads {
            1 => drive::runtime(),
            threads => Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?),
        }
    }
}

/// One or more connections whose other end is a thread of this process.
pub struct Quic {
    runtime: tokio::runtime::Runtime,
    connections: Vec<Connection>,
    /// Where replies are gathered, as a reader of blocks would.
    target: RefCell<Aligned>,
    server_stop: Shutdown,
    server: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Quic {
    /// Connects over loopback, the server placed as the answering end, and waits until packets have reached the size of `mtu`.
    pub fn start(pki: &Pki, mtu: Mtu, placement: &Placement) -> anyhow::Result<Quic> {
        let quic = Quic::with(pki, Settings::of(mtu), placement)?;
        quic.discover(mtu)?;
        Ok(quic)
    }

    /// Connects with `settings`, and gives packets the time to grow as far as those let them.
    pub fn with(pki: &Pki, settings: Settings, placement: &Placement) -> anyhow::Result<Quic> {
        let (server_stop, (ready, bound)) = (Shutdown::new(), mpsc::channel());
        let mut config =
            quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(Arc::clone(&pki.server))?));
        config.transport_config(Arc::new(transport(&settings)?));
        let stop = server_stop.clone();
        let serve_all = move || {
            settings.runtime()?.block_on(async {
                let endpoints: Vec<Endpoint> = (0..settings.connections)
                    .map(|_| endpoint(&settings, Some(config.clone())))
                    .collect::<anyhow::Result<_>>()?;
                let addrs = endpoints.iter().map(Endpoint::local_addr).collect::<io::Result<Vec<SocketAddr>>>()?;
                let _ = ready.send(addrs);
                tokio::select! {
                    result = try_join_all(endpoints.iter().map(serve)) => result.map(drop),
                    () = stop.wait() => Ok(()),
                }
            })
        };
        let server = placement.serving(|| Ok(task::thread("limit-quic", serve_all)))?;
        let addrs = bound.recv().context("the server thread ended")?;
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(Arc::clone(&pki.client))?));
        config.transport_config(Arc::new(transport(&settings)?));
        let runtime = settings.runtime()?;
        let connect =
            async |addr| anyhow::Ok(endpoint(&settings, None)?.connect_with(config.clone(), addr, NAME)?.await?);
        let connections = runtime.block_on(try_join_all(addrs.into_iter().map(connect)))?;
        let target = RefCell::new(Aligned::zeroed(BLOCK));
        let quic = Quic { runtime, connections, target, server_stop, server: Some(server) };
        quic.get(&Effort::ops(10), BLOCK, 1)?;
        Ok(quic)
    }

    /// Requests of `size` bytes, at most a block, `depth` at a time.
    pub fn get(&self, effort: &Effort, size: usize, depth: usize) -> anyhow::Result<Sample> {
        ensure!(size <= BLOCK, "size {size} out of range");
        self.runtime.block_on(drive::repeat(effort, depth, async |number| {
            self.get_one(&self.connections[number as usize % self.connections.len()], size).await?;
            Ok(size)
        }))
    }

    /// Packets lost so far as the client's side of the paths saw it, and packets sent; losses on loopback mean full buffers.
    pub fn packets_lost_and_sent(&self) -> (u64, u64) {
        let paths = self.connections.iter().map(|connection| connection.stats().path);
        paths.fold((0, 0), |(lost, sent), path| (lost + path.lost_packets, sent + path.sent_packets))
    }

    async fn get_one(&self, connection: &Connection, size: usize) -> anyhow::Result<()> {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&(size as u32).to_le_bytes()).await?;
        send.finish()?;
        let mut received = 0;
        while let Some(chunk) = receive.read_chunk(usize::MAX, false).await? {
            let (start, len) = (chunk.offset as usize, chunk.bytes.len());
            ensure!(start + len <= size, "a reply of more than the {size} bytes asked for");
            self.target.borrow_mut()[start..start + len].copy_from_slice(&chunk.bytes);
            received += len;
        }
        ensure!(received == size, "a reply of {received} bytes instead of {size}");
        Ok(())
    }

    /// Both directions must have found the size: requests alone never fill a packet, so the server's side is told by speed only;
    /// a fixed number of further blocks gives it time.
    fn discover(&self, mtu: Mtu) -> anyhow::Result<()> {
        for _ in 0..DISCOVERY_BLOCKS_MAX {
            self.get(&Effort::ops(1), BLOCK, 1)?;
            if self.packet() == mtu.payload() {
                self.get(&Effort::ops(10), BLOCK, 1)?;
                return Ok(());
            }
        }
        anyhow::bail!("path MTU discovery stayed at {} bytes instead of {}", self.packet(), mtu.payload())
    }

    /// The smallest packet size in use.
    fn packet(&self) -> u16 {
        self.connections.iter().map(|connection| connection.stats().path.current_mtu).min().unwrap_or_default()
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        self.connections.iter().for_each(|connection| connection.close(0u32.into(), b"done"));
        self.server_stop.trigger();
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn transport(settings: &Settings) -> anyhow::Result<TransportConfig> {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(settings.discover);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(discovery))
        .enable_segmentation_offload(settings.segments > 1)
        .max_concurrent_bidi_streams((DEPTH_MAX as u32).into())
        .max_idle_timeout(Some(Duration::from_secs(600).try_into()?))
        .keep_alive_interval(Some(Duration::from_secs(5)));
    settings.in_flight.map(|bytes| transport.send_window(bytes));
    settings.stream_window.map(|bytes| transport.stream_receive_window(bytes.into()));
    Ok(transport)
}

fn endpoint(settings: &Settings, server: Option<quinn::ServerConfig>) -> anyhow::Result<Endpoint> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback socket")?;
    if settings.large_buffers {
        enlarge(&socket)?;
    }
    let runtime = Arc::new(quinn::TokioRuntime);
    let socket = Arc::new(Segmented { inner: runtime.wrap_udp_socket(socket)?, segments: settings.segments });
    let mut config = quinn::EndpointConfig::default();
    // What the peer may send: quinn's default is 1472. The buffer is 2048 times as large, so no larger than needed.
    config.max_udp_payload_size(settings.discover.max(1472))?;
    Endpoint::new_with_abstract_socket(config, server, socket, runtime).context("no QUIC endpoint")
}

/// Root may exceed `net.core.rmem_max`; others get as much as it allows.
fn enlarge(socket: &UdpSocket) -> io::Result<()> {
    let plain = socket2::SockRef::from(socket);
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BYTES).is_err() {
        plain.set_recv_buffer_size(SOCKET_BYTES)?;
    }
    plain.set_send_buffer_size(SOCKET_BYTES)
}

/// Answers one connection.
async fn serve(endpoint: &Endpoint) -> anyhow::Result<()> {
    let body = Bytes::from(shoal_testkit::seeded_bytes(5, BLOCK));
    let connection = endpoint.accept().await.context("the endpoint was closed")?.await?;
    loop {
        let (send, receive) = connection.accept_bi().await?;
        task::spawn("limit-quic-reply", reply(send, receive, body.clone()));
    }
}

/// A client that hangs up ends the reply; it has nobody to tell.
async fn reply(mut send: quinn::SendStream, mut receive: quinn::RecvStream, body: Bytes) -> anyhow::Result<()> {
    let mut request = [0; 4];
    receive.read_exact(&mut request).await?;
    let size = (u32::from_le_bytes(request) as usize).min(body.len());
    send.write_chunk(body.slice(..size)).await?;
    send.finish()?;
    Ok(())
}

/// quinn's socket, except that one send holds at most `segments` packets.
#[derive(Debug)]
struct Segmented {
    inner: Arc<dyn AsyncUdpSocket>,
    segments: usize,
}

impl AsyncUdpSocket for Segmented {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Poller<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.segments)
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_send_exceeds_what_udp_carries() {
        for (mtu, segments) in [(Mtu::Internet, 10), (Mtu::Jumbo, 7), (Mtu::Loopback, 1)] {
            assert_eq!(mtu.segments(), segments);
            assert!(mtu.segments() * usize::from(mtu.payload()) <= usize::from(UDP_PAYLOAD_MAX));
        }
    }
}
