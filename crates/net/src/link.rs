//! What everything above uses of the transport. Nothing else in this crate touches the QUIC library's connections and streams, so
//! that tests can put a simulated network below the same code. Errors are the QUIC library's own.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
#[cfg(feature = "testing")]
use futures::future::Either;
use parking_lot::RwLock;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ClosedStream, ConnectionError, ReadError, ReadToEndError, SendDatagramError, WriteError};
use rustls::pki_types::CertificateDer;

use crate::error::NetError;
use crate::failure;
use crate::identity::PeerIdentity;
#[cfg(feature = "testing")]
use crate::sim::{SimConnection, SimHost, SimRecv, SimSend};
use crate::tls::{SERVER_NAME, Tls};
use crate::transport::Transports;
use crate::x509;

/// Code and words of an endpoint that closes.
const CLOSING: (u32, &[u8]) = (0x5000, b"closing");

/// The way to all peers: what an endpoint is bound to.
pub(crate) enum Socket {
    /// A UDP socket.
    Quic(QuicSocket),
    #[cfg(feature = "testing")]
    /// A place on a simulated network.
    Sim(SimHost),
}

/// A UDP socket with what its connections are made with.
pub(crate) struct QuicSocket {
    pub endpoint: quinn::Endpoint,
    pub transports: Arc<Transports>,
    client: RwLock<Arc<QuicClientConfig>>,
    server: RwLock<Arc<QuicServerConfig>>,
}

impl QuicSocket {
    pub(crate) fn new(endpoint: quinn::Endpoint, transports: Arc<Transports>, tls: Tls) -> QuicSocket {
        QuicSocket { endpoint, transports, client: RwLock::new(tls.client), server: RwLock::new(tls.server) }
    }

    /// The TLS of the next connection a peer makes.
    pub(crate) fn server_tls(&self) -> Arc<QuicServerConfig> {
        self.server.read().clone()
    }
}

impl Socket {
    /// A connection to `peer`. Runs on the endpoint's runtime: the library starts the connection's driver where it is called.
    pub(crate) async fn connect(&self, peer: SocketAddr) -> Result<Connection, NetError> {
        match self {
            Socket::Quic(socket) => {
                let mut config = ClientConfig::new(socket.client.read().clone());
                config.transport_config(socket.transports.outbound(peer));
                let connecting = socket
                    .endpoint
                    .connect_with(config, peer, SERVER_NAME)
                    .map_err(|error| failure::connect(peer, error))?;
                let connection = connecting.await.map_err(|error| failure::connection(peer, error))?;
                Ok(Connection::Quic(connection))
            }
            #[cfg(feature = "testing")]
            Socket::Sim(host) => host.connect(peer).await.map(Connection::Sim),
        }
    }

    /// Lets peers connect.
    pub(crate) fn listen(&self) {
        match self {
            Socket::Quic(socket) => {
                let config = quinn::ServerConfig::with_crypto(socket.server_tls());
                socket.endpoint.set_server_config(Some(config));
            }
            // The task that takes connections listens.
            #[cfg(feature = "testing")]
            Socket::Sim(_) => {}
        }
    }

    /// Connections made from now on are made with `tls`.
    pub(crate) fn reload(&self, tls: Tls) {
        match self {
            Socket::Quic(socket) => {
                *socket.client.write() = tls.client;
                *socket.server.write() = tls.server;
            }
            #[cfg(feature = "testing")]
            Socket::Sim(_) => {}
        }
    }

    /// Ends every connection, telling the peers, and makes none from now on.
    pub(crate) fn close(&self) {
        match self {
            Socket::Quic(socket) => socket.endpoint.close(CLOSING.0.into(), CLOSING.1),
            #[cfg(feature = "testing")]
            Socket::Sim(host) => host.close(),
        }
    }

