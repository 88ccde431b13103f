//! One UDP socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shoal_runtime::metrics::Registry;
use shoal_wire::{GetRequest, Request, Response};

use crate::body::{GetReply, ResponseStream};
use crate::credentials::Credentials;
use crate::error::NetError;
use crate::service::Service;

/// How large packets may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtuChoice {
    /// Peers on loopback: up to 65507 bytes; others: up to 1452.
    #[default]
    Auto,
    /// UDP payloads up to this many bytes, for networks with jumbo frames: 8952 for an MTU of 9000.
    Bytes(u16),
}

/// Configuration of an [`Endpoint`].
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Who this process is.
    pub credentials: Credentials,
    /// How large packets may be.
    pub mtu: MtuChoice,
    /// Longest wait for a connection. Default 2 s.
    pub connect_timeout: Duration,
    /// Longest wait for the head of an answer when the request has no deadline. Default 10 s.
    pub answer_timeout: Duration,
    /// Longest wait for the next bytes of a body. Default 10 s.
    pub body_idle_timeout: Duration,
}

impl EndpointConfig {
    /// The defaults.
    pub fn new(listen: SocketAddr, credentials: Credentials) -> EndpointConfig {
        EndpointConfig {
            listen,
            credentials,
            mtu: MtuChoice::Auto,
            connect_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(10),
        }
    }
}

/// One UDP socket that asks and answers.
#[derive(Debug, Clone)]
pub struct Endpoint(());

impl Endpoint {
    /// Binds.
    pub fn bind(_config: EndpointConfig, _registry: &Registry) -> Result<Endpoint, NetError> {
        unimplemented!()
    }
    /// Local address.
    pub fn local_addr(&self) -> SocketAddr {
        unimplemented!()
    }
    /// Answers peers with `service` from now on; once.
    pub fn serve(&self, _service: Arc<dyn Service>) {
        unimplemented!()
    }
    /// Asks `peer` for bytes.
    pub async fn get(&self, _peer: SocketAddr, _request: &GetRequest) -> Result<GetReply, NetError> {
        unimplemented!()
    }
    /// Asks `peer` something with one answer.
    pub async fn call(&self, _peer: SocketAddr, _request: &Request, _timeout: Duration) -> Result<Response, NetError> {
        unimplemented!()
    }
    /// Asks `peer` something with several answers.
    pub async fn call_stream(&self, _peer: SocketAddr, _request: &Request) -> Result<ResponseStream, NetError> {
        unimplemented!()
    }
    /// Sends gossip.
    pub fn gossip(&self, _peer: SocketAddr, _data: Bytes) {
        unimplemented!()
    }
    /// Drops the connection to `peer`.
    pub fn forget(&self, _peer: SocketAddr) {
        unimplemented!()
    }
    /// Closes.
    pub async fn close(&self) {
        unimplemented!()
    }
    /// The endpoint's own runtime.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        unimplemented!()
    }
}
