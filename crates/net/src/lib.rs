//! Peers over QUIC: identity, connections, requests and gossip.
//!
//! Layer 2. One UDP socket carries everything, always under mutual TLS 1.3; role and group are in the certificate. Knows no
//! ring, no store and no cache: it moves messages of `shoal_wire` between an [`Endpoint`] and the [`Service`] of another.
//! Everything is bounded (see `limits`), and a dead peer costs its callers almost nothing (see `pool`).

mod admission;
mod ask;
mod authority;
mod body;
pub mod ca;
mod chunks;
mod credentials;
mod crypto;
mod endpoint;
mod error;
mod failure;
mod gossip;
mod handoff;
mod identity;
mod inbound;
mod limits;
mod link;
mod loopback;
mod many;
mod metrics;
mod pool;
mod renewal;
mod serve;
mod service;
#[cfg(feature = "testing")]
pub mod sim;
mod sink;
mod socket;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod thread;
mod tls;
mod tracker;
mod transport;
mod wait;
mod x509;

pub use body::{Body, GetReply, ResponseStream};
pub use credentials::Credentials;
pub use endpoint::{Endpoint, EndpointConfig, WeakEndpoint};
pub use error::NetError;
pub use identity::{MAX_NAME_BYTES, ParseIdentityError, PeerIdentity, Role};
pub use many::ManyReply;
pub use renewal::{LOOK_EVERY, Renewal};
pub use service::Service;
pub use sink::{GetSink, ResponseSink};
pub use transport::MtuChoice;
