//! A process' place on a simulated network: an address that takes and makes connections.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use quinn::{ConnectionError, VarInt};
use tokio::sync::mpsc;

use super::connection::SimConnection;
use super::core::{Content, Core, Kind};
use super::wire::{Care, Wire};
use crate::error::NetError;
use crate::failure;
use crate::identity::PeerIdentity;

/// Every connection and everyone who takes some; clones share it.
#[derive(Clone)]
pub(super) struct Hosts {
    pub(super) wire: Wire,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    listeners: BTreeMap<SocketAddr, mpsc::UnboundedSender<SimConnection>>,
    connections: BTreeMap<u64, Weak<Core>>,
    /// Connections that are over are forgotten when there are so many.
    sweep_at: usize,
}

/// Fewest connections that are worth a look for ended ones.
const SWEEP_MIN: usize = 256;
/// Bytes of a handshake's first packet.
const HELLO_BYTES: usize = 1200;
/// Bytes of its answer: the certificates.
const WELCOME_BYTES: usize = 3000;

impl Hosts {
    pub(super) fn new(wire: Wire) -> Hosts {
        Hosts { wire, shared: Arc::default() }
    }

    /// Takes `addr` for a new process. Errors: `Conflict` if another one has it.
    pub(super) fn bind(&self, addr: SocketAddr, identity: PeerIdentity) -> Result<SimHost, NetError> {
        if self.wire.process(addr).is_some() {
            let source = Arc::new(std::io::Error::from(std::io::ErrorKind::AddrInUse));
            return Err(NetError::Listen { addr, source });
        }
        let process = self.wire.number();
        self.wire.occupy(addr, Some(process));
        self.reconsider();
        Ok(SimHost { hosts: self.clone(), addr, process, identity })
    }

    /// Ends the process at `addr` without a word.
    pub(super) fn crash(&self, addr: SocketAddr) {
        let Some(process) = self.wire.process(addr) else { return };
        self.shared.lock().listeners.remove(&addr);
        for (core, end) in self.ends_of(process) {
            core.end(end, ConnectionError::LocallyClosed);
        }
        self.wire.occupy(addr, None);
        self.reconsider();
    }

    /// Has every connection look at the network again, after any change of it.
    pub(super) fn reconsider(&self) {
        self.connections().iter().for_each(Core::reconsider);
    }

    fn connections(&self) -> Vec<Arc<Core>> {
        self.shared.lock().connections.values().filter_map(Weak::upgrade).collect()
    }

    fn ends_of(&self, process: u64) -> Vec<(Arc<Core>, usize)> {
        let mut ends = Vec::new();
        for core in self.connections() {
            let mine = [0, 1].into_iter().filter(|&end| core.state.lock().ends[end].process == Some(process));
            ends.extend(mine.map(|end| (core.clone(), end)));
        }
        ends
    }

    fn add(&self, core: &Arc<Core>) {
        let mut shared = self.shared.lock();
        if shared.connections.len() >= shared.sweep_at.max(SWEEP_MIN) {
            shared.connections.retain(|_, core| core.upgrade().is_some_and(|core| !core.is_over()));
            shared.sweep_at = 2 * shared.connections.len();
        }
        shared.connections.insert(core.number, Arc::downgrade(core));
    }

    /// A first packet has come to where `core` leads.
    fn greet(&self, core: &Arc<Core>) {
        let addr = core.addrs[1];
        let Some(listener) = self.shared.lock().listeners.get(&addr).cloned() else { return };
        core.state.lock().ends[1].process = self.wire.process(addr);
        // Fails only if the process is ending, and then it says nothing.
        if listener.send(SimConnection::new(core.clone(), 1)).is_ok() {
            let content = Content { padding: WELCOME_BYTES, ..Content::of(Kind::Welcome) };
            core.send(1, Care::Repeat, content, |core| {
                core.state.lock().welcomed = true;
                core.tell(0);
            });
        }
    }
}

/// A process' socket.
pub(crate) struct SimHost {
    hosts: Hosts,
    addr: SocketAddr,
    process: u64,
    identity: PeerIdentity,
}

impl SimHost {
    /// False once it was closed or has crashed.
    fn is_open(&self) -> bool {
        self.hosts.wire.process(self.addr) == Some(self.process)
    }

    /// A connection to `peer`. Waits for as long as nothing answers.
    pub(crate) async fn connect(&self, peer: SocketAddr) -> Result<SimConnection, NetError> {
        if !self.is_open() {
            return Err(NetError::Closed);
        }
        let wire = &self.hosts.wire;
        let core = Arc::new(Core::new(wire.number(), [self.addr, peer], self.identity.clone(), wire.clone()));
        core.state.lock().ends[0].process = Some(self.process);
        self.hosts.add(&core);
        let connection = SimConnection::new(core.clone(), 0);
        let content = Content { padding: HELLO_BYTES, ..Content::of(Kind::Hello) };
        let hosts = self.hosts.clone();
        core.send(0, Care::Repeat, content, move |core| hosts.greet(core));
        let made = core.when(0, |state| match &state.ends[0].closed {
            Some(error) => Some(Err(failure::connection(peer, error.clone()))),
            None => state.welcomed.then_some(Ok(())),
        });
        made.await?;
        Ok(connection)
    }

    /// The connections peers make from now on. They end when the process does.
    pub(crate) fn listen(&self) -> mpsc::UnboundedReceiver<SimConnection> {
        let (sender, incoming) = mpsc::unbounded_channel();
        if self.is_open() {
            self.hosts.shared.lock().listeners.insert(self.addr, sender);
        }
        incoming
    }

    /// Ends every connection, telling the peers, and lets the address go.
    pub(crate) fn close(&self) {
        if !self.is_open() {
            return;
        }
        self.hosts.shared.lock().listeners.remove(&self.addr);
        for (core, end) in self.hosts.ends_of(self.process) {
            core.close(end, VarInt::from_u32(0), b"closing");
        }
        self.hosts.wire.occupy(self.addr, None);
        self.hosts.reconsider();
    }

    /// Ends as a crash would.
    pub(crate) fn crash(&self) {
        if self.is_open() {
            self.hosts.crash(self.addr);
        }
    }
}
