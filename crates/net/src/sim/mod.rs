//! A network in this process, for simulations: hosts at made-up addresses, connections and streams with latency, loss and every fault
//! a network and its hosts have, all of it decided by the simulation's seed.
//!
//! It lies below [`crate::Endpoint`] where the QUIC library otherwise does, so that the pool, requests, answers and gossip above are
//! the real ones. What it leaves out: TLS and certificates (whoever is on the network belongs to the group), congestion, and packets
//! (a stream's bytes travel as they were written, and a lost packet is a delay).

mod connection;
mod core;
mod host;
mod stream;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use self::connection::SimConnection;
use self::host::Hosts;
pub(crate) use self::host::SimHost;
pub(crate) use self::stream::{SimRecv, SimSend};
use self::wire::Wire;
pub use self::wire::{NetConfig, Traffic};
use crate::error::NetError;
use crate::identity::PeerIdentity;

/// A simulated network; clones share it.
#[derive(Clone)]
pub struct SimNet(Hosts);

impl SimNet {
    /// A network without hosts, driven by the tokio runtime this is called in, whose time must be paused. Call it in a
    /// [`shoal_runtime::simulation::Simulation`], whose seed then decides what it does.
    pub fn new(config: NetConfig) -> SimNet {
        SimNet(Hosts::new(Wire::new(config)))
    }

    pub(crate) fn bind(&self, addr: SocketAddr, identity: PeerIdentity) -> Result<SimHost, NetError> {
        self.0.bind(addr, identity)
    }

    /// The process at `addr` is gone from one moment to the next: nobody is told, and another may take the address.
    pub fn crash(&self, addr: SocketAddr) {
        self.0.crash(addr);
    }

    /// The process at `addr` stands still: what is sent to it waits, or is lost where too much does. Freeze its tasks too, with
    /// [`shoal_runtime::simulation::Process`].
    pub fn freeze(&self, addr: SocketAddr) {
        self.0.wire.freeze(addr, true);
        self.0.reconsider();
    }

    /// The process at `addr` goes on.
    pub fn thaw(&self, addr: SocketAddr) {
        self.0.wire.freeze(addr, false);
        self.0.reconsider();
    }

    /// Cuts `far` off from everyone else; those of `far` hear each other.
    pub fn part(&self, far: &[SocketAddr]) {
        far.iter().for_each(|addr| self.0.wire.part(*addr, true));
        self.0.reconsider();
    }

    /// Nothing that `from` sends reaches `to`, while the other direction works.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.0.wire.cut(from, to);
        self.0.reconsider();
    }

    /// Mends everything that [`SimNet::part`] and [`SimNet::cut`] broke.
    pub fn heal(&self) {
        self.0.wire.heal();
        self.0.reconsider();
    }

    /// Everything to and from `addr` takes `delay` longer, and passes at `rate` bytes a second if there is one.
    pub fn slow(&self, addr: SocketAddr, delay: Duration, rate: Option<u64>) {
        self.0.wire.slow(addr, delay, rate);
    }

    /// Loses this share of packets from now on.
    pub fn lose(&self, share: f64) {
        self.0.wire.lose(share);
    }

    /// What the host at `addr` has sent so far, in all its lives.
    pub fn sent(&self, addr: SocketAddr) -> Traffic {
        self.0.wire.sent(addr)
    }

    /// A fingerprint of every message so far: when it was sent, from where to where, and what it held. Two runs of one seed have the
    /// same.
    pub fn trace(&self) -> u64 {
        self.0.wire.trace()
    }
}

impl std::fmt::Debug for SimNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimNet({:016x})", self.trace())
    }
}