    /// What a crash of the process would do at once, beside ending its thread.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn crash(&self) {
        match self {
            Socket::Quic(_) => {}
            #[cfg(feature = "testing")]
            Socket::Sim(host) => host.crash(),
        }
    }

    /// Returns when every peer has heard of [`Socket::close`], or was given up.
    pub(crate) async fn wait_idle(&self) {
        match self {
            Socket::Quic(socket) => socket.endpoint.wait_idle().await,
            #[cfg(feature = "testing")]
            // Who hears of it hears of it.
            Socket::Sim(_) => {}
        }
    }
}

/// A connection with one peer; clones share it. As `quinn::Connection`, method by method.
#[derive(Debug, Clone)]
pub(crate) enum Connection {
    Quic(quinn::Connection),
    #[cfg(feature = "testing")]
    Sim(SimConnection),
}

impl Connection {
    /// Who the peer's certificate says it is.
    pub(crate) fn peer_identity(&self) -> Option<PeerIdentity> {
        match self {
            Connection::Quic(connection) => {
                let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
                x509::identity(chain.first()?).ok()
            }
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.peer_identity(),
        }
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        match self {
            Connection::Quic(connection) => connection.remote_address(),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.remote_address(),
        }
    }

    /// Another number for every connection of the process.
    pub(crate) fn stable_id(&self) -> usize {
        match self {
            Connection::Quic(connection) => connection.stable_id(),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.stable_id(),
        }
    }

    pub(crate) fn close(&self, code: u32, reason: &[u8]) {
        match self {
            Connection::Quic(connection) => connection.close(code.into(), reason),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.close(code, reason),
        }
    }

    /// Why it ended, if it has.
    pub(crate) fn close_reason(&self) -> Option<ConnectionError> {
        match self {
            Connection::Quic(connection) => connection.close_reason(),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.close_reason(),
        }
    }

    pub(crate) async fn closed(&self) -> ConnectionError {
        match self {
            Connection::Quic(connection) => connection.closed().await,
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.closed().await,
        }
    }

    pub(crate) fn stats(&self) -> quinn::ConnectionStats {
        match self {
            Connection::Quic(connection) => connection.stats(),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.stats(),
        }
    }

    pub(crate) async fn open_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match self {
            Connection::Quic(connection) => {
                let (send, recv) = connection.open_bi().await?;
                Ok((SendStream::Quic(send), RecvStream::Quic(recv)))
            }
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => {
                connection.open_bi().map(|(send, recv)| (SendStream::Sim(send), RecvStream::Sim(recv)))
            }
        }
    }

    pub(crate) async fn accept_bi(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        match self {
            Connection::Quic(connection) => {
                let (send, recv) = connection.accept_bi().await?;
                Ok((SendStream::Quic(send), RecvStream::Quic(recv)))
            }
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => {
                connection.accept_bi().await.map(|(send, recv)| (SendStream::Sim(send), RecvStream::Sim(recv)))
            }
        }
    }

    pub(crate) async fn open_uni(&self) -> Result<SendStream, ConnectionError> {
        match self {
            Connection::Quic(connection) => connection.open_uni().await.map(SendStream::Quic),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.open_uni().map(SendStream::Sim),
        }
    }

    pub(crate) async fn accept_uni(&self) -> Result<RecvStream, ConnectionError> {
        match self {
            Connection::Quic(connection) => connection.accept_uni().await.map(RecvStream::Quic),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.accept_uni().await.map(RecvStream::Sim),
        }
    }

    pub(crate) fn max_datagram_size(&self) -> Option<usize> {
        match self {
            Connection::Quic(connection) => connection.max_datagram_size(),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.max_datagram_size(),
        }
    }

    pub(crate) fn send_datagram(&self, data: Bytes) -> Result<(), SendDatagramError> {
        match self {
            Connection::Quic(connection) => connection.send_datagram(data),
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.send_datagram(data),
        }
    }

    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        match self {
            Connection::Quic(connection) => connection.read_datagram().await,
            #[cfg(feature = "testing")]
            Connection::Sim(connection) => connection.read_datagram().await,
        }
    }
}

