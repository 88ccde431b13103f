//! The UDP socket: large kernel buffers, and limits on how much one call moves.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::SOCKET_BUFFER;

/// Largest batch of packets the kernel hands over in one piece.
const MAX_BATCH_BYTES: usize = 64 << 10;

/// A bound, non-blocking UDP socket. An unspecified IPv6 address takes IPv4 peers too.
pub(crate) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() && listen.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // FORCE passes the system's bound but wants CAP_NET_ADMIN; without it the system's bound is what there is.
    if sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER).is_err() {
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
    }
    // Linux reports twice what was asked, for its own bookkeeping.
    let got = socket.recv_buffer_size()?;
    if got < SOCKET_BUFFER {
        tracing::warn!(bytes = got, wanted = SOCKET_BUFFER, "small UDP buffers lose packets: raise net.core.rmem_max");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

/// A socket that sends at most `segments` packets a call, and whose batches are read into 64 KiB buffers.
///
/// The library would reserve 64 times its largest packet for each of 32 batches (134 MB with 64 KiB packets), but the kernel
/// never hands over a batch of more than 64 KiB.
pub(crate) struct BoundedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    segments: usize,
    largest_received: usize,
}

impl BoundedSocket {
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>, segments: usize, largest_received: u16) -> BoundedSocket {
        BoundedSocket { inner, segments, largest_received: largest_received.into() }
    }
}

impl fmt::Debug for BoundedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoundedSocket({:?})", self.inner)
    }
}

impl AsyncUdpSocket for BoundedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments().min(self.segments)
    }

    fn max_receive_segments(&self) -> usize {
        match self.inner.max_receive_segments() {
            1 => 1,
            _ => MAX_BATCH_BYTES.div_ceil(self.largest_received),
        }
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}
