//! The thread that drives one endpoint's socket and connections.
//!
//! A runtime of its own with a single thread: measured 2.4 times as many small requests as on a shared multi-thread runtime.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use aws_lc_rs::hmac;
use quinn::{ConnectionIdGenerator, Runtime, TokioRuntime};
use shoal_runtime::{clock, rng, task};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use crate::credentials::Credentials;
use crate::crypto;
use crate::error::NetError;
use crate::limits::GOODBYE_TIMEOUT;
use crate::socket::{self, BoundedSocket};
use crate::transport::Transports;

/// A running endpoint thread.
pub(crate) struct Driver {
    pub quinn: quinn::Endpoint,
    pub runtime: Handle,
    pub local: SocketAddr,
    /// Ends the thread; so does dropping it, as [`Stop::Goodbye`].
    pub stop: oneshot::Sender<Stop>,
    /// True, or closed, once the thread has ended.
    pub ended: watch::Receiver<bool>,
}

/// How a thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Once peers have heard of the endpoint's close, or had the time to.
    Goodbye,
    /// At once and without a word, as in a crash.
    #[cfg_attr(not(any(test, feature = "testing")), expect(dead_code, reason = "only tests crash on purpose"))]
    Abrupt,
}

type Bound = (quinn::Endpoint, Handle, SocketAddr);

/// Binds `listen` and starts the thread. Callable inside and outside of a runtime; blocks for as long as that takes (the first
/// in a process 60 ms for the random generator's seed).
pub(crate) fn start(
    listen: SocketAddr,
    credentials: &Credentials,
    transports: &Transports,
) -> Result<Driver, NetError> {
    let (segments, largest_received) = (transports.segments(), transports.largest_received());
    let key = reset_secret(credentials);
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = watch::channel(false);
    let (report, bound) = mpsc::sync_channel(1);
    task::thread("shoal-net", move || {
        crypto::warm_up();
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(report.send(Err(error))),
        };
        runtime.block_on(async move {
            match bind(listen, segments, largest_received, &key) {
                Ok((quinn, local)) => {
                    let sent = report.send(Ok((quinn.clone(), Handle::current(), local)));
                    drop(report);
                    if sent.is_ok() && stopped.await.unwrap_or(Stop::Goodbye) == Stop::Goodbye {
                        // A peer that does not acknowledge finds out by itself.
                        let _ = clock::timeout(GOODBYE_TIMEOUT, quinn.wait_idle()).await;
                    }
                }
                Err(error) => drop(report.send(Err(error))),
            }
        });
        drop(runtime);
        end.send_replace(true);
    });
    let bound = bound.recv().unwrap_or_else(|_| Err(std::io::Error::other("the network thread ended at once")));
    let (quinn, runtime, local): Bound =
        bound.map_err(|source| NetError::Listen { addr: listen, source: Arc::new(source) })?;
    Ok(Driver { quinn, runtime, local, stop, ended })
}

fn bind(
    listen: SocketAddr,
    segments: usize,
    largest_received: u16,
    secret: &hmac::Key,
) -> std::io::Result<(quinn::Endpoint, SocketAddr)> {
    let socket = socket::bind(listen)?;
    let local = socket.local_addr()?;
    let mut config = quinn::EndpointConfig::new(Arc::new(reset_key(secret, local)));
    config.cid_generator(|| Box::new(RandomIds));
    config.max_udp_payload_size(largest_received).map_err(std::io::Error::other)?;
    let runtime = Arc::new(TokioRuntime);
    let socket = BoundedSocket::new(runtime.wrap_udp_socket(socket)?, segments, largest_received);
    let quinn = quinn::Endpoint::new_with_abstract_socket(config, None, Arc::new(socket), runtime)?;
    Ok((quinn, local))
}

fn reset_secret(credentials: &Credentials) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, credentials.key().secret_der())
}

/// The key of stateless resets (RFC 9000 section 10.3): the same after a restart at the same address, so that peers learn at
/// once that their connections to the earlier process are gone instead of after the idle timeout. Of this address only, so
/// that no other process with these credentials can be made to reset them.
fn reset_key(secret: &hmac::Key, local: SocketAddr) -> hmac::Key {
    let label = format!("shoal stateless reset {local}");
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(secret, label.as_bytes()).as_ref())
}

/// Connection ids of 8 random bytes. The library's default ignores ids of an earlier process instead of resetting them.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let mut id = [0; 8];
        rng::fill(&mut id);
        quinn::ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}
