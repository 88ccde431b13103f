//! Small messages without an answer: a datagram if it fits, else a stream of its own; dropped rather than waited for.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use quinn::SendDatagramError;
use shoal_runtime::{clock, task};
use shoal_wire::Status;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ask::Asker;
use crate::identity::{PeerIdentity, Role};
use crate::limits::{MAX_GOSSIP_BYTES, MAX_GOSSIP_WAITING, REQUEST_READ_TIMEOUT};
use crate::link::{Connection, RecvStream};
use crate::metrics::{Gossip, NetMetrics, Refusal};
use crate::service::Service;

/// Sends gossip.
pub(crate) struct Gossiper {
    asker: Arc<Asker>,
    runtime: Handle,
    waiting: Arc<Semaphore>,
}

impl Gossiper {
    pub(crate) fn new(asker: Arc<Asker>, runtime: Handle) -> Gossiper {
        Gossiper { asker, runtime, waiting: Arc::new(Semaphore::new(MAX_GOSSIP_WAITING)) }
    }

    /// Sends `data` to `peer` now, or after connecting, or not at all. Never blocks.
    pub(crate) fn send(&self, peer: SocketAddr, data: Bytes) {
        let metrics = &self.asker.metrics;
        if data.is_empty() || data.len() > MAX_GOSSIP_BYTES {
            tracing::warn!(%peer, bytes = data.len(), max = MAX_GOSSIP_BYTES, "gossip of this size is never sent");
            return metrics.gossip(Gossip::Dropped);
        }
        if let Some(connection) = self.asker.pool.ready(peer)
            && send_datagram(&connection, &data)
        {
            return metrics.gossip(Gossip::SentDatagram);
        }
        match self.waiting.clone().try_acquire_owned() {
            Ok(permit) => {
                let sending = send_later(self.asker.clone(), peer, data, permit);
                task::spawn_on(&self.runtime, "net-gossip-send", sending);
            }
            Err(_) => metrics.gossip(Gossip::Dropped),
        }
    }
}

/// True if `data` left as a datagram; false if it is too large for one.
fn send_datagram(connection: &Connection, data: &Bytes) -> bool {
    let fits = connection.max_datagram_size().is_some_and(|max| data.len() <= max);
    match fits.then(|| connection.send_datagram(data.clone())) {
        Some(Ok(())) => true,
        // The path's size may have shrunk since, and a lost connection is for the slow way to find out.
        Some(Err(
            SendDatagramError::TooLarge
            | SendDatagramError::UnsupportedByPeer
            | SendDatagramError::Disabled
            | SendDatagramError::ConnectionLost(_),
        ))
        | None => false,
    }
}

async fn send_later(asker: Arc<Asker>, peer: SocketAddr, data: Bytes, _permit: OwnedSemaphorePermit) {
    let sending = async {
        let connection = asker.pool.lease(peer).await.ok()?.connection;
        if send_datagram(&connection, &data) {
            return Some(Gossip::SentDatagram);
        }
        let mut stream = connection.open_uni().await.ok()?;
        stream.write_chunk(data).await.ok()?;
        stream.finish().ok()?;
        Some(Gossip::SentStream)
    };
    let sent = clock::timeout(asker.answer_timeout, sending).await.ok().flatten();
    asker.metrics.gossip(sent.unwrap_or(Gossip::Dropped));
}

/// Takes the gossip of one connection until it ends.
pub(crate) async fn receive(
    connection: Connection,
    peer: Arc<PeerIdentity>,
    service: Arc<dyn Service>,
    metrics: Arc<NetMetrics>,
) {
    loop {
        tokio::select! {
            biased;
            datagram = connection.read_datagram() => match datagram {
                // An empty one only wants to be acknowledged.
                Ok(data) if data.is_empty() => {}
                Ok(data) => deliver(&peer, data, service.as_ref(), &metrics),
                Err(_) => return,
            },
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    let (peer, service, metrics) = (peer.clone(), service.clone(), metrics.clone());
                    task::spawn("net-gossip-read", read_stream(stream, peer, service, metrics));
                }
                Err(_) => return,
            },
        }
    }
}

/// Streams at once are bounded by the connection's own limit.
async fn read_stream(
    mut stream: RecvStream,
    peer: Arc<PeerIdentity>,
    service: Arc<dyn Service>,
    metrics: Arc<NetMetrics>,
) {
    if peer.role != Role::Node {
        // Fails only if the stream has ended.
        let _ = stream.stop(Status::Denied.reset_code());
        return metrics.refused(Refusal::GossipFromClient);
    }
    match clock::timeout(REQUEST_READ_TIMEOUT, stream.read_to_end(MAX_GOSSIP_BYTES)).await {
        Ok(Ok(data)) => deliver(&peer, data.into(), service.as_ref(), &metrics),
        Ok(Err(_)) | Err(_) => metrics.gossip(Gossip::Dropped),
    }
}

fn deliver(peer: &PeerIdentity, data: Bytes, service: &dyn Service, metrics: &NetMetrics) {
    match peer.role {
        Role::Node => {
            metrics.gossip(Gossip::Received);
            service.gossip(peer, data);
        }
        Role::Client => metrics.refused(Refusal::GossipFromClient),
    }
}