/// A stream to the peer. As `quinn::SendStream`, method by method.
#[derive(Debug)]
pub(crate) enum SendStream {
    Quic(quinn::SendStream),
    #[cfg(feature = "testing")]
    Sim(SimSend),
}

impl SendStream {
    pub(crate) async fn write_chunk(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        match self {
            SendStream::Quic(stream) => stream.write_chunk(chunk).await,
            #[cfg(feature = "testing")]
            SendStream::Sim(stream) => stream.write(&mut [chunk]).await,
        }
    }

    pub(crate) async fn write_all_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), WriteError> {
        match self {
            SendStream::Quic(stream) => stream.write_all_chunks(chunks).await,
            #[cfg(feature = "testing")]
            SendStream::Sim(stream) => stream.write(chunks).await,
        }
    }

    pub(crate) fn finish(&mut self) -> Result<(), ClosedStream> {
        match self {
            SendStream::Quic(stream) => stream.finish(),
            #[cfg(feature = "testing")]
            SendStream::Sim(stream) => stream.finish(),
        }
    }

    pub(crate) fn reset(&mut self, code: u32) -> Result<(), ClosedStream> {
        match self {
            SendStream::Quic(stream) => stream.reset(code.into()),
            #[cfg(feature = "testing")]
            SendStream::Sim(stream) => stream.reset(code),
        }
    }

    pub(crate) fn set_priority(&self, priority: i32) -> Result<(), ClosedStream> {
        match self {
            SendStream::Quic(stream) => stream.set_priority(priority),
            #[cfg(feature = "testing")]
            // Nothing overtakes on a simulated connection.
            SendStream::Sim(_) => Ok(()),
        }
    }

    /// Resolves when the peer has stopped the stream, when it has all of it, and when the connection ends.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        match self {
            SendStream::Quic(stream) => {
                let stopped = stream.stopped().map(drop);
                #[cfg(feature = "testing")]
                let stopped = Either::Left(stopped);
                stopped
            }
            #[cfg(feature = "testing")]
            SendStream::Sim(stream) => Either::Right(stream.stopped()),
        }
    }
}

/// A stream from the peer. As `quinn::RecvStream`, method by method.
#[derive(Debug)]
pub(crate) enum RecvStream {
    Quic(quinn::RecvStream),
    #[cfg(feature = "testing")]
    Sim(SimRecv),
}

impl RecvStream {
    /// The next bytes in order, as many pieces as are there and fit; how many, `None` at the end. Cancel-safe.
    pub(crate) async fn read_chunks(&mut self, pieces: &mut [Bytes]) -> Result<Option<usize>, ReadError> {
        match self {
            RecvStream::Quic(stream) => stream.read_chunks(pieces).await,
            #[cfg(feature = "testing")]
            RecvStream::Sim(stream) => {
                let piece = stream.read_chunk(usize::MAX).await?;
                let one = pieces.iter_mut().zip(piece).map(|(slot, piece)| *slot = piece).count();
                Ok((one > 0).then_some(one))
            }
        }
    }

    /// The next bytes in order, `None` at the end. Cancel-safe.
    pub(crate) async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, ReadError> {
        match self {
            RecvStream::Quic(stream) => Ok(stream.read_chunk(max, true).await?.map(|chunk| chunk.bytes)),
            #[cfg(feature = "testing")]
            RecvStream::Sim(stream) => stream.read_chunk(max).await,
        }
    }

    pub(crate) async fn read_to_end(&mut self, max: usize) -> Result<Vec<u8>, ReadToEndError> {
        match self {
            RecvStream::Quic(stream) => stream.read_to_end(max).await,
            #[cfg(feature = "testing")]
            RecvStream::Sim(stream) => stream.read_to_end(max).await,
        }
    }

    pub(crate) fn stop(&mut self, code: u32) -> Result<(), ClosedStream> {
        match self {
            RecvStream::Quic(stream) => stream.stop(code.into()),
            #[cfg(feature = "testing")]
            RecvStream::Sim(stream) => stream.stop(code),
        }
    }
}
