//! What a process that answers implements.

use async_trait::async_trait;
use bytes::Bytes;
use shoal_wire::{GetRequest, Request};

use crate::identity::PeerIdentity;
use crate::sink::{GetSink, ResponseSink};

/// Answers peers. Every method runs on the endpoint's own thread: it must not block, and moves long work elsewhere.
///
/// `peer` is authenticated: its certificate is of our group. A future is dropped when the peer stops wanting the answer, when
/// the connection ends and when the request's deadline has passed.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers a request for bytes: one head, then as many bytes as it promised. Returning earlier, or panicking, breaks the
    /// stream off, and the caller gets `Unavailable`; it never gets short data.
    async fn get(&self, peer: &PeerIdentity, request: GetRequest, out: &mut GetSink);

    /// Answers a control request with one or more responses.
    async fn call(&self, peer: &PeerIdentity, request: Request, out: &mut ResponseSink);

    /// Takes a gossip message. Only called for peers of role [`crate::Role::Node`].
    fn gossip(&self, peer: &PeerIdentity, data: Bytes);
}
