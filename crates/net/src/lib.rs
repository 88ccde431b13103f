//! Peers over QUIC: identity, connections, requests and gossip.
//!
//! Layer 2. One UDP socket carries everything, always under mutual TLS 1.3; role and group are in the certificate. Knows no
//! ring, no store and no cache: it moves messages of `shoal_wire`.

mod body;
pub mod ca;
mod credentials;
mod endpoint;
mod error;
mod identity;
mod service;
mod sink;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use body::{Body, GetReply, ResponseStream};
pub use credentials::Credentials;
pub use endpoint::{Endpoint, EndpointConfig, MtuChoice};
pub use error::NetError;
pub use identity::{MAX_NAME_BYTES, ParseIdentityError, PeerIdentity, Role};
pub use service::Service;
pub use sink::{GetSink, ResponseSink};
